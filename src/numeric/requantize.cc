#include "numeric/requantize.h"

#include <algorithm>
#include <cmath>

#include "numeric/rounding.h"

namespace nibble {
namespace {

__extension__ using Wide = __int128;

std::int64_t clamp_to(Wide value, const OutputGrid& grid) {
  return static_cast<std::int64_t>(std::clamp(value, static_cast<Wide>(grid.qmin), static_cast<Wide>(grid.qmax)));
}

// (value + 2^(shift-1)) >> shift: rounds to nearest, ties upward.
Wide rounding_shift(Wide value, int shift) { return (value + (Wide{1} << (shift - 1))) >> shift; }

// v is already rounded; NaN cannot occur (accumulators and multipliers are finite), an overflow to infinity clamps.
std::int64_t clamp_rounded(float v, std::int32_t zero_point, const OutputGrid& grid) {
  const auto lo = static_cast<float>(grid.qmin - zero_point);
  const auto hi = static_cast<float>(grid.qmax - zero_point);
  return static_cast<std::int64_t>(std::min(std::max(v, lo), hi)) + zero_point;
}

}  // namespace

float float32_multiplier(float src_scale, float wei_scale, float dst_scale) { return src_scale * wei_scale / dst_scale; }

std::int64_t requantize_float32(std::int64_t acc, float multiplier, const OutputGrid& grid) {
  return clamp_rounded(rne(static_cast<float>(acc) * multiplier), grid.zero_point, grid);
}

std::optional<FixedPointMultiplier> fixed_point_multiplier(double multiplier) {
  if (!std::isfinite(multiplier) || multiplier <= 0) return std::nullopt;
  int exponent = 0;
  const double mantissa = std::frexp(multiplier, &exponent);  // multiplier = mantissa 2^exponent, mantissa in [0.5, 1)
  auto m0 = static_cast<std::int64_t>(rne(std::ldexp(mantissa, 31)));
  if (m0 == std::int64_t{1} << 31) {
    m0 >>= 1;
    ++exponent;
  }
  const int shift = 31 - exponent;
  if (shift < 1 || shift > 62) return std::nullopt;
  return FixedPointMultiplier{static_cast<std::int32_t>(m0), shift};
}

std::int64_t requantize_fixed_point(std::int64_t acc, FixedPointMultiplier multiplier, const OutputGrid& grid) {
  return clamp_to(rounding_shift(static_cast<Wide>(acc) * multiplier.m0, multiplier.shift) + grid.zero_point, grid);
}

std::optional<int> shift_of(double multiplier) {
  if (!std::isfinite(multiplier) || multiplier <= 0) return std::nullopt;
  int exponent = 0;
  if (std::frexp(multiplier, &exponent) != 0.5) return std::nullopt;
  return 1 - exponent;
}

std::int64_t requantize_shift(std::int64_t acc, int shift, const OutputGrid& grid) {
  // Beyond 64 places either nothing or everything is left; the clamp decides.
  Wide value = acc;
  if (shift > 0) value = rounding_shift(value, std::min(shift, 100));
  else value = value * (Wide{1} << std::min(-shift, 60));
  return clamp_to(value + grid.zero_point, grid);
}

std::int64_t Requantizer::operator()(std::int64_t acc, const OutputGrid& grid) const {
  switch (law) {
    case RequantizeLaw::kFloat32: return requantize_float32(acc, multiplier, grid);
    case RequantizeLaw::kFixedPoint: return requantize_fixed_point(acc, fixed, grid);
    case RequantizeLaw::kShift: return requantize_shift(acc, shift, grid);
  }
  return 0;
}

std::optional<Requantizer> make_requantizer(RequantizeLaw law, float src_scale, float wei_scale, float dst_scale) {
  Requantizer result{.law = law, .multiplier = float32_multiplier(src_scale, wei_scale, dst_scale), .fixed = {}, .shift = 0};
  const double exact = static_cast<double>(src_scale) * static_cast<double>(wei_scale) / static_cast<double>(dst_scale);
  if (law == RequantizeLaw::kFixedPoint) {
    const auto fixed = fixed_point_multiplier(exact);
    if (!fixed) return std::nullopt;
    result.fixed = *fixed;
  } else if (law == RequantizeLaw::kShift) {
    const auto shift = shift_of(exact);
    if (!shift) return std::nullopt;
    result.shift = *shift;
  }
  return result;
}

std::int64_t Adder::operator()(std::int64_t a, std::int64_t b, const OutputGrid& grid) const {
  if (law == RequantizeLaw::kFloat32) {
    const float sum = std::fma(static_cast<float>(a), ra, std::fma(static_cast<float>(b), rb, offset));
    // The zero point is inside the sum already.
    return static_cast<std::int64_t>(std::min(std::max(rne(sum), static_cast<float>(grid.qmin)), static_cast<float>(grid.qmax)));
  }
  const Wide sum = static_cast<Wide>(a - za) * ma + static_cast<Wide>(b - zb) * mb;
  return clamp_to(rounding_shift(sum, shift) + grid.zero_point, grid);
}

std::optional<Adder> make_adder(RequantizeLaw law, AddKind kind, float sa, std::int32_t za, float sb, std::int32_t zb, float sc, std::int32_t zc) {
  Adder adder;
  adder.law = law;
  adder.za = za;
  adder.zb = zb;
  const bool subtract = kind == AddKind::kSub;
  adder.ra = sa / sc;
  adder.rb = (subtract ? -sb : sb) / sc;
  adder.offset = static_cast<float>(zc) - std::fma(static_cast<float>(za), adder.ra, adder.rb * static_cast<float>(zb));
  if (law == RequantizeLaw::kFloat32) return adder;

  const double a = static_cast<double>(sa) / static_cast<double>(sc);
  const double b = static_cast<double>(sb) / static_cast<double>(sc);
  int exponent = 0;
  std::frexp(std::max(a, b), &exponent);  // max = f 2^exponent, f in [0.5, 1)
  adder.shift = 21 - exponent;
  if (adder.shift < 1 || adder.shift > 62) return std::nullopt;
  // Rounding up to 2^21 exactly is as good as any: it still fits.
  adder.ma = static_cast<std::int32_t>(rne(std::ldexp(a, adder.shift)));
  adder.mb = static_cast<std::int32_t>(rne(std::ldexp(b, adder.shift))) * (subtract ? -1 : 1);
  return adder;
}

std::int64_t multiply_elements(std::int64_t a, std::int32_t za, std::int64_t b, std::int32_t zb, const Requantizer& requantizer,
                               const OutputGrid& grid) {
  const std::int64_t product = (a - za) * (b - zb);
  if (requantizer.law != RequantizeLaw::kFloat32) return requantizer(product, grid);
  const float scaled = static_cast<float>(product) * requantizer.multiplier;
  const float sum = scaled + static_cast<float>(grid.zero_point);
  return static_cast<std::int64_t>(std::min(std::max(rne(sum), static_cast<float>(grid.qmin)), static_cast<float>(grid.qmax)));
}

}  // namespace nibble
