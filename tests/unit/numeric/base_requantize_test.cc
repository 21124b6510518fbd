#include "numeric/base_requantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace nibble {
namespace {

constexpr OutputGrid kGrid{.zero_point = 3, .qmin = -128, .qmax = 127};

TEST(BaseRequantizer, WorkedExamples) {
  const std::vector<double> scales = {0.5, 0.25};
  const std::vector<std::int32_t> acc = {7, -3};  // 3.5 - 0.75 = 2.75, with the bias 2.25: 5; over 2: 2.5, which is even 2, upwards 3
  const auto real = make_base_requantizer(RequantizeLaw::kFloat32, scales, 2.25, 2.0F);
  const auto fixed = make_base_requantizer(RequantizeLaw::kFixedPoint, scales, 2.25, 2.0F);
  const auto shift = make_base_requantizer(RequantizeLaw::kShift, scales, 2.25, 2.0F);
  ASSERT_TRUE(real && fixed && shift);
  EXPECT_EQ((*real)(acc.data(), 1, kGrid), 2 + 3);
  EXPECT_EQ((*fixed)(acc.data(), 1, kGrid), 3 + 3);
  EXPECT_EQ((*shift)(acc.data(), 1, kGrid), 3 + 3);
  // M = 0.25 = 0.5 2^-1: r = 24 + 1.
  EXPECT_EQ(fixed->shift, 25);
  EXPECT_EQ(fixed->factor, (std::vector<std::int32_t>{1 << 23, 1 << 22}));
  const std::vector<std::int32_t> far = {1 << 30, 1 << 30};
  EXPECT_EQ((*real)(far.data(), 1, kGrid), 127);
  EXPECT_EQ((*fixed)(far.data(), 1, kGrid), 127);
}

TEST(BaseRequantizer, LawsAgreeWithRealNumbers) {
  constexpr std::uint64_t kSeed = 17;
  std::mt19937_64 random(kSeed);
  const auto uniform = [&](double lo, double hi) { return lo + (hi - lo) * static_cast<double>(random() >> 11) * 0x1p-53; };
  const OutputGrid wide{.zero_point = -7, .qmin = -32768, .qmax = 32767};
  for (int round = 0; round < 2000; ++round) {
    const std::size_t count = 1 + random() % 9;
    std::vector<double> scales;
    std::vector<std::int32_t> acc;
    long double exact = 0;
    const auto dst = static_cast<float>(uniform(0.01, 1));
    const double bias = uniform(-10, 10);
    for (std::size_t k = 0; k < count; ++k) {
      scales.push_back(uniform(1e-6, 1e-3));
      acc.push_back(static_cast<std::int32_t>(uniform(-1e5, 1e5)));
      exact += static_cast<long double>(acc[k]) * static_cast<long double>(scales[k]);
    }
    exact = (exact + static_cast<long double>(bias)) / static_cast<long double>(dst);
    for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint}) {
      const auto requantizer = make_base_requantizer(law, scales, bias, dst);
      ASSERT_TRUE(requantizer);
      const auto q = static_cast<long double>((*requantizer)(acc.data(), 1, wide) + 7);
      // Half a step, and what factors of 24 bits cost.
      EXPECT_LT(std::abs(q - exact), 0.5L + 0x1p-20L * (std::abs(exact) + 10000)) << "seed " << kSeed << " round " << round;
    }
  }
}

TEST(BaseRequantizer, RefusesWhatALawCannotHold) {
  const std::vector<double> tiny = {1e-30};
  const std::vector<double> odd = {0.3, 0.5};
  const std::vector<double> apart = {1.0, 0x1p-30};
  EXPECT_FALSE(make_base_requantizer(RequantizeLaw::kFixedPoint, tiny, 0, 1.0F));
  EXPECT_TRUE(make_base_requantizer(RequantizeLaw::kFloat32, tiny, 0, 1.0F));
  EXPECT_FALSE(make_base_requantizer(RequantizeLaw::kShift, odd, 0, 1.0F));
  EXPECT_FALSE(make_base_requantizer(RequantizeLaw::kShift, apart, 0, 1.0F));
  EXPECT_FALSE(make_base_requantizer(RequantizeLaw::kFixedPoint, odd, 1e30, 1.0F));
  EXPECT_FALSE(make_base_requantizer(RequantizeLaw::kFloat32, std::vector<double>{}, 0, 1.0F));
}

}  // namespace
}  // namespace nibble
