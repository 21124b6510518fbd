// Draws that give the same numbers on every machine.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace nibble {

// SplitMix64 (Steele, Lea, Flood 2014). The standard library's distributions differ between implementations, so everything here is
// integers.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  // Uniform in [0, n), n >= 1 (the bias of n / 2^64 does not matter here).
  std::uint64_t below(std::uint64_t n);
  // Mean 0, variance 1 - 2^-32, in (-6, 6): the sum of twelve 16-bit numbers, exact in float32 up to its one rounding.
  float normal();

 private:
  std::uint64_t state_;
};

// `count` of the indices [0, total), ascending; all of them where count is 0 or >= total. With labels (one an index) each class gets its
// share, rounded down, and the rest goes to the largest remainders; who is drawn inside a class, and who wins a tie, the seed decides.
std::vector<std::int64_t> draw_samples(std::int64_t total, std::int64_t count, std::uint64_t seed, const std::vector<std::int64_t>& labels);

}  // namespace nibble
