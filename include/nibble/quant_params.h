// QuantParams: how real values map to integers, q = clamp(rne(x / scale) + zero_point, qmin, qmax).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace nibble {

// What shares one scale and zero point.
struct PerTensor {
  bool operator==(const PerTensor&) const = default;
};
struct PerChannel {
  std::int64_t axis = 0;
  bool operator==(const PerChannel&) const = default;
};
struct PerBlock {
  std::int64_t axis = 0;
  std::int64_t block_size = 32;
  bool operator==(const PerBlock&) const = default;
};
using Granularity = std::variant<PerTensor, PerChannel, PerBlock>;

// The integer grid: bit_width 1..16 (32 for biases), signed or not, narrow (-(2^(n-1)-1) lowest, symmetric) or full.
struct QuantType {
  int bit_width = 8;
  bool is_signed = false;
  bool narrow_range = false;  // only for signed types

  std::int64_t qmin() const;
  std::int64_t qmax() const;
  bool operator==(const QuantType&) const = default;
};

// The three laws of requantization (docs/arithmetic.md).
enum class RequantizeLaw { kFloat32, kFixedPoint, kShift };
std::string to_string(RequantizeLaw law);

// Parameters of one tensor. scale and zero_point have one element per tensor, one a channel, or one a block (row-major over the
// tensor's shape with `axis` divided by block_size). Invariants: every scale is finite and > 0; zero points lie in [qmin, qmax].
struct QuantParams {
  QuantType type;
  Granularity granularity = PerTensor{};
  std::vector<float> scale = {1.0F};
  std::vector<std::int32_t> zero_point = {0};

  std::int64_t qmin() const { return type.qmin(); }
  std::int64_t qmax() const { return type.qmax(); }
  bool per_tensor() const { return std::holds_alternative<PerTensor>(granularity); }
  bool symmetric() const;  // every zero point is 0
  bool operator==(const QuantParams&) const = default;
};

}  // namespace nibble
