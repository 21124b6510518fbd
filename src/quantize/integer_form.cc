#include "quantize/integer_form.h"

#include <algorithm>
#include <numeric>

#include "ops/base_products.h"

namespace nibble {
namespace {

bool is_compute(std::string_view op) { return op == "Conv" || op == "ConvTranspose" || op == "Gemm" || op == "MatMul"; }

DataType type_of(std::span<const TensorType> types, ValueId id) {
  return id == kNoValue ? DataType::kUndefined : types[static_cast<std::size_t>(id)].dtype;
}

std::optional<std::string> why_not_compute(const Graph& graph, const Node& node, std::span<const TensorType> types) {
  const ValueId weights = node.input(1);
  if (node.op_type != "MatMul" && !graph.is_constant(weights)) return "its weights are computed at run time";
  if (graph.is_constant(weights) && graph.value(weights).constant->size() == 0) return "its weights are empty";
  if (node.op_type == "MatMul") {
    if (!graph.is_constant(weights)) return std::nullopt;
    if (graph.value(weights).constant->rank() < 2) return "its right side is a vector";
    return std::nullopt;
  }
  const ValueId bias = node.input(2);
  if (bias != kNoValue && !graph.is_constant(bias)) return "its bias is computed at run time";
  const Shape& shape = graph.value(weights).constant->shape();
  if (node.op_type == "Gemm") {
    if (node.get_int("transA", 0) != 0) return "it transposes its left side (transA)";
    if (node.get_float("alpha", 1.0F) != 1.0F) return "its alpha is not 1";
    if (bias != kNoValue && node.get_float("beta", 1.0F) != 1.0F) return "its beta is not 1";
    if (shape.size() != 2) return "its right side is not a matrix";
    if (bias != kNoValue) {
      const std::int64_t columns = shape[node.get_int("transB", 0) != 0 ? 0 : 1];
      const Shape& b = graph.value(bias).constant->shape();
      const std::int64_t count = element_count(b);
      if (!(count == 1 || (count == columns && !b.empty() && b.back() == columns))) return "its bias differs from row to row";
    }
  } else if (shape.size() < 3) {
    return "its weights have no spatial axis";
  } else if (node.op_type == "ConvTranspose") {
    const TensorType& x = types[static_cast<std::size_t>(node.input(0))];
    if (!x.has_rank) return "the rank of its input is not known";
  }
  return std::nullopt;
}

std::optional<std::string> why_not_bases(const Graph& graph, const Node& node, std::span<const TensorType> types) {
  const BaseOperands operands = base_operands(node);
  for (std::size_t j = 0; j < operands.weights; ++j) {
    if (const auto why = why_not_compute(graph, product_of(node, 0, j), types)) return why;
    if (!graph.is_constant(operands.weight(node, j))) return "its weights are computed at run time";
    if (graph.value(operands.weight(node, j)).constant->shape() != graph.value(operands.weight(node, 0)).constant->shape())
      return "its weights differ in shape";
  }
  if (operands.bias && !graph.is_constant(node.input(*operands.bias))) return "its bias is computed at run time";
  return std::nullopt;
}

}  // namespace

bool is_tied(const Node& node) {
  if (node.op_type == "Resize" || node.op_type == "Upsample") return true;
  const OpDef* op = find_op(node.domain, node.op_type);
  return op != nullptr && op->rule == QuantRule::kTied;
}

bool is_bound(const Node& node) { return node.domain.empty() && (node.op_type == "Min" || node.op_type == "Max"); }

std::optional<std::size_t> bound_operand(const Graph& graph, const Node& node) {
  if (!is_bound(node) || node.inputs.size() != 2 || graph.is_constant(node.inputs[0]) == graph.is_constant(node.inputs[1])) return std::nullopt;
  return graph.is_constant(node.inputs[0]) ? 0 : 1;
}

Operands operands_of(const Graph& graph, const Node& node) {
  Operands result;
  if (is_base_products(node)) {
    result.activations.resize(base_operands(node).activations);
    std::iota(result.activations.begin(), result.activations.end(), std::size_t{0});
    return result;
  }
  if (is_compute(node.op_type)) {
    result.activations = {0};
    if (node.op_type == "MatMul" && !graph.is_constant(node.input(1))) result.activations = {0, 1};
    else result.weights = 1;
    if (node.op_type != "MatMul" && node.input(2) != kNoValue) result.bias = 2;
  } else if (node.op_type == "Concat" || is_bound(node)) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) result.activations.push_back(i);
  } else if (node.op_type == "Add" || node.op_type == "Sub" || node.op_type == "Mul") {
    result.activations = {0, 1};
  } else {
    result.activations = {0};
  }
  return result;
}

