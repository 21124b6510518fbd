// infer_types(): one walk in topological order. Values that follow from constants and shapes alone are computed on the way, because the
// shapes of Reshape, Resize and their like depend on them; that is done for small tensors only, so that a model cannot make inference slow
// or large.
#include <algorithm>
#include <cstdint>

#include "ops/evaluate.h"
#include "ops/op.h"

namespace nibble {
namespace {

constexpr std::int64_t kEvaluatedElements = 16384;

std::size_t index(ValueId id) { return static_cast<std::size_t>(id); }

bool small(const TensorType& type) {
  if (!type.fully_known()) return false;
  std::int64_t count = 1;
  for (const Dim& dim : type.dims) {
    if (dim.size > kEvaluatedElements) return false;
    count *= dim.size;
    if (count > kEvaluatedElements) return false;
  }
  return true;
}

// What a model file declares about a value completes what was inferred; it never overrules a known size (exporters leave stale ones).
void merge_declared(TensorType& type, const TensorType& declared, const Node& node, std::string_view value, bool trust_sizes) {
  if (type.dtype == DataType::kUndefined)
    type.dtype = declared.dtype;
  else if (declared.dtype != DataType::kUndefined && declared.dtype != type.dtype)
    fail_node(node, "gives {} for output '{}', which the model declares as {}", to_string(type.dtype), value, to_string(declared.dtype));
  if (!declared.has_rank) return;
  if (!type.has_rank) {
    type.has_rank = true;
    type.dims.assign(declared.dims.size(), Dim{});
  }
  if (!trust_sizes || type.dims.size() != declared.dims.size()) return;
  for (std::size_t i = 0; i < type.dims.size(); ++i) {
    if (!type.dims[i].known() && (declared.dims[i].known() || type.dims[i].symbol.empty())) type.dims[i] = declared.dims[i];
  }
}

struct Walk {
  const Graph& graph;
  InferredGraph result;
  bool trust_sizes;  // false where the caller overrode the input shapes: declared inner sizes may not hold then

  const Tensor* constant_of(ValueId id) const {
    const Value& value = graph.value(id);
    if (value.constant) return &*value.constant;
    const auto& computed = result.constants[index(id)];
    return computed ? &*computed : nullptr;
  }

  void evaluate(const Node& node, const OpDef& op, int opset, std::span<const Tensor* const> constants,
                std::span<const TensorType> outputs) {
    std::int64_t elements = 0;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == kNoValue) continue;
      if (constants[i] == nullptr) return;
      elements += constants[i]->size();
    }
    if (op.evaluate == nullptr || elements > kEvaluatedElements) return;
    // An output of unknown size (NonZero, Unique ...) is bounded by its inputs.
    const bool bounded = std::all_of(outputs.begin(), outputs.end(), [](const TensorType& t) { return !t.fully_known() || small(t); });
    if (!bounded) return;
    std::vector<Tensor> values = evaluate_node({.node = node, .opset = opset, .inputs = constants});
    for (std::size_t i = 0; i < node.outputs.size() && i < values.size(); ++i) {
      if (node.outputs[i] != kNoValue && values[i].defined()) result.constants[index(node.outputs[i])] = std::move(values[i]);
    }
  }

  void visit(const Node& node) {
    const OpDef* op = find_op(node.domain, node.op_type);
    std::vector<TensorType> outputs(node.outputs.size());
    if (op != nullptr) {
      const int opset = graph.opset(node.domain);
      check_arity(*op, node);
      std::vector<const TensorType*> inputs(node.inputs.size(), nullptr);
      std::vector<const Tensor*> constants(node.inputs.size(), nullptr);
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        if (node.inputs[i] == kNoValue) continue;
        inputs[i] = &result.types[index(node.inputs[i])];
        constants[i] = constant_of(node.inputs[i]);
      }
      if (op->infer != nullptr) {
        InferContext ctx{
            .node = node, .opset = opset, .inputs = inputs, .constants = constants, .outputs = std::move(outputs), .constant_outputs = {}};
        ctx.constant_outputs.resize(node.outputs.size());
        naming_node(node, [&] { op->infer(ctx); });
        outputs = std::move(ctx.outputs);
        outputs.resize(node.outputs.size());
        for (std::size_t i = 0; i < node.outputs.size() && i < ctx.constant_outputs.size(); ++i) {
          if (node.outputs[i] != kNoValue) result.constants[index(node.outputs[i])] = std::move(ctx.constant_outputs[i]);
        }
      }
      evaluate(node, *op, opset, constants, outputs);
    }
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNoValue) continue;
      const std::size_t v = index(node.outputs[i]);
      if (const auto& known = result.constants[v]) outputs[i] = make_type(known->type(), known->shape());
      const Value& value = graph.values()[v];
      merge_declared(outputs[i], value.type, node, value.name, trust_sizes);
      result.types[v] = std::move(outputs[i]);
    }
  }
};

}  // namespace

InferredGraph infer_types(const Graph& graph, std::span<const TensorType> input_types) {
  Walk walk{.graph = graph, .result = {}, .trust_sizes = input_types.empty()};
  walk.result.types.resize(graph.values().size());
  walk.result.constants.resize(graph.values().size());
  for (std::size_t v = 0; v < graph.values().size(); ++v) {
    const Value& value = graph.values()[v];
    if (value.constant)
      walk.result.types[v] = make_type(value.constant->type(), value.constant->shape());
    else if (value.producer == kNoNode)
      walk.result.types[v] = value.type;
  }
  if (!input_types.empty() && input_types.size() != graph.inputs().size())
    fail(ErrorCode::kInvalidArgument, "{} input types were given for a graph of {} inputs", input_types.size(), graph.inputs().size());
  for (std::size_t i = 0; i < input_types.size(); ++i) walk.result.types[index(graph.inputs()[i])] = input_types[i];
  for (const Node& node : graph.nodes()) walk.visit(node);
  return std::move(walk.result);
}

}  // namespace nibble
