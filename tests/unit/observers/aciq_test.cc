#include "observers/aciq.h"

#include <gtest/gtest.h>

#include <numbers>

#include "nibble/calibrate.h"
#include "sample_data.h"

namespace nibble {
namespace {

constexpr ObserverTarget kS8{.type = {.bit_width = 8, .is_signed = true, .narrow_range = true}, .symmetric = true};
constexpr ObserverTarget kU8{.type = {.bit_width = 8}, .symmetric = false};
constexpr ObserverTarget kU4{.type = {.bit_width = 4}, .symmetric = false};

TEST(AciqEquation, GivesThePublishedClips) {
  constexpr double kLaplace[] = {2.83, 3.89, 5.03, 6.20, 7.41, 8.64, 9.89};
  constexpr double kGauss[] = {1.71, 2.15, 2.55, 2.93, 3.28, 3.61, 3.92};
  constexpr double kPrinted = 0.01;  // two decimals, cut off or rounded
  for (int bits = 2; bits <= 8; ++bits) {
    EXPECT_NEAR(aciq_laplace_clip(bits), kLaplace[bits - 2], kPrinted) << bits;
    EXPECT_NEAR(aciq_gauss_clip(bits), kGauss[bits - 2], kPrinted) << bits;
  }
}

TEST(AciqEquation, MinimisesTheError) {
  const auto laplace = [](double t, int bits) { return 2 * std::exp(-t) + t * t / (3 * std::exp2(2.0 * bits)); };
  const auto gauss = [](double t, int bits) {
    const double density = std::exp(-t * t / 2) / std::sqrt(2 * std::numbers::pi), tail = std::erfc(t / std::numbers::sqrt2) / 2;
    return 2 * ((t * t + 1) * tail - t * density) + t * t / (3 * std::exp2(2.0 * bits));
  };
  for (int bits = 1; bits <= 17; ++bits) {
    const double l = aciq_laplace_clip(bits), g = aciq_gauss_clip(bits);
    for (const double factor : {0.9, 0.99, 1.01, 1.1}) {
      EXPECT_LT(laplace(l, bits), laplace(l * factor, bits)) << bits;
      EXPECT_LT(gauss(g, bits), gauss(g * factor, bits)) << bits;
    }
  }
}

std::vector<float> drawn(const std::function<double(std::mt19937_64&)>& next) {
  std::mt19937_64 random(31);
  return testing::draw(200000, [&] { return next(random); });
}

Range range_of(const std::vector<float>& values, const ObserverTarget& target) {
  const auto observer = make_observer("aciq");
  observer->observe(values);
  return observer->range(target);
}

// 200,000 draws give sigma and b to about 0.3 %; 1 % is three of these.
constexpr double kFit = 0.01;

TEST(Aciq, ChoosesTheFittingDistribution) {
  std::normal_distribution<double> normal(0, 2);
  std::exponential_distribution<double> exponential(0.5);
  const auto gauss = drawn([&](auto& random) { return normal(random); });
  const auto laplace = drawn([&](auto& random) { return exponential(random) * ((random() & 1) != 0 ? 1 : -1); });
  EXPECT_NEAR(range_of(gauss, kS8).hi, 2 * aciq_gauss_clip(8), 2 * kFit * 4);
  EXPECT_NEAR(range_of(gauss, kS8).lo, -2 * aciq_gauss_clip(8), 2 * kFit * 4);
  EXPECT_NEAR(range_of(laplace, kS8).hi, 2 * aciq_laplace_clip(8), 2 * kFit * 10);
}

TEST(Aciq, MeanMovesTheWindow) {
  std::normal_distribution<double> normal(1, 1);
  const Range range = range_of(drawn([&](auto& random) { return normal(random); }), kU4);
  EXPECT_NEAR((range.lo + range.hi) / 2, 1, 0.02);
  EXPECT_NEAR((range.hi - range.lo) / 2, aciq_gauss_clip(4), kFit * 3);
}

TEST(Aciq, OneSidedDataHaveOneMoreBit) {
  std::normal_distribution<double> normal(0, 1);
  const auto relu = drawn([&](auto& random) { return std::max(0.0, normal(random)); });
  EXPECT_NEAR(range_of(relu, kU4).hi, aciq_gauss_clip(5), kFit * 3);
  EXPECT_EQ(range_of(relu, kU4).lo, 0);
  // A signed symmetric grid spends half of its levels on values that do not come.
  EXPECT_NEAR(range_of(relu, kS8).hi, aciq_gauss_clip(8), kFit * 4);
  std::exponential_distribution<double> exponential(1);
  const auto half_laplace = drawn([&](auto& random) { return exponential(random); });
  EXPECT_NEAR(range_of(half_laplace, kU8).hi, aciq_laplace_clip(9), kFit * 11);
}

}  // namespace
}  // namespace nibble
