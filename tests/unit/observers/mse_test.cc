#include <gtest/gtest.h>

#include <algorithm>

#include "nibble/calibrate.h"
#include "nibble/error.h"
#include "numeric/qparams.h"
#include "numeric/quantize.h"
#include "sample_data.h"

namespace nibble {
namespace {

constexpr ObserverTarget kTargets[] = {
    {.type = {.bit_width = 8}, .symmetric = false},
    {.type = {.bit_width = 8, .is_signed = true, .narrow_range = true}, .symmetric = true},
    {.type = {.bit_width = 4}, .symmetric = false},
    {.type = {.bit_width = 3, .is_signed = true}, .symmetric = true},
};

// The error itself, value by value.
double obvious_error(const std::vector<float>& values, const Range& range, const ObserverTarget& target, double p) {
  const ScaleZeroPoint q = choose_qparams(range.lo, range.hi, target.type, target.symmetric);
  double sum = 0;
  for (const float v : values) {
    const float back = fake_quantize(v, q.scale, q.zero_point, target.type.qmin(), target.type.qmax());
    sum += std::pow(std::abs(static_cast<double>(v) - static_cast<double>(back)), p);
  }
  return sum / static_cast<double>(values.size());
}

class MseOfPower : public ::testing::TestWithParam<double> {};

// A scan of 30 x 30 clips finds nothing that is more than 2 % better: the histogram's bins and the steps of 1/12 octave cost that much at
// most.
TEST_P(MseOfPower, IsAsGoodAsAScan) {
  const double p = GetParam();
  for (const auto& data : testing::sample_data(51, 1500)) {
    // Values of a few levels only: the error jumps between clips, and a histogram cannot see where.
    if (data.name == "integers" || data.name == "far from zero" || data.name == "every magnitude" || data.name == "subnormal") continue;
    const auto observer = make_observer("mse:p=" + std::to_string(p));
    observer->observe(data.values);
    const auto [lo, hi] = std::minmax_element(data.values.begin(), data.values.end());
    for (const ObserverTarget& target : kTargets) {
      const double found = obvious_error(data.values, observer->range(target), target, p);
      double least = found;
      const bool both = *lo < 0 && *hi > 0 && !target.symmetric;
      for (int i = 1; i <= 30; ++i) {
        for (int k = both ? 1 : 30; k <= 30; ++k) {
          const double low = static_cast<double>(*lo) * (both ? k : i) / 30, high = static_cast<double>(*hi) * i / 30;
          least = std::min(least, obvious_error(data.values, {std::min(low, high), std::max(low, high)}, target, p));
        }
      }
      const double slack = target.type.bit_width < 8 ? 1.06 : 1.02;
      EXPECT_LE(found, least * slack) << data.name << " bits " << target.type.bit_width;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Powers, MseOfPower, ::testing::Values(2.0, 3.0));

TEST(Mse, ClipsAnOutlier) {
  std::mt19937_64 random(52);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(100000);
  for (float& v : values) v = normal(random);
  values[7] = 60;
  const auto observer = make_observer("mse");
  observer->observe(values);
  EXPECT_LT(observer->range(kTargets[2]).hi, 20);
}

TEST(Mse, WholeRangeWhereNothingIsGained) {
  std::vector<float> values(10000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 10000.0F;
  const auto observer = make_observer("mse");
  observer->observe(values);
  EXPECT_NEAR(observer->range(kTargets[0]).hi, 1, 0.01);
}

}  // namespace
}  // namespace nibble