std::optional<std::string> why_not_integer(const Graph& graph, const Node& node, std::span<const TensorType> types) {
  const OpDef* op = find_op(node.domain, node.op_type);
  if (op == nullptr) return "nibble does not know the operator";
  if (op->rule == QuantRule::kFloat) return op->note.empty() ? "the operator has no integer form" : std::string(op->note);
  if (op->rule == QuantRule::kNotReal) return "it does not compute with real numbers";

  if (node.output(0) == kNoValue) return "its first output is left out";
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    if (i > 0 && node.op_type != "Split") return "its second output is used";
  }
  const Operands operands = operands_of(graph, node);
  for (const std::size_t i : operands.activations) {
    const ValueId id = node.input(i);
    if (id == kNoValue) return "an input is left out";
    if (type_of(types, id) != DataType::kFloat32)
      return "its input is " + std::string(to_string(type_of(types, id))) + ", not float32";
  }
  if (std::all_of(operands.activations.begin(), operands.activations.end(), [&](std::size_t i) { return graph.is_constant(node.input(i)); }))
    return "all of its inputs are constants";

  if (is_base_products(node)) return why_not_bases(graph, node, types);
  if (op->rule == QuantRule::kCompute) return why_not_compute(graph, node, types);
  if (is_bound(node)) {
    if (!bound_operand(graph, node)) return "a function of several real inputs; only a bound that is constant has an integer form";
    return std::nullopt;
  }
  if (node.op_type == "Resize" || node.op_type == "Upsample") {
    if (node.get_string("mode", "nearest") != "nearest") return "only nearest-neighbour resizing has an integer form";
    return std::nullopt;
  }
  if (node.op_type == "Clip" && (node.inputs.size() > 1)) {
    for (std::size_t i = 1; i < node.inputs.size(); ++i) {
      if (node.inputs[i] != kNoValue && !graph.is_constant(node.inputs[i])) return "its bounds are computed at run time";
    }
  }
  if (node.op_type == "Pad") {
    if (node.input(2) != kNoValue && !graph.is_constant(node.input(2))) return "its value is computed at run time";
  }
  if (node.op_type == "ReduceMean") {
    const bool axes_known = node.input(1) == kNoValue || graph.is_constant(node.input(1));
    if (!axes_known) return "its axes are computed at run time";
  }
  return std::nullopt;
}

std::optional<std::int64_t> weight_channel_axis(const Node& node, const Shape& weight_shape) {
  const auto rank = static_cast<std::int64_t>(weight_shape.size());
  if (node.op_type == "Conv") return 0;
  if (node.op_type == "ConvTranspose") return node.get_int("group", 1) == 1 ? std::optional<std::int64_t>(1) : std::nullopt;
  if (node.op_type == "Gemm") return node.get_int("transB", 0) != 0 ? 0 : 1;
  if (node.op_type == "MatMul" && rank == 2) return 1;
  return std::nullopt;
}

std::optional<std::int64_t> weight_input_axis(const Node& node, const Shape& weight_shape) {
  const auto channels = weight_channel_axis(node, weight_shape);
  if (!channels) return std::nullopt;
  return *channels == 0 ? 1 : 0;
}

}  // namespace nibble
