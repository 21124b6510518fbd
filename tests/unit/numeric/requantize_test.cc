// The three laws against exact arithmetic: ties, multipliers of 1 and more, the order of the clamp, random values.
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <limits>
#include <random>

#include "numeric/qparams.h"
#include "numeric/quantize.h"
#include "numeric/requantize.h"

namespace nibble {
namespace {

constexpr OutputGrid kU8{.zero_point = 10, .qmin = 0, .qmax = 255};
constexpr OutputGrid kWide{.zero_point = 0, .qmin = -(std::int64_t{1} << 40), .qmax = std::int64_t{1} << 40};

TEST(PowerOfTwoScales, CoverTheRangeAndHoldZero) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 2000; ++i) {
    const double lo = -std::ldexp(static_cast<double>(random() >> 11) * 0x1p-53, static_cast<int>(random() % 20) - 10);
    const double hi = std::ldexp(static_cast<double>(random() >> 11) * 0x1p-53, static_cast<int>(random() % 20) - 10);
    const QuantType type{.bit_width = 2 + static_cast<int>(random() % 15), .is_signed = random() % 2 == 0};
    for (const bool symmetric : {false, true}) {
      const ScaleZeroPoint any = choose_qparams(lo, hi, type, symmetric);
      const ScaleZeroPoint q = choose_qparams(lo, hi, type, symmetric, Scales::kPowersOfTwo);
      int exponent = 0;
      ASSERT_EQ(std::frexp(q.scale, &exponent), 0.5F);
      ASSERT_GE(q.scale, any.scale);
      ASSERT_LT(q.scale, 2 * any.scale);
      ASSERT_EQ(fake_quantize(0.0F, q.scale, q.zero_point, type.qmin(), type.qmax()), 0.0F);
      // The ends move by half a step at most; the full symmetric range clips its top by one.
      const double slack = static_cast<double>(q.scale) * (symmetric ? 1.01 : 0.51);
      ASSERT_LE(static_cast<double>(dequantize(type.qmin(), q.scale, q.zero_point)), lo + slack);
      ASSERT_GE(static_cast<double>(dequantize(type.qmax(), q.scale, q.zero_point)), hi - slack);
    }
  }
}

TEST(RequantizeFloat32, TiesGoToEven) {
  EXPECT_EQ(requantize_float32(1, 0.5F, kU8), 10);   // 0.5 -> 0
  EXPECT_EQ(requantize_float32(3, 0.5F, kU8), 12);   // 1.5 -> 2
  EXPECT_EQ(requantize_float32(5, 0.5F, kU8), 12);   // 2.5 -> 2
  EXPECT_EQ(requantize_float32(-1, 0.5F, kU8), 10);  // -0.5 -> 0
  EXPECT_EQ(requantize_float32(-3, 0.5F, kU8), 8);   // -1.5 -> -2
}

TEST(RequantizeFixedPoint, TiesGoUpward) {
  const auto half = fixed_point_multiplier(0.5);
  ASSERT_TRUE(half);
  EXPECT_EQ(half->m0, 1 << 30);
  EXPECT_EQ(half->shift, 31);
  EXPECT_EQ(requantize_fixed_point(1, *half, kU8), 11);   // 0.5 -> 1
  EXPECT_EQ(requantize_fixed_point(3, *half, kU8), 12);   // 1.5 -> 2
  EXPECT_EQ(requantize_fixed_point(5, *half, kU8), 13);   // 2.5 -> 3
  EXPECT_EQ(requantize_fixed_point(-1, *half, kU8), 10);  // -0.5 -> 0
  EXPECT_EQ(requantize_fixed_point(-3, *half, kU8), 9);   // -1.5 -> -1
}

TEST(RequantizeShift, TiesGoUpwardAndNegativeShiftsMultiply) {
  EXPECT_EQ(requantize_shift(1, 1, kU8), 11);
  EXPECT_EQ(requantize_shift(-1, 1, kU8), 10);
  EXPECT_EQ(requantize_shift(-3, 1, kU8), 9);
  EXPECT_EQ(requantize_shift(7, 0, kU8), 17);
  EXPECT_EQ(requantize_shift(3, -2, kU8), 22);
  EXPECT_EQ(requantize_shift(std::numeric_limits<std::int32_t>::max(), 62, kU8), 10);
  EXPECT_EQ(requantize_shift(1, -62, kU8), 255);
  EXPECT_EQ(shift_of(0.25), 2);
  EXPECT_EQ(shift_of(1.0), 0);
  EXPECT_EQ(shift_of(8.0), -3);
  EXPECT_EQ(shift_of(0.3), std::nullopt);
  EXPECT_EQ(shift_of(-0.5), std::nullopt);
}

