// The three laws that bring a wide accumulator back to a narrow grid, and the laws of addition and multiplication.
#pragma once

#include <cstdint>
#include <optional>

#include "nibble/quant_params.h"

namespace nibble {

// The grid of a result: q in [qmin, qmax]. A fused Relu or Clip tightens qmin and qmax (monotone functions commute with the clamp, Eq. 20).
struct OutputGrid {
  std::int32_t zero_point = 0;
  std::int64_t qmin = 0;
  std::int64_t qmax = 255;
};

// --- law float32 -------------------------------------------------------------------------------------------------------------------

// M = f32(f32(src_scale wei_scale) / dst_scale) (Eq. 13).
float float32_multiplier(float src_scale, float wei_scale, float dst_scale);
// clamp(rne(f32(acc) M) + zero_point) (Eq. 14); one float32 multiplication, round half to even.
std::int64_t requantize_float32(std::int64_t acc, float multiplier, const OutputGrid& grid);

// --- law fixed_point ---------------------------------------------------------------------------------------------------------------

// M = m0 2^-shift with m0 in [2^30, 2^31) and shift in 1..62 (Eq. 15).
struct FixedPointMultiplier {
  std::int32_t m0 = 0;
  int shift = 0;
  bool operator==(const FixedPointMultiplier&) const = default;
};
// nullopt where M is outside of what shift 1..62 can hold (about 2^-32 .. 2^30) or is not finite and positive.
std::optional<FixedPointMultiplier> fixed_point_multiplier(double multiplier);
// clamp(((acc m0 + 2^(shift-1)) >> shift) + zero_point) (Eq. 16): ONE rounding, ties upward.
std::int64_t requantize_fixed_point(std::int64_t acc, FixedPointMultiplier multiplier, const OutputGrid& grid);

// --- law shift ---------------------------------------------------------------------------------------------------------------------

// r of M = 2^-r (may be negative); nullopt where M is no power of two.
std::optional<int> shift_of(double multiplier);
// clamp(((acc + 2^(r-1)) >> r) + zero_point), for r <= 0 clamp((acc << -r) + zero_point) (Eq. 17).
std::int64_t requantize_shift(std::int64_t acc, int shift, const OutputGrid& grid);

// One multiplier under whichever law.
struct Requantizer {
  RequantizeLaw law = RequantizeLaw::kFloat32;
  float multiplier = 1.0F;     // kFloat32
  FixedPointMultiplier fixed;  // kFixedPoint
  int shift = 0;               // kShift

  std::int64_t operator()(std::int64_t acc, const OutputGrid& grid) const;
};
// The multiplier src_scale wei_scale / dst_scale under `law`; nullopt where the law cannot hold it (fixed_point_multiplier, shift_of).
std::optional<Requantizer> make_requantizer(RequantizeLaw law, float src_scale, float wei_scale, float dst_scale);

// --- addition and multiplication, element by element ---------------------------------------------------------------------------------

// c = a + b or a - b.
//   float32 (Eq. 18): ra = sa / sc, rb = +-sb / sc, F = zc - fma(za, ra, rb zb), q = clamp(rne(fma(a, ra, fma(b, rb, F))))
//   fixed_point (Eq. 19): q = clamp((((a - za) ma + (b - zb) mb + 2^(shift-1)) >> shift) + zc), ma and mb with the common shift that puts the larger
//   into [2^20, 2^21)
struct Adder {
  RequantizeLaw law = RequantizeLaw::kFloat32;
  float ra = 0, rb = 0, offset = 0;               // kFloat32: offset is F
  std::int32_t za = 0, zb = 0, ma = 0, mb = 0;    // kFixedPoint, kShift
  int shift = 0;

  std::int64_t operator()(std::int64_t a, std::int64_t b, const OutputGrid& grid) const;
};
enum class AddKind { kAdd, kSub };
// nullopt where the law cannot hold the ratios (shift outside 1..62).
std::optional<Adder> make_adder(RequantizeLaw law, AddKind kind, float sa, std::int32_t za, float sb, std::int32_t zb, float sc, std::int32_t zc);

// c = a b. float32 (Eq. 21): r = f32(f32(sa sb) / sc), q = clamp(rne(f32(p) r + zc)), p = (a - za)(b - zb); a multiplication, then an addition.
// fixed_point, shift (Eq. 22): requantize(p).
std::int64_t multiply_elements(std::int64_t a, std::int32_t za, std::int64_t b, std::int32_t zb, const Requantizer& requantizer,
                               const OutputGrid& grid);

}  // namespace nibble
