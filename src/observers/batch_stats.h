// What one batch tells of itself in one pass: enough for every observer that keeps no histogram.
#pragma once

#include <cstdint>
#include <span>

namespace nibble {

struct BatchStats {
  std::int64_t count = 0;
  std::int64_t zeros = 0;           // exact zeros, of either sign
  float lo = 0, hi = 0;             // -0 counts as 0, so that the order of the values does not show
  double sum = 0, sum_squares = 0;  // of gather_moments()
  bool finite = true;               // false: a NaN or an infinity is among the values, and lo, hi, sums mean nothing
};

// count, zeros, lo, hi, finite.
BatchStats gather_stats(std::span<const float> values);
// Adds sum and sum_squares: sums of doubles over short blocks, so that the rounding error stays below 1e-14 of the sum of magnitudes.
void gather_moments(std::span<const float> values, BatchStats& stats);

}  // namespace nibble
