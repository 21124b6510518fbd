// exp, sigmoid, tanh and erf of float32 without branches or calls, so that loops over them vectorise on any ISA with the same bits.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace nibble {

// e^x within 2 units in the last place; NaN stays NaN, overflow is infinity, underflow passes through the subnormals to 0.
// x = n ln2 + r with |r| <= ln2 / 2, then the Taylor series of e^r to r^7 (its rest is below 2^-27) times 2^n.
inline float fast_exp(float x) {
  constexpr float kHighest = 89.0F;     // above ln(max float)
  constexpr float kLowest = -104.0F;    // below ln(min subnormal)
  constexpr float kRounder = 12582912;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
  constexpr float kLog2E = 1.44269504F;
  constexpr float kLn2High = 0.693359375F;  // few bits: n times it is exact
  constexpr float kLn2Low = -2.12194440e-4F;
  x = x > kHighest ? kHighest : x;
  x = x < kLowest ? kLowest : x;
  const float shifted = x * kLog2E + kRounder;
  const float n = shifted - kRounder;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = 1.0F / 5040;
  p = p * r + 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  const float y = 1.0F + (r + r * r * p);
  // 2^n in two factors, since n may lie outside the exponents of one.
  const std::int32_t exponent = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRounder);
  const std::int32_t half = exponent >> 1;
  const std::int32_t rest = exponent - half;
  const float scale_half = std::bit_cast<float>(static_cast<std::uint32_t>(half + 127) << 23);
  const float scale_rest = std::bit_cast<float>(static_cast<std::uint32_t>(rest + 127) << 23);
  return y * scale_half * scale_rest;
}

inline float fast_sigmoid(float x) { return 1.0F / (1.0F + fast_exp(-x)); }

// tanh within a few units in the last place: 1 - 2 / (e^2x + 1), and near 0, where that cancels, its Taylor series to x^11.
inline float fast_tanh(float x) {
  const float far = 1.0F - 2.0F / (fast_exp(2.0F * x) + 1.0F);
  const float s = x * x;
  float p = -1382.0F / 155925;
  p = p * s + 62.0F / 2835;
  p = p * s - 17.0F / 315;
  p = p * s + 2.0F / 15;
  p = p * s - 1.0F / 3;
  const float near = x + x * s * p;
  return s < 0.0625F ? near : far;
}

// erf within 1.5e-7, relative near 0: x times a polynomial of x^2 below 1, 1 - e^p(|x|) above; least squares fits at Chebyshev nodes of
// erf(x)/x on [0, 1] and of log(erfc(x)) on [0.95, 4].
inline float fast_erf(float x) {
  const float s = x * x;
  float near = 7.8824974e-05F;
  near = near * s - 8.018855e-04F;
  near = near * s + 5.189312e-03F;
  near = near * s - 2.6854329e-02F;
  near = near * s + 1.1283597e-01F;
  near = near * s - 3.7612626e-01F;
  near = near * s + 1.1283791F;
  const float magnitude = std::fabs(x);
  const float a = magnitude > 4.0F ? 4.0F : magnitude;  // erf(4) rounds to 1
  float p = -1.36331300e-05F;
  p = p * a + 3.23454035e-04F;
  p = p * a - 3.48147890e-03F;
  p = p * a + 2.28046048e-02F;
  p = p * a - 1.03753567e-01F;
  p = p * a - 6.38493717e-01F;
  p = p * a - 1.12636888F;
  p = p * a - 6.22114225e-04F;
  const float far = std::copysign(1.0F - fast_exp(p), x);
  return s < 1.0F ? x * near : far;
}

}  // namespace nibble
