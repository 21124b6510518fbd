// The float interpreter: runs a Graph as ONNX defines it. For calibration, comparison and the float islands of quantized models.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "nibble/graph.h"
#include "nibble/tensor.h"

namespace nibble {

// kFast: oneDNN for convolutions and matrix products. kFixedOrder: plain loops of ours whose bits do not depend on threads, batch or ISA.
enum class ExecMode { kFast, kFixedOrder };

struct InterpreterOptions {
  int threads = 1;
  ExecMode mode = ExecMode::kFast;
};

// Prepared once (weights reordered), run often. Not for use by two threads at once.
class Interpreter {
 public:
  // The graph must outlive the interpreter. Throws Error{kUnsupported} naming the first node whose op nibble cannot run.
  explicit Interpreter(const Graph& graph, const InterpreterOptions& options = {});
  Interpreter(Interpreter&&) noexcept;
  ~Interpreter();
  // Inputs in the order of graph.inputs(); gives the outputs in the order of graph.outputs(). Throws Error{kInvalidData} on a wrong input type or
  // shape, Error{kInvalidModel} naming the node for anything that goes wrong inside.
  std::vector<Tensor> run(std::span<const Tensor> inputs);
  // As run(); `observe` gets every non-constant value (graph inputs first) as it is made, in plain row-major layout.
  using Callback = std::function<void(ValueId, const Tensor&)>;
  std::vector<Tensor> run(std::span<const Tensor> inputs, const Callback& observe);
  // As run(); `microseconds` gets the time of each node by NodeId, what it took to bring its inputs into the order that it wants included.
  std::vector<Tensor> run_timed(std::span<const Tensor> inputs, std::vector<double>& microseconds);

  // What if? keep() is run() that holds on to every value; replay() is that run with a change, and computes only the nodes that depend on it.
  struct Change {
    std::map<ValueId, Tensor> constants;  // in the place of these initializers; same types and shapes
    std::vector<bool> edited;             // by ValueId: float values that `edit` is to have as they are made; empty: none
    // Changes a value's elements in place. They come in any order (a 4-D value may be channels-last), so the change is the same for each.
    std::function<void(ValueId, std::span<float>)> edit;
  };
  std::vector<Tensor> keep(std::span<const Tensor> inputs);
  // `observe`, if set, gets each value that differs from the kept run's, beside the kept one, both in the same order of elements.
  using Difference = std::function<void(ValueId, std::span<const float> kept, std::span<const float> found)>;
  std::vector<Tensor> replay(const Change& change, const Difference& observe = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// One row an op, for `nibble list ops`.
struct OpInfo {
  std::string domain;
  std::string name;
  bool integer = false;  // has an integer form
  std::string note;
};
std::vector<OpInfo> list_ops();

}  // namespace nibble
