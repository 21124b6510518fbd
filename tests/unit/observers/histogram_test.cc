#include "observers/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "nibble/error.h"
#include "sample_data.h"

namespace nibble {
namespace {

Histogram histogram_of(std::span<const float> values) {
  Histogram histogram;
  BatchHistogram batch;
  batch.fill(values, gather_stats(values), Histogram::kMinExponent);
  histogram.add(batch);
  return histogram;
}

// The definition, value by value.
std::map<std::int64_t, std::uint64_t> obvious_counts(std::span<const float> values, int exponent) {
  std::map<std::int64_t, std::uint64_t> counts;
  for (const float v : values) ++counts[static_cast<std::int64_t>(std::floor(std::ldexp(static_cast<double>(v), -exponent)))];
  return counts;
}

TEST(BatchStats, AgreeWithPlainLoops) {
  for (const std::size_t n : {1U, 2U, 15U, 16U, 17U, 33U, 1000U}) {
    const std::uint64_t seed = 77 + n;
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    for (const auto& data : testing::sample_data(seed, n)) {
      BatchStats stats = gather_stats(data.values);
      gather_moments(data.values, stats);
      EXPECT_EQ(stats.count, static_cast<std::int64_t>(n));
      EXPECT_EQ(stats.lo, *std::min_element(data.values.begin(), data.values.end()));
      EXPECT_EQ(stats.hi, *std::max_element(data.values.begin(), data.values.end()));
      EXPECT_EQ(stats.zeros, std::count(data.values.begin(), data.values.end(), 0.0F));
      EXPECT_TRUE(stats.finite);
      long double sum = 0, squares = 0, magnitude = 0;
      for (const float v : data.values) {
        sum += static_cast<long double>(v);
        squares += static_cast<long double>(v) * static_cast<long double>(v);
        magnitude += std::abs(static_cast<long double>(v));
      }
      EXPECT_NEAR(stats.sum, static_cast<double>(sum), 1e-14 * static_cast<double>(magnitude)) << data.name;
      EXPECT_NEAR(stats.sum_squares, static_cast<double>(squares), 1e-14 * static_cast<double>(squares)) << data.name;
    }
  }
}

TEST(BatchStats, FindsEveryNotFiniteValue) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    for (std::size_t at = 0; at < 40; ++at) {
      std::vector<float> values(40, 1.0F);
      EXPECT_TRUE(gather_stats(values).finite);
      values[at] = bad;
      EXPECT_FALSE(gather_stats(values).finite) << at;
    }
  }
  EXPECT_TRUE(gather_stats(std::vector<float>(40, std::numeric_limits<float>::max())).finite);
}

TEST(BatchStats, NegativeZeroIsZero) {
  const BatchStats stats = gather_stats(std::vector<float>{-0.0F, 0.0F, -0.0F});
  EXPECT_FALSE(std::signbit(stats.lo));
  EXPECT_FALSE(std::signbit(stats.hi));
  EXPECT_EQ(stats.zeros, 3);
}

TEST(Histogram, CountsAreTheDefinition) {
  for (const auto& data : testing::sample_data(1)) {
    const Histogram histogram = histogram_of(data.values);
    const auto expected = obvious_counts(data.values, histogram.exponent());
    std::map<std::int64_t, std::uint64_t> counts;
    for (std::size_t i = 0; i < histogram.counts().size(); ++i) {
      if (histogram.counts()[i] > 0) counts[histogram.first() + static_cast<std::int64_t>(i)] = histogram.counts()[i];
    }
    EXPECT_EQ(counts, expected) << data.name;
    EXPECT_EQ(histogram.total(), data.values.size());
    EXPECT_LE(static_cast<std::int64_t>(histogram.counts().size()), Histogram::kMaxBins);
    EXPECT_EQ(histogram.first(), expected.begin()->first);
    EXPECT_EQ(histogram.first() + static_cast<std::int64_t>(histogram.counts().size()) - 1, expected.rbegin()->first);
  }
}

// A range of two values or more fills more than a quarter of the bins: the smallest exponent was taken.
TEST(Histogram, UsesItsBins) {
  for (const auto& data : testing::sample_data(2)) {
    const Histogram histogram = histogram_of(data.values);
    if (histogram.exponent() == Histogram::kMinExponent || data.name == "far from zero") continue;
    EXPECT_GT(static_cast<std::int64_t>(histogram.counts().size()), Histogram::kMaxBins / 4) << data.name;
  }
}

