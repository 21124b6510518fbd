// The 16-bit floats against a slow oracle: their values written with ldexp, the nearest one found by bisection.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "nibble/data_type.h"
#include "nibble/tensor.h"

namespace nibble {
namespace {

struct Format {
  DataType type;
  int exponent_bits, mantissa_bits;
  float (*widen)(std::uint16_t);
  std::uint16_t (*narrow)(float);
};

const Format kHalf{DataType::kFloat16, 5, 10, float16_to_float32, float32_to_float16};
const Format kBrain{DataType::kBFloat16, 8, 7, bfloat16_to_float32, float32_to_bfloat16};

// The value of non-negative finite bits. The first bits past the largest one give what a format without infinities would have there: the
// place from which IEEE rounds to infinity is half way to it.
double value_of(const Format& f, unsigned bits) {
  const int bias = (1 << (f.exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> f.mantissa_bits);
  const int mantissa = static_cast<int>(bits & ((1U << f.mantissa_bits) - 1U));
  if (exponent == 0) return std::ldexp(mantissa, 1 - bias - f.mantissa_bits);
  return std::ldexp(mantissa + (1 << f.mantissa_bits), exponent - bias - f.mantissa_bits);
}

unsigned infinity_of(const Format& f) { return ((1U << f.exponent_bits) - 1U) << f.mantissa_bits; }

std::uint16_t oracle(const Format& f, double value) {
  const unsigned sign = std::signbit(value) ? 0x8000U : 0U;
  const double magnitude = std::abs(value);
  unsigned low = 0, high = infinity_of(f);
  if (magnitude >= value_of(f, high)) return static_cast<std::uint16_t>(sign | high);
  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;
    (value_of(f, middle) <= magnitude ? low : high) = middle;
  }
  // Exact: neighbours differ in the last bit, and double has many more.
  const double below = magnitude - value_of(f, low), above = value_of(f, high) - magnitude;
  const bool up = above < below || (above == below && (low & 1U) != 0);
  return static_cast<std::uint16_t>(sign | (up ? high : low));
}

class Half : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, Half, testing::Values(kHalf, kBrain),
                         [](const auto& param) { return std::string(to_string(param.param.type)); });

TEST_P(Half, EveryValueWidensExactlyAndComesBack) {
  const Format& f = GetParam();
  for (unsigned bits = 0; bits < 0x10000U; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float wide = f.widen(half);
    const unsigned magnitude = bits & 0x7FFFU;
    ASSERT_EQ(std::signbit(wide), bits >= 0x8000U) << bits;
    if (magnitude > infinity_of(f)) {
      ASSERT_TRUE(std::isnan(wide)) << bits;
      const unsigned back = f.narrow(wide);
      ASSERT_GT(back & 0x7FFFU, infinity_of(f)) << bits;
      ASSERT_EQ(back & 0x8000U, bits & 0x8000U) << bits;
      continue;
    }
    if (magnitude == infinity_of(f)) {
      ASSERT_TRUE(std::isinf(wide)) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(std::abs(wide)), value_of(f, magnitude)) << bits;
    }
    ASSERT_EQ(f.narrow(wide), half) << bits;
  }
}

// Half way between every pair of neighbours (subnormals and the step to infinity among them) and one float on either side.
TEST_P(Half, TiesGoToEvenAndTheirNeighboursToTheNearest) {
  const Format& f = GetParam();
  for (unsigned bits = 0; bits < infinity_of(f); ++bits) {
    const double tie = (value_of(f, bits) + value_of(f, bits + 1)) / 2;
    const auto exact = static_cast<float>(tie);
    ASSERT_EQ(static_cast<double>(exact), tie) << bits;
    for (const float v : {exact, std::nextafter(exact, 0.0F), std::nextafter(exact, std::numeric_limits<float>::infinity())}) {
      ASSERT_EQ(f.narrow(v), oracle(f, v)) << bits << " " << v;
      ASSERT_EQ(f.narrow(-v), oracle(f, -v)) << bits << " " << -v;
    }
  }
}

TEST_P(Half, RandomFloats) {
  const Format& f = GetParam();
  const std::uint32_t seed = 20;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 300000; ++i) {
    const auto v = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isnan(v)) ASSERT_GT(f.narrow(v) & 0x7FFFU, infinity_of(f));
    else ASSERT_EQ(f.narrow(v), oracle(f, v)) << v;
  }
}

TEST_P(Half, Extremes) {
  const Format& f = GetParam();
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(f.narrow(inf), infinity_of(f));
  EXPECT_EQ(f.narrow(-inf), 0x8000U | infinity_of(f));
  EXPECT_EQ(f.narrow(std::numeric_limits<float>::max()), infinity_of(f));
  EXPECT_EQ(f.narrow(-0.0F), 0x8000U);
  const float tiny = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(f.narrow(tiny), 0U);
  // A NaN whose payload stands in the low bits alone must not become an infinity.
  EXPECT_TRUE(std::isnan(f.widen(f.narrow(std::bit_cast<float>(0x7F800001U)))));
  EXPECT_TRUE(std::isnan(f.widen(f.narrow(std::bit_cast<float>(0xFFFFFFFFU)))));
}

// Through float32 a double just past a tie would round to the tie and then to even.
TEST_P(Half, ADoubleIsRoundedOnce) {
  const Format& f = GetParam();
  std::vector<double> values;
  for (unsigned bits = 0; bits < infinity_of(f); ++bits) {
    const double tie = (value_of(f, bits) + value_of(f, bits + 1)) / 2;
    for (const double v : {tie, std::nextafter(tie, 0.0), std::nextafter(tie, 1e300)}) {
      values.push_back(v);
      values.push_back(-v);
    }
  }
  for (const double v : {1e300, -1e300, 1e-300, -1e-300, 1e39, 3.5e38}) values.push_back(v);
  const Tensor narrow = cast(Tensor::from<double>({static_cast<std::int64_t>(values.size())}, values), f.type);
  const auto bits = narrow.data<std::uint16_t>();
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(bits[i], oracle(f, values[i])) << values[i];
}

TEST_P(Half, IntegersAreRoundedOnce) {
  const Format& f = GetParam();
  const std::vector<std::int32_t> values = {0, 1, -1, 2049, 2051, 65519, 65520, -65520, (1 << 24) + (1 << 16) + 1, 2147483647, -2147483647 - 1};
  const Tensor narrow = cast(Tensor::from<std::int32_t>({11}, values), f.type);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(narrow.data<std::uint16_t>()[i], oracle(f, values[i])) << values[i];
}

}  // namespace
}  // namespace nibble
