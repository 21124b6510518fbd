#include "numeric/base_requantize.h"

#include <algorithm>
#include <cmath>

#include "numeric/rounding.h"

namespace nibble {
namespace {

__extension__ using Wide = __int128;

constexpr int kFactorBits = 24;
constexpr double kLargestFixedBias = 0x1p61;

}  // namespace

std::int64_t BaseRequantizer::operator()(const std::int32_t* acc, std::size_t stride, const OutputGrid& grid) const {
  if (law == RequantizeLaw::kFloat32) {
    double sum = bias;
    for (std::size_t k = 0; k < multiplier.size(); ++k) sum = std::fma(static_cast<double>(acc[k * stride]), multiplier[k], sum);
    const double rounded = rne(sum);
    const auto lo = static_cast<double>(grid.qmin - grid.zero_point);
    const auto hi = static_cast<double>(grid.qmax - grid.zero_point);
    return static_cast<std::int64_t>(std::min(std::max(rounded, lo), hi)) + grid.zero_point;
  }
  Wide sum = fixed_bias;
  for (std::size_t k = 0; k < factor.size(); ++k) sum += static_cast<Wide>(acc[k * stride]) * factor[k];
  sum = ((sum + (Wide{1} << (shift - 1))) >> shift) + grid.zero_point;
  return static_cast<std::int64_t>(std::clamp(sum, static_cast<Wide>(grid.qmin), static_cast<Wide>(grid.qmax)));
}

std::optional<BaseRequantizer> make_base_requantizer(RequantizeLaw law, std::span<const double> scales, double bias, float dst_scale) {
  const auto dst = static_cast<double>(dst_scale);
  BaseRequantizer result;
  result.law = law;
  result.bias = bias / dst;
  double largest = 0;
  for (const double scale : scales) {
    result.multiplier.push_back(scale / dst);
    largest = std::max(largest, result.multiplier.back());
  }
  if (!std::isfinite(largest) || !(largest > 0) || !std::isfinite(result.bias)) return std::nullopt;
  if (law == RequantizeLaw::kFloat32) return result;

  int exponent = 0;
  std::frexp(largest, &exponent);  // largest = f 2^exponent, f in [0.5, 1)
  result.shift = kFactorBits - exponent;
  if (result.shift < 1 || result.shift > 62) return std::nullopt;
  const double fixed_bias = rne(std::ldexp(result.bias, result.shift));
  if (!(std::abs(fixed_bias) < kLargestFixedBias)) return std::nullopt;
  result.fixed_bias = static_cast<std::int64_t>(fixed_bias);
  for (const double m : result.multiplier) {
    const double factor = rne(std::ldexp(m, result.shift));
    if (law == RequantizeLaw::kShift && (!shift_of(m) || factor != std::ldexp(m, result.shift))) return std::nullopt;
    result.factor.push_back(static_cast<std::int32_t>(factor));
  }
  return result;
}

}  // namespace nibble
