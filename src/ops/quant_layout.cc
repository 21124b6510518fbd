#include "ops/quant_layout.h"

#include "ops/nn_common.h"

namespace nibble::nn {

QuantLayout quant_layout(const Node& node, const Shape& x, const Shape& scale) {
  QuantLayout layout;
  const std::int64_t count = element_count(scale), rank = std::ssize(x), block_size = node.get_int("block_size", 0);
  if (block_size < 0) fail_node(node, "block_size is {}, expected 0 or more", block_size);
  if (block_size == 0 && count == 1 && scale.size() <= 1) {
    layout.inner = element_count(x);
    return layout;
  }
  const std::int64_t axis = checked_axis(node, node.get_int("axis", 1), rank);
  layout.outer = product(x, 0, at(axis));
  layout.axis = x[at(axis)];
  layout.inner = product(x, at(axis) + 1, x.size());
  if (block_size == 0) {
    if (scale.size() != 1 || scale[0] != layout.axis)
      fail_node(node, "the scale has shape {}, expected a scalar or [{}] (axis {} of {})", to_string(scale), layout.axis, axis,
                to_string(x));
    layout.kind = QuantLayout::Kind::kPerAxis;
    return layout;
  }
  layout.kind = QuantLayout::Kind::kBlocked;
  layout.block = block_size;
  layout.blocks = layout.axis / block_size + (layout.axis % block_size != 0 ? 1 : 0);
  Shape expected = x;
  expected[at(axis)] = layout.blocks;
  if (scale != expected)
    fail_node(node, "the scale has shape {}, expected {} (blocks of {} on axis {})", to_string(scale), to_string(expected), block_size,
              axis);
  return layout;
}

IntegerRange integer_range(const Node& node, DataType type) {
  switch (type) {
    case DataType::kInt8: return {-128, 127};
    case DataType::kUInt8: return {0, 255};
    case DataType::kInt16: return {-32768, 32767};
    case DataType::kUInt16: return {0, 65535};
    case DataType::kInt4: return {-8, 7};
    case DataType::kUInt4: return {0, 15};
    default: break;
  }
  fail_node(node, "cannot quantize to {}; known are int4, uint4, int8, uint8, int16 and uint16", to_string(type));
}

std::vector<std::int64_t> zero_points(const Node& node, const Tensor* tensor, std::int64_t count) {
  if (tensor == nullptr) return std::vector<std::int64_t>(at(count), 0);
  if (!is_integer(tensor->type())) fail_node(node, "a zero point is {}, expected an integer type", to_string(tensor->type()));
  if (tensor->size() != count) fail_node(node, "a zero point has shape {}, expected {} elements", to_string(tensor->shape()), count);
  return to_int64s(*tensor);
}

std::vector<float> scales(const Node& node, const Tensor& tensor, std::int64_t count) {
  if (!is_float(tensor.type())) fail_node(node, "a scale is {}, expected a floating point type", to_string(tensor.type()));
  if (count >= 0 && tensor.size() != count) fail_node(node, "a scale has shape {}, expected {} elements", to_string(tensor.shape()), count);
  const Tensor wide = cast(tensor, DataType::kFloat32);
  const auto data = wide.data<float>();
  for (const float s : data) {
    if (!std::isfinite(s)) fail_node(node, "a scale is {}, expected a finite number", s);
  }
  return {data.begin(), data.end()};
}

}  // namespace nibble::nn
