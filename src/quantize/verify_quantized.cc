#include <cmath>

#include "base/fail.h"
#include "nibble/quantize.h"
#include "quantize/node_arithmetic.h"

namespace nibble {

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
    if (value.constant && value.constant->type() != storage_type(params.type) && element_size(value.constant->type()) != 1)
      fail(ErrorCode::kInvalidModel, "value '{}': its codes are stored as {}", value.name, to_string(value.constant->type()));
  }
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
