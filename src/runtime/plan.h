// Plan: a Program on concrete input shapes. Every value has its place, every step its kernel and its memory; running it allocates nothing
// but the tensors of float islands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "runtime/program.h"

namespace nibble {

// Physical order of a stored integer value of rank >= 3. kChannelsLast: [N, spatial..., C].
enum class Layout : std::uint8_t { kPlain, kChannelsLast };

// A region of the arena; alive from step `first` to step `last`.
struct Buffer {
  std::int64_t bytes = 0;
  std::int64_t offset = 0;
  int first = -1, last = -1;
};

// Where an operand is: in the arena, or in memory that the plan or the program owns.
struct Ref {
  std::int32_t buffer = -1;
  const std::uint8_t* constant = nullptr;
  std::int64_t offset = 0;  // into the buffer
  bool operator==(const Ref&) const = default;
};

// Stored integers as rows along the last physical axis (pixels of channels), `ld` bytes apart: a part of a joined or sliced value lies
// inside of it.
struct Rows {
  Ref ref;
  std::int64_t ld = 0;
};

// What a step sees while it runs.
struct RunContext {
  std::byte* arena = nullptr;
  const std::vector<Buffer>* buffers = nullptr;
  std::vector<Tensor>* tensors = nullptr;  // by ValueId: float and plain-integer values
  ThreadPool* pool = nullptr;
  std::byte* scratch = nullptr;  // scratch_stride bytes a thread
  std::int64_t scratch_stride = 0;

  std::uint8_t* ptr(const Ref& ref) const {
    return reinterpret_cast<std::uint8_t*>(arena + (*buffers)[static_cast<std::size_t>(ref.buffer)].offset + ref.offset);
  }
  const std::uint8_t* in(const Ref& ref) const { return ref.constant != nullptr ? ref.constant : ptr(ref); }
  std::span<std::byte> scratch_of(int thread) const {
    return {scratch + static_cast<std::int64_t>(thread) * scratch_stride, static_cast<std::size_t>(scratch_stride)};
  }
};

struct Step {
  std::string node;
  std::string op_type;
  std::string kernel;
  std::int64_t macs = 0;
  std::vector<ValueId> produces;
  std::vector<ValueId> frees;  // tensors that nobody reads afterwards
  std::function<void(const RunContext&)> run;
};

// Where a value can be found after its step.
struct Place {
  Ref ref;  // of stored integers
  Layout layout = Layout::kPlain;
  Shape shape;          // ONNX order
  std::int64_t ld = 0;  // between rows along the last physical axis; at least that axis' extent, and equal to it where the value is dense
  bool stored = false;  // false: a Tensor in RunContext::tensors
};

struct Plan {
  std::vector<Place> places;  // by ValueId
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  std::int64_t arena_bytes = 0;
  std::int64_t scratch_bytes = 0;  // a thread
  std::vector<std::shared_ptr<const void>> owned;
};

// kEvery: each value of the model exists after its step, for an observer; else a sum may be part of the step that makes its operand.
enum class Values : std::uint8_t { kNeeded, kEvery };
struct PlanOptions {
  int threads = 1;  // only decides how loops are cut
  Values values = Values::kNeeded;
};
// Throws Error{kUnsupported} or Error{kInvalidModel} naming a node that cannot run on these shapes.
std::unique_ptr<const Plan> make_plan(const Program::Impl& program, std::span<const TensorType> input_types, const PlanOptions& options);
std::string dump_plan(const Plan& plan);

}  // namespace nibble
