// The worked examples of docs/arithmetic.md, to the digit.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "numeric/qparams.h"
#include "numeric/quantize.h"
#include "numeric/requantize.h"
#include "numeric/rounding.h"

namespace nibble {
namespace {

std::vector<std::int32_t> codes(const std::vector<float>& x, double max_abs, bool narrow) {
  const QuantType type{.bit_width = 8, .is_signed = true, .narrow_range = narrow};
  const ScaleZeroPoint p = choose_qparams_symmetric(-max_abs, max_abs, type);
  std::vector<std::int32_t> q;
  for (const float v : x) q.push_back(quantize(v, p.scale, p.zero_point, type.qmin(), type.qmax()));
  return q;
}

std::int64_t dot(const std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::int64_t{a[i]} * b[i];
  return sum;
}

TEST(WorkedExamples, FullRangeBiasesASumThatIsZero) {
  const std::vector<float> a = {-2.2F, -1.1F, 1.1F, 2.2F};
  const std::vector<float> b = {0.5F, 0.3F, 0.3F, 0.5F};
  const auto qa = codes(a, 2.2, false);
  const auto qb = codes(b, 0.5, false);
  EXPECT_EQ(qa, (std::vector<std::int32_t>{-128, -64, 64, 127}));
  EXPECT_EQ(qb, (std::vector<std::int32_t>{127, 77, 77, 127}));
  EXPECT_EQ(dot(qa, qb), -127);
  EXPECT_NEAR(static_cast<double>(dot(qa, qb)) * (2.2 / 128) * (0.5 / 128), -0.00853, 5e-6);
}

TEST(WorkedExamples, NarrowRangeDoesNot) {
  EXPECT_EQ(dot(codes({-2.2F, -1.1F, 1.1F, 2.2F}, 2.2, true), codes({0.5F, 0.3F, 0.3F, 0.5F}, 0.5, true)), 0);
}

TEST(WorkedExamples, MatrixTimesVectorAndBack) {
  const auto row0 = codes({-1.54F, 0.22F}, 2, true);
  const auto row1 = codes({-0.26F, 0.65F}, 2, true);
  const auto v = codes({0.35F, -0.51F}, 1, true);
  EXPECT_EQ(row0, (std::vector<std::int32_t>{-98, 14}));
  EXPECT_EQ(row1, (std::vector<std::int32_t>{-17, 41}));
  EXPECT_EQ(v, (std::vector<std::int32_t>{44, -65}));
  const std::array<std::int64_t, 2> acc = {dot(row0, v), dot(row1, v)};
  EXPECT_EQ(acc[0], -5222);
  EXPECT_EQ(acc[1], -3413);
  EXPECT_NEAR(static_cast<double>(acc[0]) / (63.5 * 127), -0.648, 5e-4);
  EXPECT_NEAR(static_cast<double>(acc[1]) / (63.5 * 127), -0.423, 5e-4);
  const OutputGrid grid{.zero_point = 0, .qmin = -127, .qmax = 127};
  for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint}) {
    const auto requantizer = make_requantizer(law, 2.0F / 127, 1.0F / 127, 3.0F / 127);
    ASSERT_TRUE(requantizer);
    EXPECT_EQ((*requantizer)(acc[0], grid), -27) << to_string(law);
    EXPECT_EQ((*requantizer)(acc[1], grid), -18) << to_string(law);
  }
}

TEST(WorkedExamples, SumsAreAccumulatedWide) {
  // Two significant digits: 5.1 + 5.2 = 10.3 becomes 10.
  const auto two_digits = [](double x) {
    const double unit = std::pow(10.0, std::floor(std::log10(x)) - 1);
    return std::round(x / unit) * unit;
  };
  EXPECT_DOUBLE_EQ(two_digits(two_digits(5.1 + 5.2) / 2), 5.0);
  // The average of codes is rounded once: of 51 and 52 on equal grids it is 51.5, half to even 52.
  EXPECT_EQ(requantize_float32(51 + 52, 0.5F, {.zero_point = 0, .qmin = 0, .qmax = 255}), 52);
}

}  // namespace
}  // namespace nibble