TEST(Requantize, MultipliersOfOneAndMore) {
  for (const double m : {1.0, 1.5, 3.0, 1000.0}) {
    const auto fixed = fixed_point_multiplier(m);
    ASSERT_TRUE(fixed) << m;
    EXPECT_EQ(requantize_fixed_point(7, *fixed, kWide), std::llround(7 * m)) << m;
    EXPECT_EQ(requantize_float32(7, static_cast<float>(m), kWide), std::llrint(7 * m)) << m;
  }
}

TEST(Requantize, FixedPointRefusesWhatItCannotHold) {
  EXPECT_TRUE(fixed_point_multiplier(std::ldexp(1.0, -32)));
  EXPECT_FALSE(fixed_point_multiplier(std::ldexp(0.99, -32)));
  EXPECT_TRUE(fixed_point_multiplier(std::ldexp(0.99, 30)));
  EXPECT_FALSE(fixed_point_multiplier(std::ldexp(1.0, 30)));
  EXPECT_FALSE(fixed_point_multiplier(0));
  EXPECT_FALSE(fixed_point_multiplier(-1));
  EXPECT_FALSE(fixed_point_multiplier(std::numeric_limits<double>::infinity()));
  EXPECT_FALSE(fixed_point_multiplier(std::numeric_limits<double>::quiet_NaN()));
}

TEST(Requantize, MultiplierJustBelowAPowerOfTwoRoundsUpToIt) {
  const auto m = fixed_point_multiplier(std::nextafter(1.0, 0.0));
  ASSERT_TRUE(m);
  EXPECT_EQ(m->m0, 1 << 30);
  EXPECT_EQ(m->shift, 30);
}

TEST(Requantize, ZeroPointComesBeforeTheClamp) {
  // 250 + 10 clamps; -20 + 10 clamps; -5 + 10 does not.
  EXPECT_EQ(requantize_float32(250, 1.0F, kU8), 255);
  EXPECT_EQ(requantize_float32(-20, 1.0F, kU8), 0);
  EXPECT_EQ(requantize_float32(-5, 1.0F, kU8), 5);
  const auto one = fixed_point_multiplier(1.0);
  EXPECT_EQ(requantize_fixed_point(250, *one, kU8), 255);
  EXPECT_EQ(requantize_fixed_point(-20, *one, kU8), 0);
  EXPECT_EQ(requantize_shift(250, 0, kU8), 255);
}

TEST(Requantize, ExtremeAccumulatorsDoNotOverflow) {
  for (const std::int64_t acc : {std::int64_t{std::numeric_limits<std::int32_t>::min()}, std::int64_t{std::numeric_limits<std::int32_t>::max()}}) {
    for (const double m : {1e-9, 0.5, 1.0, 5e8}) {
      EXPECT_EQ(requantize_fixed_point(acc, *fixed_point_multiplier(m), kU8), acc < 0 ? (m < 1e-8 ? 8 : 0) : (m < 1e-8 ? 12 : 255)) << acc << " " << m;
      EXPECT_EQ(requantize_float32(acc, static_cast<float>(m), kU8), acc < 0 ? (m < 1e-8 ? 8 : 0) : (m < 1e-8 ? 12 : 255)) << acc << " " << m;
    }
  }
  EXPECT_EQ(requantize_float32(1, std::numeric_limits<float>::max(), kU8), 255);
}

TEST(Requantize, FixedPointEqualsExactArithmetic) {
  const std::uint64_t seed = 20;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 20000; ++i) {
    const auto acc = static_cast<std::int32_t>(random());
    const double m = std::ldexp(0.5 + 0.5 * static_cast<double>(random() >> 11) * 0x1p-53, static_cast<int>(random() % 50) - 30);
    const auto fixed = fixed_point_multiplier(m);
    ASSERT_TRUE(fixed);
    ASSERT_GE(fixed->m0, 1 << 30);
    // long double holds acc m0 (62 bits) exactly; floor(x + 1/2) is the rounding with ties upward.
    const long double exact = std::floor(std::ldexp(static_cast<long double>(acc) * fixed->m0, -fixed->shift) + 0.5L);
    const long double clamped = std::fmin(std::fmax(exact, -1e12L), 1e12L);
    const OutputGrid grid{.zero_point = 0, .qmin = -1000000000000, .qmax = 1000000000000};
    ASSERT_EQ(requantize_fixed_point(acc, *fixed, grid), static_cast<std::int64_t>(clamped)) << acc << " * " << m;
    // And the multiplier itself is within half a unit of its 31 bits.
    ASSERT_LE(std::abs(std::ldexp(static_cast<double>(fixed->m0), -fixed->shift) / m - 1.0), 0x1p-31);
  }
}

