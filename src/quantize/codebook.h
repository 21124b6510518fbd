// Weights that take few values: which ones, and which of them each weight becomes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nibble/quantize.h"

namespace nibble {

// Codes of the 8-bit grid -127 .. 127 that the weights of one tensor may take, ascending: 2^bit_width at most. `x` has each weight divided by its scale,
// `importance` (same size) what a squared error of it costs: the square of the scale.
//   kKMeans       Lloyd's algorithm on the line, started at the quantiles; 0 is always among them, so that what was pruned stays so
//   kPowersOfTwo  0 and +-2^k, the largest magnitudes 64, 32 ... that bit_width has room for
std::vector<std::int8_t> make_codebook(Codebook kind, int bit_width, std::span<const float> x, std::span<const float> importance);

// For powers of two the largest magnitude is 64: the grid's scale is chosen for it.
inline constexpr int kLargestPower = 64;

// The nearest entry of an ascending codebook; of two as near the lower.
std::int8_t nearest_entry(std::span<const std::int8_t> codebook, float x);

}  // namespace nibble
