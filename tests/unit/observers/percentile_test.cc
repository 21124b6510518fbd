#include <gtest/gtest.h>

#include <algorithm>

#include "nibble/calibrate.h"
#include "nibble/error.h"
#include "observers/histogram.h"
#include "sample_data.h"

namespace nibble {
namespace {

constexpr ObserverTarget kU8{.type = {.bit_width = 8}, .symmetric = false};

// Between the order statistics around the rank, one bin wider on both sides: all that a histogram can know.
TEST(Percentile, LiesWithinABinOfTheSortedData) {
  for (auto& data : testing::sample_data(21)) {
    for (const double percentile : {50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
      const auto observer = make_observer("percentile:percentile=" + std::to_string(percentile));
      observer->observe(data.values);
      const Range range = observer->range(kU8);
      std::sort(data.values.begin(), data.values.end());
      const double width =
          std::ldexp(1.0, Histogram::exponent_for(static_cast<double>(data.values.front()), static_cast<double>(data.values.back())));
      const auto n = static_cast<double>(data.values.size());
      for (const bool upper : {false, true}) {
        const double rank = (upper ? percentile : 100 - percentile) / 100 * n;
        const auto below = static_cast<std::size_t>(std::clamp(std::floor(rank) - 1, 0.0, n - 1));
        const auto above = static_cast<std::size_t>(std::clamp(std::ceil(rank), 0.0, n - 1));
        const double value = upper ? range.hi : range.lo;
        EXPECT_GE(value, static_cast<double>(data.values[below]) - width) << data.name << " " << percentile;
        EXPECT_LE(value, static_cast<double>(data.values[above]) + width) << data.name << " " << percentile;
      }
    }
  }
}

TEST(Percentile, OneHundredIsMinMax) {
  for (const auto& data : testing::sample_data(22)) {
    const auto percentile = make_observer("percentile:percentile=100"), min_max = make_observer("min_max");
    percentile->observe(data.values);
    min_max->observe(data.values);
    EXPECT_EQ(percentile->range(kU8), min_max->range(kU8));
  }
}

TEST(Percentile, CutsAnOutlier) {
  std::vector<float> values(100000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 100000.0F;
  values[500] = 1000.0F;
  const auto observer = make_observer("percentile");
  observer->observe(values);
  EXPECT_LT(observer->range(kU8).hi, 1.2);
}

}  // namespace
}  // namespace nibble
