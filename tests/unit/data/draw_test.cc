#include "data/draw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

namespace nibble {
namespace {

TEST(SplitMix64, GivesThePublishedNumbers) {
  // The first outputs for seed 0, and for 1234567 as in the reference implementation's known answers.
  SplitMix64 zero(0);
  EXPECT_EQ(zero.next(), 0xE220A8397B1DCDAFU);
  EXPECT_EQ(zero.next(), 0x6E789E6AA1B965F4U);
  SplitMix64 other(1234567);
  EXPECT_EQ(other.next(), 6457827717110365317U);
  EXPECT_EQ(other.next(), 3203168211198807973U);
}

TEST(SplitMix64, NormalHasTheMomentsOfANormal) {
  SplitMix64 random(7);
  double sum = 0, squares = 0, fourth = 0;
  constexpr int kCount = 100000;
  for (int i = 0; i < kCount; ++i) {
    const double x = static_cast<double>(random.normal());
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  // Five standard errors: 1 / sqrt(n), sqrt(2 / n). The fourth moment of a sum of twelve is 2.9.
  EXPECT_NEAR(sum / kCount, 0, 0.016);
  EXPECT_NEAR(squares / kCount, 1, 0.023);
  EXPECT_NEAR(fourth / kCount, 2.9, 0.15);
}

TEST(DrawSamples, AllWhereEnoughAreWanted) {
  EXPECT_EQ(draw_samples(3, 0, 1, {}), (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_EQ(draw_samples(3, 9, 1, {}), (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_TRUE(draw_samples(0, 9, 1, {}).empty());
}

TEST(DrawSamples, IsSeededAscendingAndTheSameEverywhere) {
  const auto drawn = draw_samples(1000, 10, 42, {});
  EXPECT_EQ(drawn, draw_samples(1000, 10, 42, {}));
  EXPECT_NE(drawn, draw_samples(1000, 10, 43, {}));
  EXPECT_TRUE(std::is_sorted(drawn.begin(), drawn.end()));
  EXPECT_EQ(std::set<std::int64_t>(drawn.begin(), drawn.end()).size(), 10U);
  EXPECT_EQ(drawn, (std::vector<std::int64_t>{172, 253, 365, 394, 482, 493, 563, 703, 779, 951}));
}

TEST(DrawSamples, EachClassGetsItsShare) {
  // 60 of class 0, 30 of class 1, 10 of class 2, in blocks.
  std::vector<std::int64_t> labels(60, 0);
  labels.insert(labels.end(), 30, 1);
  labels.insert(labels.end(), 10, 2);
  for (const std::int64_t count : {10, 20, 50}) {
    std::map<std::int64_t, std::int64_t> per_class;
    for (const std::int64_t i : draw_samples(100, count, 5, labels)) ++per_class[labels[static_cast<std::size_t>(i)]];
    EXPECT_EQ(per_class[0], count * 6 / 10);
    EXPECT_EQ(per_class[1], count * 3 / 10);
    EXPECT_EQ(per_class[2], count / 10);
  }
}

TEST(DrawSamples, PropertyOverRandomLabels) {
  SplitMix64 random(99);
  for (int round = 0; round < 200; ++round) {
    const auto total = static_cast<std::int64_t>(1 + random.below(60));
    const auto count = static_cast<std::int64_t>(1 + random.below(70));
    std::vector<std::int64_t> labels;
    std::map<std::int64_t, double> members;
    for (std::int64_t i = 0; i < total; ++i) ++members[labels.emplace_back(static_cast<std::int64_t>(random.below(1 + random.below(20))))];
    const auto drawn = draw_samples(total, count, random.next(), labels);
    ASSERT_EQ(static_cast<std::int64_t>(drawn.size()), std::min(total, count)) << "round " << round;
    ASSERT_TRUE(std::adjacent_find(drawn.begin(), drawn.end(), std::greater_equal<>()) == drawn.end());
    std::map<std::int64_t, double> taken;
    for (const std::int64_t i : drawn) ++taken[labels.at(static_cast<std::size_t>(i))];
    // No class is further than one sample from its exact share.
    for (const auto& [label, size] : members)
      ASSERT_LT(std::abs(taken[label] - size * static_cast<double>(drawn.size()) / static_cast<double>(total)), 1.0) << "round " << round;
  }
}

}  // namespace
}  // namespace nibble