TEST(Histogram, MergesExactlyInAnyOrder) {
  for (std::uint64_t seed = 10; seed < 14; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    for (auto& data : testing::sample_data(seed, 5000)) {
      const Histogram whole = histogram_of(data.values);
      // Ascending data make the range grow with every part.
      for (const bool sorted : {false, true}) {
        if (sorted) std::sort(data.values.begin(), data.values.end());
        std::vector<Histogram> parts;
        for (std::size_t begin = 0; begin < data.values.size();) {
          const std::size_t n = std::min<std::size_t>(data.values.size() - begin, 1 + random() % 1500);
          parts.push_back(histogram_of(std::span(data.values).subspan(begin, n)));
          begin += n;
        }
        Histogram forward, backward, through_text;
        for (std::size_t i = 0; i < parts.size(); ++i) {
          forward.merge(parts[i]);
          backward.merge(parts[parts.size() - 1 - i]);
          through_text.merge(Histogram::from_json(nlohmann::json::parse(parts[i].to_json().dump())));
        }
        EXPECT_TRUE(forward == whole) << data.name;
        EXPECT_TRUE(backward == whole) << data.name;
        EXPECT_TRUE(through_text == whole) << data.name;
      }
    }
  }
}

TEST(Histogram, ExtremesOfFloat) {
  const float most = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::denorm_min();
  const std::vector<float> values = {-most, most, -least, least, 0.0F, 1.0F, -1.0F};
  const Histogram whole = histogram_of(values);
  EXPECT_EQ(whole.total(), values.size());
  Histogram merged;
  for (const float v : values) merged.merge(histogram_of(std::vector<float>{v}));
  EXPECT_TRUE(merged == whole);
}

TEST(Histogram, OneValue) {
  for (const float v : {0.0F, 5.0F, -5.0F, 1e-40F, -1e-40F, 3e38F, -3e38F}) {
    const Histogram histogram = histogram_of(std::vector<float>(3, v));
    ASSERT_EQ(histogram.counts().size(), 1U);
    EXPECT_EQ(histogram.counts()[0], 3U);
    EXPECT_EQ(histogram.lo(), static_cast<double>(v));
    EXPECT_EQ(histogram.hi(), static_cast<double>(v));
    EXPECT_EQ(histogram.zeros(), v == 0.0F ? 3U : 0U);
  }
}

TEST(Histogram, DenseBinsHoldZeroAndAllButExactZeros) {
  for (const auto& data : testing::sample_data(3)) {
    const Histogram histogram = histogram_of(data.values);
    for (const std::int64_t most : {16, 2048}) {
      const DenseBins bins = dense_bins(histogram, most);
      EXPECT_LE(static_cast<std::int64_t>(bins.counts.size()), most);
      EXPECT_LE(bins.first, 0);
      EXPECT_GT(bins.first + static_cast<std::int64_t>(bins.counts.size()), 0);
      double sum = 0;
      for (const double c : bins.counts) sum += c;
      EXPECT_EQ(sum, static_cast<double>(histogram.total() - histogram.zeros())) << data.name;
    }
  }
}

TEST(Histogram, RefusesDamagedStates) {
  for (const char* state : {
           "[]",
           "{}",
           "null",
           "{\"lo\":0,\"hi\":1,\"zeros\":0}",
           "{\"lo\":0,\"hi\":1,\"zeros\":0,\"counts\":[1],\"more\":1}",
           "{\"lo\":1,\"hi\":0,\"zeros\":0,\"counts\":[1]}",
           "{\"lo\":1e300,\"hi\":1e300,\"zeros\":0,\"counts\":[1]}",
           "{\"lo\":1,\"hi\":1,\"zeros\":0,\"counts\":[1,1]}",
           "{\"lo\":1,\"hi\":1,\"zeros\":0,\"counts\":[-1]}",
           "{\"lo\":1,\"hi\":1,\"zeros\":0,\"counts\":[0]}",
           "{\"lo\":1,\"hi\":1,\"zeros\":0,\"counts\":[1.5]}",
           "{\"lo\":1,\"hi\":1,\"zeros\":0,\"counts\":[\"1\"]}",
           "{\"lo\":1,\"hi\":1,\"zeros\":2,\"counts\":[1]}",
           "{\"lo\":0,\"hi\":0,\"zeros\":2,\"counts\":[1]}",
           "{\"lo\":0,\"hi\":0,\"zeros\":-1,\"counts\":[1]}",
           "{\"lo\":\"0\",\"hi\":0,\"zeros\":0,\"counts\":[1]}",
           "{\"lo\":0,\"hi\":0,\"zeros\":0,\"counts\":7}",
           "{\"lo\":0,\"hi\":1,\"zeros\":0,\"counts\":[1,-9223372036854775808,1]}",
           "{\"lo\":0,\"hi\":0,\"zeros\":0,\"counts\":[18446744073709551615]}",
       }) {
    EXPECT_THROW(Histogram::from_json(nlohmann::json::parse(state)), Error) << state;
  }
}

}  // namespace
}  // namespace nibble
