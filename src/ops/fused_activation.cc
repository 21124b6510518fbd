#include "ops/fused_activation.h"

#include <cstdint>

#include "ops/fail.h"

namespace nibble {

FusedActivation fused_activation(const Node& node) {
  if (!node.has("activation")) return {};
  const std::string name = node.get_string("activation", "");
  FusedActivation result{.present = true};
  if (name == "Relu") {
    result.low = 0.0F;
    return result;
  }
  if (name != "Clip") fail_node(node, "fused activation '{}' is unknown; known are Relu and Clip", name);
  result.low = node.get_float("activation_min", result.low);
  result.high = node.get_float("activation_max", result.high);
  if (!(result.low <= result.high)) fail_node(node, "fused Clip has activation_min {} above activation_max {}", result.low, result.high);
  return result;
}

void apply_activation(const FusedActivation& activation, std::span<float> values) {
  if (!activation.present) return;
  for (float& value : values) value = activation.apply(value);
}

void apply_activation(const FusedActivation& activation, Tensor& tensor) {
  if (!activation.present) return;
  switch (tensor.type()) {
    case DataType::kFloat32: apply_activation(activation, tensor.mutable_data<float>()); return;
    case DataType::kFloat64:
      for (double& value : tensor.mutable_data<double>()) {
        if (value < static_cast<double>(activation.low)) value = static_cast<double>(activation.low);
        if (value > static_cast<double>(activation.high)) value = static_cast<double>(activation.high);
      }
      return;
    case DataType::kFloat16:
    case DataType::kBFloat16: {
      Tensor wide = cast(tensor, DataType::kFloat32);
      apply_activation(activation, wide.mutable_data<float>());
      tensor = cast(wide, tensor.type());
      return;
    }
    default: break;
  }
  fail(ErrorCode::kInvalidModel, "a fused activation needs floats, found {}", to_string(tensor.type()));
}

}  // namespace nibble
