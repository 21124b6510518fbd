// The integer runtime: QuantizedGraph -> Program (immutable, shareable) -> Session (scratch memory).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "nibble/quantize.h"
#include "nibble/tensor.h"

namespace nibble {

struct ProgramOptions {
  int threads = 1;
};

// One step's time and place, for `nibble benchmark --per-op`.
struct StepProfile {
  std::string node;
  std::string op_type;
  std::string kernel;  // "qgemm_u8s8s32_14x32c4_avx512vnni"; "float:<op>" for a float island
  double microseconds = 0;
  std::int64_t macs = 0;
};

// A lowered network: packed weights and kernels chosen by name. Thread-safe; many Sessions share one.
class Program {
 public:
  Program(Program&&) noexcept;
  Program& operator=(Program&&) noexcept;
  ~Program();
  // Node, kernel, tile, bytes, one line a step.
  std::string dump() const;
  const std::vector<std::string>& input_names() const;
  const std::vector<std::string>& output_names() const;
  const std::vector<TensorType>& input_types() const;

  struct Impl;
  explicit Program(std::shared_ptr<const Impl> impl);
  const std::shared_ptr<const Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

// Chooses layouts and kernels, packs weights. Throws Error{kUnsupported} naming a node that cannot run.
Program lower(QuantizedGraph model);

// Scratch memory and threads for one stream of calls; not for use by two threads at once. The same input gives the same bits at any thread count,
// batch size and ISA.
class Session {
 public:
  explicit Session(const Program& program, const ProgramOptions& options = {});
  Session(Session&&) noexcept;
  ~Session();
  // Inputs in the graph's order; shapes may change between calls (the plan is remade). Throws Error{kInvalidData} on a wrong shape or type.
  std::vector<Tensor> run(std::span<const Tensor> inputs);
  // As run(), with every value that exists in the Program handed to `observe` in its ONNX layout (NCHW) and its own integer type.
  std::vector<Tensor> run(std::span<const Tensor> inputs, const ValueCallback& observe);
  // Times of each step of the last run with profiling on.
  void set_profiling(bool on);
  const std::vector<StepProfile>& profile() const;
  std::int64_t arena_bytes() const;    // of the last run
  std::int64_t scratch_bytes() const;  // of the kernels, all threads
  std::int64_t weight_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The instruction set that kernels are chosen for: "reference", "avx2", "avxvnni", "avx512vnni". NIBBLE_FORCE_ISA overrides the processor's best.
std::string active_isa();
// One row a kernel, for `nibble list kernels`.
struct KernelInfo {
  std::string name;
  std::string family;
  std::string isa;
  bool usable = false;  // on this processor
};
std::vector<KernelInfo> list_kernels();

}  // namespace nibble
