#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "nibble/calibrate.h"
#include "numeric/qparams.h"
#include "numeric/quantize.h"
#include "sample_data.h"

namespace nibble {
namespace {

constexpr ObserverTarget kTargets[] = {
    {.type = {.bit_width = 8}, .symmetric = false},
    {.type = {.bit_width = 8, .is_signed = true, .narrow_range = true}, .symmetric = true},
    {.type = {.bit_width = 8, .is_signed = true}, .symmetric = true},
    {.type = {.bit_width = 8}, .symmetric = true},
    {.type = {.bit_width = 4}, .symmetric = false},
    {.type = {.bit_width = 3, .is_signed = true}, .symmetric = true},
    {.type = {.bit_width = 16}, .symmetric = false},
};

bool is_power_of_two(float x) {
  int exponent = 0;
  return std::frexp(x, &exponent) == 0.5F;
}

// Qiu's sum itself, value by value.
double obvious_error(const std::vector<float>& values, const ScaleZeroPoint& q, const QuantType& type) {
  double sum = 0;
  for (const float v : values)
    sum += std::abs(static_cast<double>(v) - static_cast<double>(fake_quantize(v, q.scale, q.zero_point, type.qmin(), type.qmax())));
  return sum;
}

TEST(PowerOfTwo, ScaleIsTheBestPowerOfTwo) {
  const std::uint64_t seed = 61;
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  for (const auto& data : testing::sample_data(seed, 1500)) {
    const auto [least_value, most_value] = std::minmax_element(data.values.begin(), data.values.end());
    // Steps below float32's normal numbers are no scales.
    if (static_cast<double>(std::max(-*least_value, *most_value)) < 1e-25) continue;
    const auto observer = make_observer("power_of_two");
    observer->observe(data.values);
    for (const ObserverTarget& target : kTargets) {
      SCOPED_TRACE(::testing::Message() << data.name << " bits " << target.type.bit_width);
      const Range range = observer->range(target);
      const ScaleZeroPoint found = choose_qparams(range.lo, range.hi, target.type, target.symmetric);
      EXPECT_TRUE(is_power_of_two(found.scale)) << found.scale;
      // Values of a few levels only: the error jumps between scales, and a histogram cannot see where.
      if (data.name == "integers" || data.name == "far from zero" || data.name == "every magnitude" || target.type.bit_width == 16)
        continue;
      const double lo = std::min(static_cast<double>(*least_value), 0.0), hi = std::max(static_cast<double>(*most_value), 0.0);
      const float raised = power_of_two_scale(choose_qparams(lo, hi, target.type, target.symmetric).scale);
      double least = std::numeric_limits<double>::infinity();
      for (int smaller = -1; smaller <= 8; ++smaller) {  // from a scale that is too coarse down to one that clips nearly all
        const float scale = std::ldexp(raised, -smaller);
        // Both ends scaled alike, as the observer does it.
        const double factor = static_cast<double>(scale) / static_cast<double>(choose_qparams(lo, hi, target.type, target.symmetric).scale);
        const std::int32_t zero = target.symmetric ? found.zero_point : affine_zero_point(lo * factor, scale, target.type);
        least = std::min(least, obvious_error(data.values, {scale, zero}, target.type));
      }
      // A bin holds its values as evenly spread: that costs a few percent at most, as with `mse`.
      EXPECT_LE(obvious_error(data.values, found, target.type), least * 1.02);
    }
  }
}

TEST(PowerOfTwo, ClipsWhereTheBulkGains) {
  std::mt19937_64 random(62);
  std::normal_distribution<double> normal(0, 1);
  std::vector<float> values = testing::draw(100000, [&] { return normal(random); });
  values[7] = 60;
  const auto observer = make_observer("power_of_two");
  observer->observe(values);
  EXPECT_LT(observer->range(kTargets[4]).hi, 30);
  EXPECT_GT(observer->range(kTargets[6]).hi, 59) << "16 bits have room for all";
}

}  // namespace
}  // namespace nibble
