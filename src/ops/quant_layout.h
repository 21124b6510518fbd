// Which scale and zero point an element of a tensor uses, and the rounding of ONNX's quantization operators.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "nibble/tensor.h"
#include "ops/op.h"

namespace nibble::nn {

// Element [o, a, i] of a tensor seen as [outer, axis, inner] uses parameter (o * axis_params + a / block) * inner_params + i, where
// per tensor every factor is degenerate.
struct QuantLayout {
  std::int64_t outer = 1, axis = 1, inner = 1;
  enum class Kind { kPerTensor, kPerAxis, kBlocked } kind = Kind::kPerTensor;
  std::int64_t block = 1, blocks = 1;

  std::int64_t parameter(std::int64_t o, std::int64_t a, std::int64_t i) const {
    if (kind == Kind::kPerTensor) return 0;
    if (kind == Kind::kPerAxis) return a;
    return (o * blocks + a / block) * inner + i;
  }
};

// From the attributes axis and block_size and the scale's shape. Throws Error{kInvalidModel} naming the node where they do not fit.
QuantLayout quant_layout(const Node& node, const Shape& x, const Shape& scale);

// Smallest and largest value of an 8-, 16- or 4-bit type; throws for others.
struct IntegerRange {
  std::int64_t min = 0, max = 0;
};
IntegerRange integer_range(const Node& node, DataType type);

// saturate(round_half_even(x) + zero_point). A NaN becomes the lowest value.
inline std::int64_t saturate(float x, std::int64_t zero_point, IntegerRange range) {
  const float rounded = std::nearbyint(x);
  const auto low = static_cast<float>(range.min - zero_point), high = static_cast<float>(range.max - zero_point);
  const float clamped = rounded >= low ? std::min(rounded, high) : low;
  return static_cast<std::int64_t>(clamped) + zero_point;
}

// One integer a parameter: the zero points widened, or `count` zeros where there is no tensor.
std::vector<std::int64_t> zero_points(const Node& node, const Tensor* tensor, std::int64_t count);
// A tensor of scales as floats; each must be finite. `count` < 0: any number.
std::vector<float> scales(const Node& node, const Tensor& tensor, std::int64_t count);

}  // namespace nibble::nn
