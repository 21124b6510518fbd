#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "nibble/calibrate.h"
#include "observers/histogram.h"
#include "sample_data.h"

namespace nibble {
namespace {

constexpr ObserverTarget kS8{.type = {.bit_width = 8, .is_signed = true, .narrow_range = true}, .symmetric = true};
constexpr ObserverTarget kU8{.type = {.bit_width = 8}, .symmetric = false};

// KL(P || Q) of bins [0, i) on `levels` levels, as the method's description says it: build P, build Q, sum.
double obvious_divergence(const std::vector<double>& bins, std::size_t i, std::size_t levels) {
  std::vector<double> p(bins.begin(), bins.begin() + static_cast<std::ptrdiff_t>(i)), q(i, 0.0);
  for (std::size_t k = i; k < bins.size(); ++k) p[i - 1] += bins[k];
  levels = std::min(levels, i);
  for (std::size_t level = 0; level < levels; ++level) {
    const std::size_t begin = level * i / levels, end = (level + 1) * i / levels;
    double sum = 0, filled = 0;
    for (std::size_t k = begin; k < end; ++k) {
      sum += bins[k];
      filled += bins[k] > 0 ? 1 : 0;
    }
    for (std::size_t k = begin; k < end; ++k) q[k] = bins[k] > 0 ? sum / filled : 0;
  }
  double p_sum = 0, q_sum = 0, divergence = 0;
  for (std::size_t k = 0; k < i; ++k) {
    p_sum += p[k];
    q_sum += q[k];
  }
  for (std::size_t k = 0; k < i; ++k) {
    if (p[k] == 0) continue;
    if (q[k] == 0) return std::numeric_limits<double>::infinity();
    divergence += p[k] / p_sum * std::log(p[k] / p_sum / (q[k] / q_sum));
  }
  return divergence;
}

Histogram histogram_of(const std::vector<float>& values) {
  Histogram histogram;
  BatchHistogram batch;
  batch.fill(values, gather_stats(values), Histogram::kMinExponent);
  histogram.add(batch);
  return histogram;
}

// The chosen threshold is as good as the best of all thresholds (equal but for rounding in the logarithms' sums).
TEST(Entropy, FindsTheLeastDivergence) {
  for (const auto& data : testing::sample_data(41, 400000)) {
    if (data.name != "relu" && data.name != "relu6" && data.name != "laplace" && data.name != "outliers" && data.name != "mostly zero")
      continue;
    for (const ObserverTarget& target : {kS8, kU8}) {
      const auto [lo, hi] = std::minmax_element(data.values.begin(), data.values.end());
      const bool one_sided = *lo >= 0 || *hi <= 0;
      if (!one_sided && !target.symmetric) continue;
      const Histogram histogram = histogram_of(data.values);
      // As many bins as there are 256 values for each, but one a level at least.
      const std::int64_t levels_of_grid = target.symmetric ? 128 : 256;
      std::int64_t most_bins = levels_of_grid;
      while (2 * most_bins * 256 <= static_cast<std::int64_t>(histogram.total() - histogram.zeros())) most_bins *= 2;
      const DenseBins bins = dense_bins(histogram, most_bins);
      const auto zero = static_cast<std::size_t>(-bins.first);
      std::vector<double> magnitudes(std::max(bins.counts.size() - zero, zero), 0.0);
      for (std::size_t k = 0; k < bins.counts.size(); ++k) magnitudes[k >= zero ? k - zero : zero - 1 - k] += bins.counts[k];
      const std::size_t levels = target.symmetric ? 127 : 256;
      double least = std::numeric_limits<double>::infinity();
      for (std::size_t i = levels; i <= magnitudes.size(); ++i) least = std::min(least, obvious_divergence(magnitudes, i, levels));

      const auto observer = make_observer("entropy");
      observer->observe(data.values);
      const Range range = observer->range(target);
      const double reach = std::max(-range.lo, range.hi);
      const bool whole = reach >= static_cast<double>(std::max(-*lo, *hi));  // its bin may begin right there
      const auto chosen = whole ? magnitudes.size() : static_cast<std::size_t>(std::ceil(reach / bins.width));
      EXPECT_NEAR(obvious_divergence(magnitudes, chosen, levels), least, 1e-9 * (1 + least)) << data.name;
    }
  }
}

TEST(Entropy, FewValuesAreNotClipped) {
  for (const auto& data : testing::sample_data(43, 5000)) {
    const auto entropy = make_observer("entropy"), min_max = make_observer("min_max");
    entropy->observe(data.values);
    min_max->observe(data.values);
    EXPECT_EQ(entropy->range(kU8), min_max->range(kU8)) << data.name;
  }
}

TEST(Entropy, CutsOutliersOnBothSides) {
  std::mt19937_64 random(42);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(2000000);
  for (float& v : values) v = normal(random);
  values[1] = 40;
  values[2] = -25;
  const auto observer = make_observer("entropy");
  observer->observe(values);
  const Range range = observer->range(kU8);
  EXPECT_LT(range.hi, 10);
  EXPECT_GT(range.hi, 2);
  EXPECT_GT(range.lo, -10);
  EXPECT_LT(range.lo, -2);
}

}  // namespace
}  // namespace nibble
