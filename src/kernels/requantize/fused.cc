#include "kernels/requantize/fused.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>

namespace nibble::kernels {
namespace {

constexpr std::int64_t kOne = std::int64_t{1} << 23;  // accumulators that are floats have this exponent
constexpr int kCodes = 255;

// Threshold of the law between k and k + 1, k = index - kCodes: ties go to the even integer, so the float k + 1/2 belongs to k + 1 where k
// is odd, and so does what rounds to that float.
constexpr std::array<double, 2 * kCodes + 1> make_thresholds() {
  std::array<double, 2 * kCodes + 1> t{};
  for (int i = 0; i <= 2 * kCodes; ++i) {
    const int k = i - kCodes;
    const double middle = k + 0.5;
    double half_ulp = 0x1p-25;  // of [1/2, 1)
    for (double magnitude = middle < 0 ? -middle : middle; magnitude >= 1; magnitude /= 2) half_ulp *= 2;
    t[static_cast<std::size_t>(i)] = middle + (k % 2 == 0 ? half_ulp : -half_ulp);
  }
  return t;
}

constexpr std::array<double, 2 * kCodes + 1> kThresholds = make_thresholds();

// Some product n multiplier, n an integer, lies within delta of a threshold between low and high. Every operation but the division is
// exact.
bool near_threshold(double multiplier, double delta, std::int32_t low, std::int32_t high) {
  constexpr double kRound = 0x1.8p52;  // adding and subtracting it rounds to an integer
  const double inverse = 1 / multiplier;
  int found = 0;
  for (std::int32_t k = low; k < high; ++k) {
    const double threshold = kThresholds[static_cast<std::size_t>(k + kCodes)];
    const double n = (threshold * inverse + kRound) - kRound;
    found |= static_cast<int>(std::abs(n * multiplier - threshold) <= delta);
  }
  return found != 0;
}

// m inverse modulo 2^64, m odd: each step doubles the bits that are right.
std::uint64_t inverse_of(std::uint64_t m) {
  std::uint64_t x = m;
  for (int i = 0; i < 5; ++i) x *= 2 - m * x;
  return x;
}

}  // namespace

std::optional<FusedFloat32> fuse_float32(float multiplier, std::int64_t acc_min, std::int64_t acc_max, std::int32_t low,
                                         std::int32_t high) {
  // Beyond 2^8 the result could leave int32; far below, delta could leave the normal numbers.
  if (!(multiplier >= 0x1p-60F && multiplier < 0x1p8F)) return std::nullopt;
  // N = 2^23 + B.
  const std::int64_t least = kOne - (acc_min < 0 ? acc_min : 0);
  const std::int64_t most = 2 * kOne - 1 - (acc_max > 0 ? acc_max : 0);
  if (least > most) return std::nullopt;
  int exponent = 0;
  auto m = static_cast<std::uint64_t>(std::ldexp(std::frexp(multiplier, &exponent), 24));
  while (m % 2 == 0) m /= 2;
  const std::uint64_t inverse = inverse_of(m);
  const auto width = static_cast<int>(std::bit_width(m));
  constexpr std::int64_t kTries = 64;
  for (std::int64_t i = 0; i <= kTries; ++i) {
    const std::int64_t step = i % 2 == 0 ? i / 2 : -(i + 1) / 2;  // of delta: N m = step modulo the bits that c has not
    for (const int bits : {width, width - 1}) {                   // N m has 24 more
      const std::int64_t modulus = std::int64_t{1} << bits;
      std::int64_t n = static_cast<std::int64_t>(static_cast<std::uint64_t>(step) * inverse) & (modulus - 1);
      if (n < least) n += (least - n + modulus - 1) & -modulus;
      if (n > most) continue;
      const double exact = static_cast<double>(n) * static_cast<double>(multiplier);
      const auto offset = static_cast<float>(-exact);
      const double delta = std::abs(static_cast<double>(offset) + exact);
      if (delta > 0 && near_threshold(static_cast<double>(multiplier), delta, low, high)) continue;
      return FusedFloat32{.start = static_cast<std::int32_t>(0x4b000000 + (n - kOne)), .offset = offset};
    }
  }
  return std::nullopt;
}

}  // namespace nibble::kernels
