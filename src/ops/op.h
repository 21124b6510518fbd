// OpDef: everything nibble knows of one operator. One file an op (or a family that shares one loop); one row in op_table.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "nibble/graph.h"
#include "nibble/interpreter.h"

namespace nibble {

// Shape inference of one node. Inputs left out are nullptr. `constants[i]` is set where the input's value is known.
// infer() fills `outputs` (resized to the node's outputs beforehand) as far as it can: an unknown stays unknown. Wrong ranks, shapes, types or
// attributes throw Error{kInvalidModel}; use fail_node() (ops/fail.h), which names the node.
struct InferContext {
  const Node& node;
  int opset;  // of the node's domain
  std::span<const TensorType* const> inputs;
  std::span<const Tensor* const> constants;
  std::vector<TensorType> outputs;
  // Ops whose value follows from shapes alone (Shape, Size) put it here; the driver evaluates all other ops of known inputs by itself.
  std::vector<std::optional<Tensor>> constant_outputs;

  bool has_input(std::size_t i) const { return i < inputs.size() && inputs[i] != nullptr; }
};

// Whatever a fast path keeps between runs of one node (reordered weights, primitives).
class OpState {
 public:
  virtual ~OpState() = default;
};

// Evaluation of one node. Inputs left out are nullptr. Types and ranks may be wrong where the model is: check, and throw with fail_node().
struct EvalContext {
  const Node& node;
  int opset;
  std::span<const Tensor* const> inputs;
  ExecMode mode = ExecMode::kFixedOrder;
  ThreadPool* pool = nullptr;             // may be null: one thread
  std::unique_ptr<OpState>* state = nullptr;  // may be null: nothing is kept
  std::span<const bool> constant_inputs = {};  // which inputs never change between runs (their reorderings may be kept in `state`)

  bool has_input(std::size_t i) const { return i < inputs.size() && inputs[i] != nullptr; }
  const Tensor& input(std::size_t i) const { return *inputs[i]; }
};

// How quantize() treats an op (src/quantize has one row of code a rule, never an op).
enum class QuantRule : std::uint8_t {
  kFloat,        // no integer form: runs in float between Dequantize and Quantize
  kCompute,      // Conv, ConvTranspose, Gemm, MatMul: integer weights, wide accumulator, bias, one requantization
  kArithmetic,   // Add, Sub, Mul, average pools, ReduceMean ...: integers with their own parameters in and out, one rounding
  kTied,         // MaxPool, Concat, Reshape, Min with a constant ...: output shares the parameters of its (first n) data inputs, no arithmetic
  kUnaryTable,   // element-wise function of one 8-bit input: a 256-entry table
  kNotReal,      // works on shapes, indices or booleans: quantization does not concern it
};

struct OpDef {
  std::string_view name;
  std::string_view domain = "";
  int min_inputs = 1, max_inputs = 1;    // max < 0: variadic
  int min_outputs = 1, max_outputs = 1;  // max < 0: variadic
  void (*infer)(InferContext& ctx) = nullptr;
  std::vector<Tensor> (*evaluate)(const EvalContext& ctx) = nullptr;
  QuantRule rule = QuantRule::kFloat;
  std::string_view note = "";  // for kFloat: why there is no integer form; printed in reports
  // Optional channels-last fast path of 4-D float ops (inputs[0] and the output are [N,H,W,C]; everything else as ONNX has it).
  std::vector<Tensor> (*evaluate_nhwc)(const EvalContext& ctx) = nullptr;
  // Element-wise: the same function of every element (broadcasting), so any common permutation of the axes may be fed in.
  bool elementwise = false;
};

// nullptr if nibble does not know the op. domain "ai.onnx" is "".
const OpDef* find_op(std::string_view domain, std::string_view name);
std::span<const OpDef* const> op_table();

// The types of all values of a graph, and the values of those that follow from constants and shapes alone.
// `input_types` overrides the graph inputs' types (concrete shapes); empty: as declared. Nodes with unknown ops give unknown types.
// Throws Error{kInvalidModel} naming the node where a model contradicts itself.
struct InferredGraph {
  std::vector<TensorType> types;                   // by ValueId
  std::vector<std::optional<Tensor>> constants;    // by ValueId: initializers are not repeated here
};
InferredGraph infer_types(const Graph& graph, std::span<const TensorType> input_types = {});

// Checks arity and evaluates one node; every error names the node.
std::vector<Tensor> evaluate_node(const EvalContext& ctx);

}  // namespace nibble
