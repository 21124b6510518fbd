#include "numeric/qparams.h"

#include <algorithm>
#include <cassert>
#include <cfloat>
#include <cmath>

#include "numeric/rounding.h"

namespace nibble {
namespace {

// As float32; a scale must stay a normal number, or the division by it loses its digits.
float to_scale(double scale) {
  if (!(scale > 0)) return 1.0F;
  return static_cast<float>(std::clamp(scale, static_cast<double>(FLT_MIN), static_cast<double>(FLT_MAX)));
}

}  // namespace

std::int32_t affine_zero_point(double lo, float scale, const QuantType& type) {
  const auto qmin = static_cast<double>(type.qmin());
  return static_cast<std::int32_t>(std::clamp(rne(qmin - lo / static_cast<double>(scale)), qmin, static_cast<double>(type.qmax())));
}

ScaleZeroPoint choose_qparams_affine(double lo, double hi, const QuantType& type) {
  assert(std::isfinite(lo) && std::isfinite(hi) && lo <= hi);
  lo = std::min(lo, 0.0);
  hi = std::max(hi, 0.0);
  const auto qmin = static_cast<double>(type.qmin());
  const auto qmax = static_cast<double>(type.qmax());
  const float scale = to_scale((hi - lo) / (qmax - qmin));
  return {scale, affine_zero_point(lo, scale, type)};
}

ScaleZeroPoint choose_qparams_symmetric(double lo, double hi, const QuantType& type) {
  assert(std::isfinite(lo) && std::isfinite(hi) && lo <= hi);
  const double max_abs = std::max(std::abs(lo), std::abs(hi));
  const auto half = static_cast<double>(std::int64_t{1} << (type.bit_width - 1));
  if (!type.is_signed) {
    if (lo >= 0) return {to_scale(hi / static_cast<double>(type.qmax())), 0};
    return {to_scale(max_abs / std::max(half - 1, 1.0)), static_cast<std::int32_t>(half)};
  }
  if (type.narrow_range && type.bit_width > 1) return {to_scale(max_abs / (half - 1)), 0};
  return {to_scale(max_abs / half), 0};
}

ScaleZeroPoint choose_qparams(double lo, double hi, const QuantType& type, bool symmetric, Scales scales) {
  ScaleZeroPoint q = symmetric ? choose_qparams_symmetric(lo, hi, type) : choose_qparams_affine(lo, hi, type);
  if (scales == Scales::kAny) return q;
  q.scale = power_of_two_scale(q.scale);
  if (!symmetric) q.zero_point = affine_zero_point(std::min(lo, 0.0), q.scale, type);
  return q;
}

float power_of_two_scale(float scale) {
  int exponent = 0;
  const float mantissa = std::frexp(scale, &exponent);  // scale = mantissa 2^exponent, mantissa in [0.5, 1)
  return std::ldexp(1.0F, mantissa == 0.5F ? exponent - 1 : exponent);
}

float fixed_point_scale(int fraction_bits) { return std::ldexp(1.0F, -fraction_bits); }

}  // namespace nibble
