#include <cmath>

#include "base/fail.h"
#include "nibble/quantize.h"
#include "numeric/quantize.h"
#include "ops/base_products.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"

namespace nibble {
namespace {

void verify_granularity(const Value& value, const QuantParams& params) {
  const Shape& shape = value.constant->shape();
  const auto* block = std::get_if<PerBlock>(&params.granularity);
  const std::int64_t axis = block != nullptr ? block->axis : std::get<PerChannel>(params.granularity).axis;
  if (axis < 0 || axis >= static_cast<std::int64_t>(shape.size()) || (block != nullptr && block->block_size < 1) ||
      scale_count(params.granularity, shape) != static_cast<std::int64_t>(params.scale.size()))
    fail(ErrorCode::kInvalidModel, "value '{}': {} scales along axis {} do not fit its shape {}", value.name, params.scale.size(), axis,
         to_string(shape));
}

// Everything that an integer node computes with is integers, activations with one scale.
void verify_operands(const QuantizedGraph& model, const Node& node) {
  if (model.params_of(node.output(0)) == nullptr || node.op_type == "QuantizeLinear") return;
  const Operands operands = operands_of(model.graph, node);
  const auto check = [&](std::size_t i, bool one_scale) {
    const QuantParams* params = model.params_of(node.input(i));
    if (params == nullptr)
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): it gives integers, but its operand {} has none", node.name, node.op_type, i);
    if (one_scale && !params->per_tensor())
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): its operand '{}' has a scale for each channel", node.name, node.op_type,
           model.graph.value(node.input(i)).name);
  };
  for (const std::size_t i : operands.activations) check(i, true);
  if (operands.weights) check(*operands.weights, false);
  if (operands.bias) check(*operands.bias, false);
  if (is_base_products(node)) {
    for (std::size_t i = base_operands(node).activations; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == kNoValue) continue;
      check(i, false);
      if (!model.graph.is_constant(node.inputs[i]))
        fail(ErrorCode::kInvalidModel, "node '{}' (BaseProducts): its operand {} must be a constant", node.name, i);
    }
    const BaseOperands bases = base_operands(node);
    for (std::size_t j = 1; j < bases.weights; ++j) {
      if (model.graph.value(bases.weight(node, j)).constant->shape() != model.graph.value(bases.weight(node, 0)).constant->shape())
        fail(ErrorCode::kInvalidModel, "node '{}' (BaseProducts): its weights differ in shape", node.name);
    }
  }
  for (const auto& i : {operands.weights, operands.bias}) {
    if (i && !model.graph.is_constant(node.input(*i)))
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): its operand {} must be a constant", node.name, node.op_type, *i);
  }
}

}  // namespace

void verify(const QuantizedGraph& model) {
  verify(model.graph);
  if (model.params.size() != model.graph.values().size())
    fail(ErrorCode::kInvalidModel, "quantized graph: {} parameters for {} values", model.params.size(), model.graph.values().size());
  for (std::size_t v = 0; v < model.params.size(); ++v) {
    if (!model.params[v]) continue;
    const QuantParams& params = *model.params[v];
    const Value& value = model.graph.values()[v];
    if (params.scale.empty() || params.scale.size() != params.zero_point.size())
      fail(ErrorCode::kInvalidModel, "value '{}': {} scales and {} zero points", value.name, params.scale.size(), params.zero_point.size());
    for (std::size_t i = 0; i < params.scale.size(); ++i) {
      if (!(params.scale[i] > 0) || !std::isfinite(params.scale[i]))
        fail(ErrorCode::kInvalidModel, "value '{}': scale {} is not a positive number", value.name, params.scale[i]);
      if (params.zero_point[i] < params.qmin() || params.zero_point[i] > params.qmax())
        fail(ErrorCode::kInvalidModel, "value '{}': zero point {} is outside of [{}, {}]", value.name, params.zero_point[i], params.qmin(),
             params.qmax());
    }
    if (!value.constant && !params.per_tensor())
      fail(ErrorCode::kInvalidModel, "value '{}': activations are quantized per tensor", value.name);
    if (value.constant && !params.per_tensor()) verify_granularity(value, params);
    if (value.constant && value.constant->type() != storage_type(params.type) && element_size(value.constant->type()) != 1)
      fail(ErrorCode::kInvalidModel, "value '{}': its codes are stored as {}", value.name, to_string(value.constant->type()));
  }
  for (const Node& node : model.graph.nodes()) verify_operands(model, node);
  for (const Node& node : model.graph.nodes()) {
    const bool reads = !node.inputs.empty() && model.params_of(node.input(0)) != nullptr;
    const bool writes = !node.outputs.empty() && model.params_of(node.output(0)) != nullptr;
    if (node.op_type == "QuantizeLinear" && (reads || !writes))
      continue;  // a plain ONNX node over plain tensors is allowed inside float islands
    if (writes && !reads && node.op_type != "QuantizeLinear")
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): integers come out, but none go in", node.name, node.op_type);
  }
}

}  // namespace nibble
