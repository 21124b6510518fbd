// From ranges of real values to scales and zero points.
#pragma once

#include <cstdint>

#include "nibble/quant_params.h"

namespace nibble {

struct ScaleZeroPoint {
  float scale = 1.0F;
  std::int32_t zero_point = 0;
  bool operator==(const ScaleZeroPoint&) const = default;
};

// Affine grid of [lo, hi] (widened to hold 0), Eq. 5-6: scale = (hi - lo) / (qmax - qmin), zero_point = clamp(rne(qmin - lo / scale)).
// 0 is exact. A range of width 0 gives the safe scale 1. lo, hi finite; lo <= hi.
ScaleZeroPoint choose_qparams_affine(double lo, double hi, const QuantType& type);

// Symmetric grid of |x| <= max_abs. Signed: zero point 0, scale = max_abs / (2^(n-1) - 1) on the narrow range (Eq. 7), max_abs / 2^(n-1) on the
// full range, whose top value is clipped (Eq. 8). Unsigned: zero point 0 and scale = hi / qmax where lo >= 0; else the middle 2^(n-1) and
// scale = max_abs / (2^(n-1) - 1) (Eq. 9).
ScaleZeroPoint choose_qparams_symmetric(double lo, double hi, const QuantType& type);

// The zero point of the affine grid with this scale and lowest value `lo` <= 0 (Eq. 6).
std::int32_t affine_zero_point(double lo, float scale, const QuantType& type);

// Which scales a law can work with: law shift needs powers of two (Eq. 11).
enum class Scales { kAny, kPowersOfTwo };
inline Scales scales_of(RequantizeLaw law) { return law == RequantizeLaw::kShift ? Scales::kPowersOfTwo : Scales::kAny; }

// One of the two above. kPowersOfTwo: the scale is raised to the next power of two, and an affine zero point is that of the raised scale.
ScaleZeroPoint choose_qparams(double lo, double hi, const QuantType& type, bool symmetric, Scales scales = Scales::kAny);

// The smallest power of two that is not below `scale` (Eq. 11).
float power_of_two_scale(float scale);

// Qm.n: x' = q 2^-fraction_bits; the scale of a grid with that many fraction bits (may be negative) (Eq. 10).
float fixed_point_scale(int fraction_bits);

}  // namespace nibble