TEST(Adder, Float32IsTheFusedFormula) {
  const auto adder = make_adder(RequantizeLaw::kFloat32, AddKind::kAdd, 0.5F, 3, 0.25F, 7, 0.125F, 10);
  ASSERT_TRUE(adder);
  // (a - 3) 4 + (b - 7) 2 + 10
  EXPECT_EQ((*adder)(5, 9, kU8), 22);
  EXPECT_EQ((*adder)(255, 255, kU8), 255);
  const auto sub = make_adder(RequantizeLaw::kFloat32, AddKind::kSub, 0.5F, 3, 0.25F, 7, 0.125F, 10);
  EXPECT_EQ((*sub)(5, 9, kU8), 14);
}

TEST(Adder, FixedPointIsWithinItsMultipliersError) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 2000; ++i) {
    const auto draw = [&] { return 0.001F + static_cast<float>(random() % 1000) * 0.001F; };
    const float sa = draw();
    const float sb = draw();
    const float sc = draw();
    const auto za = static_cast<std::int32_t>(random() % 256);
    const auto zb = static_cast<std::int32_t>(random() % 256);
    const auto kind = i % 2 == 0 ? AddKind::kAdd : AddKind::kSub;
    const auto adder = make_adder(RequantizeLaw::kFixedPoint, kind, sa, za, sb, zb, sc, 0);
    ASSERT_TRUE(adder);
    const auto a = static_cast<std::int64_t>(random() % 256);
    const auto b = static_cast<std::int64_t>(random() % 256);
    const double exact = (static_cast<double>(a - za) * static_cast<double>(sa) + (kind == AddKind::kAdd ? 1 : -1) * static_cast<double>(b - zb) * static_cast<double>(sb)) / static_cast<double>(sc);
    // Each multiplier is off by at most half of 2^-20 of the larger one.
    const double tolerance = 0.5 + 2 * 255 * 0x1p-21 * static_cast<double>(std::max(sa, sb) / sc) + 1e-6;
    EXPECT_NEAR(static_cast<double>((*adder)(a, b, kWide)), exact, tolerance);
  }
}

TEST(Multiply, AddsTheZeroPointBeforeRounding) {
  const auto r = make_requantizer(RequantizeLaw::kFloat32, 0.5F, 0.5F, 0.5F);
  // p = 1: 0.5 + 11 = 11.5 -> 12 (even), where rounding first would give 0 + 11.
  EXPECT_EQ(multiply_elements(1, 0, 1, 0, *r, {.zero_point = 11, .qmin = 0, .qmax = 255}), 12);
}

TEST(Quantize, TiesClampsAndNaN) {
  EXPECT_EQ(quantize(0.5F, 1.0F, 0, -128, 127), 0);
  EXPECT_EQ(quantize(1.5F, 1.0F, 0, -128, 127), 2);
  EXPECT_EQ(quantize(-2.5F, 1.0F, 0, -128, 127), -2);
  EXPECT_EQ(quantize(1e30F, 1.0F, 5, 0, 255), 255);
  EXPECT_EQ(quantize(-1e30F, 1.0F, 5, 0, 255), 0);
  EXPECT_EQ(quantize(std::numeric_limits<float>::infinity(), 1.0F, 5, 0, 255), 255);
  EXPECT_EQ(quantize(std::numeric_limits<float>::quiet_NaN(), 1.0F, 5, 0, 255), 0);
  EXPECT_EQ(quantize(0.0F, 0.1F, 77, 0, 255), 77);
}

