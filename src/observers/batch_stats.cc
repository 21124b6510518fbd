#include "observers/batch_stats.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "observers/compensated_sum.h"

namespace nibble {

namespace {

// Lanes that run side by side: the compiler turns each into elements of a vector register (this file is built with -O3).
constexpr std::size_t kLanes = 16;

}  // namespace

BatchStats gather_stats(std::span<const float> values) {
  BatchStats stats;
  stats.count = static_cast<std::int64_t>(values.size());
  if (values.empty()) return stats;
  constexpr std::uint32_t kExponent = 0x7F800000U;
  float lo[kLanes], hi[kLanes];
  for (std::size_t j = 0; j < kLanes; ++j) {
    lo[j] = std::numeric_limits<float>::infinity();
    hi[j] = -std::numeric_limits<float>::infinity();
  }
  std::uint32_t bad = 0;
  const float* x = values.data();
  const std::size_t n = values.size();
  std::size_t i = 0;
  while (i + kLanes <= n) {
    // Blocks short enough for 32-bit counts.
    const std::size_t end = std::min(n - n % kLanes, i + (std::size_t{1} << 20));
    std::uint32_t zeros[kLanes] = {};
    std::uint32_t wrong[kLanes] = {};
    for (; i < end; i += kLanes) {
      for (std::size_t j = 0; j < kLanes; ++j) {
        const float v = x[i + j];
        lo[j] = v < lo[j] ? v : lo[j];
        hi[j] = hi[j] < v ? v : hi[j];
        zeros[j] += v == 0.0F ? 1U : 0U;
        wrong[j] |= (std::bit_cast<std::uint32_t>(v) & kExponent) == kExponent ? 1U : 0U;
      }
    }
    for (std::size_t j = 0; j < kLanes; ++j) {
      stats.zeros += zeros[j];
      bad |= wrong[j];
    }
  }
  for (; i < n; ++i) {
    const float v = x[i];
    lo[0] = v < lo[0] ? v : lo[0];
    hi[0] = hi[0] < v ? v : hi[0];
    stats.zeros += v == 0.0F ? 1 : 0;
    bad |= (std::bit_cast<std::uint32_t>(v) & kExponent) == kExponent ? 1U : 0U;
  }
  for (std::size_t j = 1; j < kLanes; ++j) {
    lo[0] = lo[j] < lo[0] ? lo[j] : lo[0];
    hi[0] = hi[0] < hi[j] ? hi[j] : hi[0];
  }
  stats.finite = bad == 0;
  stats.lo = stats.finite ? lo[0] + 0.0F : 0.0F;
  stats.hi = stats.finite ? hi[0] + 0.0F : 0.0F;
  return stats;
}

void gather_moments(std::span<const float> values, BatchStats& stats) {
  constexpr std::size_t kWide = 8;
  constexpr std::size_t kBlock = 512;
  CompensatedSum sum, squares;
  const float* x = values.data();
  const std::size_t n = values.size();
  std::size_t i = 0;
  while (i + kWide <= n) {
    const std::size_t end = std::min(n - n % kWide, i + kBlock);
    double s[kWide] = {}, q[kWide] = {};
    for (; i < end; i += kWide) {
      for (std::size_t j = 0; j < kWide; ++j) {
        const double v = static_cast<double>(x[i + j]);
        s[j] += v;
        q[j] += v * v;
      }
    }
    sum.add(((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7])));
    squares.add(((q[0] + q[4]) + (q[1] + q[5])) + ((q[2] + q[6]) + (q[3] + q[7])));
  }
  for (; i < n; ++i) {
    const double v = static_cast<double>(x[i]);
    sum.add(v);
    squares.add(v * v);
  }
  stats.sum = sum.value();
  stats.sum_squares = squares.value();
}

}  // namespace nibble