TEST(Quantize, RoundTripIsWithinHalfAStepAtEveryWidth) {
  std::mt19937 random(9);
  for (int bits = 1; bits <= 16; ++bits) {
    for (const bool is_signed : {false, true}) {
      for (const bool narrow : {false, true}) {
        if (narrow && (!is_signed || bits == 1)) continue;
        const QuantType type{.bit_width = bits, .is_signed = is_signed, .narrow_range = narrow};
        EXPECT_LT(type.qmin(), type.qmax());
        const ScaleZeroPoint p = choose_qparams_affine(-0.7, 1.9, type);
        EXPECT_EQ(fake_quantize(0.0F, p.scale, p.zero_point, type.qmin(), type.qmax()), 0.0F) << bits;
        for (int i = 0; i < 50; ++i) {
          const float x = -0.7F + 2.6F * static_cast<float>(random() >> 8) * 0x1p-24F;
          // Half a step inside; the zero point's rounding moves the ends of the range by up to another half.
          EXPECT_LE(std::abs(fake_quantize(x, p.scale, p.zero_point, type.qmin(), type.qmax()) - x), 1.0001F * p.scale) << bits;
        }
      }
    }
  }
}

TEST(ChooseQparams, DegenerateRangesAreSafe) {
  const QuantType u8{};
  EXPECT_EQ(choose_qparams_affine(0, 0, u8), (ScaleZeroPoint{1.0F, 0}));
  EXPECT_EQ(choose_qparams_symmetric(0, 0, {.bit_width = 8, .is_signed = true}), (ScaleZeroPoint{1.0F, 0}));
  EXPECT_GE(choose_qparams_affine(0, 1e-44, u8).scale, FLT_MIN);
  EXPECT_TRUE(std::isfinite(choose_qparams_affine(-1e38, 3e38, u8).scale));
  // All on one side: 0 is in the grid.
  EXPECT_EQ(choose_qparams_affine(3, 5, u8).zero_point, 0);
  EXPECT_EQ(choose_qparams_affine(-5, -3, u8).zero_point, 255);
}

TEST(ChooseQparams, UnsignedSymmetric) {
  const QuantType u8{};
  EXPECT_EQ(choose_qparams_symmetric(0, 2.55, u8), (ScaleZeroPoint{0.01F, 0}));
  EXPECT_EQ(choose_qparams_symmetric(-1.27, 1, u8), (ScaleZeroPoint{0.01F, 128}));
}

TEST(ChooseQparams, PowersOfTwo) {
  EXPECT_EQ(power_of_two_scale(0.25F), 0.25F);
  EXPECT_EQ(power_of_two_scale(0.26F), 0.5F);
  EXPECT_EQ(power_of_two_scale(3.0F), 4.0F);
  EXPECT_EQ(fixed_point_scale(3), 0.125F);
  EXPECT_EQ(fixed_point_scale(-2), 4.0F);
}

TEST(Granularity, ScaleIndex) {
  const Granularity block = PerBlock{.axis = 1, .block_size = 2};
  const std::vector<std::int64_t> shape = {2, 5, 3};
  EXPECT_EQ(scale_count(block, shape), 2 * 3 * 3);
  EXPECT_EQ(scale_count(PerChannel{.axis = 1}, shape), 5);
  QuantParams params;
  params.granularity = PerChannel{.axis = 1};
  EXPECT_EQ(scale_index(params, shape, 2 * 3 + 1), 2U);
  EXPECT_EQ(scale_index(params, shape, 15 + 4 * 3), 4U);
  params.granularity = block;
  EXPECT_EQ(scale_index(params, shape, 0), 0U);
  EXPECT_EQ(scale_index(params, shape, 1 * 3 + 2), 2U);   // row 1 is in block 0
  EXPECT_EQ(scale_index(params, shape, 4 * 3 + 1), 7U);   // row 4 is alone in block 2
  EXPECT_EQ(scale_index(params, shape, 15), 9U);
}

TEST(Granularity, WholeTensors) {
  QuantParams params{.type = {.bit_width = 8, .is_signed = true}, .granularity = PerChannel{.axis = 0}, .scale = {1.0F, 0.5F}, .zero_point = {0, 1}};
  const std::vector<float> x = {1, 2, 3, 1, 2, 3};
  std::vector<std::int32_t> q(6);
  quantize(x, std::vector<std::int64_t>{2, 3}, params, q);
  EXPECT_EQ(q, (std::vector<std::int32_t>{1, 2, 3, 3, 5, 7}));
  std::vector<float> back(6);
  dequantize(q, std::vector<std::int64_t>{2, 3}, params, back);
  EXPECT_EQ(back, x);
}

}  // namespace
}  // namespace nibble
