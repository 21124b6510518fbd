#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "guarded.h"
#include "kernels/requantize/fused.h"

namespace nibble::kernels {
namespace {

// Every accumulator of the interval, against the law by its formula.
void check_all(float multiplier, std::int64_t acc_min, std::int64_t acc_max, std::int32_t low, std::int32_t high) {
  SCOPED_TRACE(testing::Message() << std::hexfloat << multiplier << std::dec << " [" << acc_min << ", " << acc_max << "] to [" << low
                                  << ", " << high << "]");
  const auto fused = fuse_float32(multiplier, acc_min, acc_max, low, high);
  ASSERT_TRUE(fused.has_value());
  for (std::int64_t acc = acc_min; acc <= acc_max; ++acc) {
    const auto as_float = std::bit_cast<float>(static_cast<std::int32_t>(acc) + fused->start);
    const float found = std::nearbyint(std::fma(as_float, multiplier, fused->offset));
    const float product = static_cast<float>(static_cast<std::int32_t>(acc)) * multiplier;
    const auto clamped = [&](float x) { return std::clamp(x, static_cast<float>(low), static_cast<float>(high)); };
    ASSERT_EQ(clamped(found), clamped(std::nearbyint(product))) << acc;
  }
}

TEST(FusedRequantize, EqualsTheLaw) {
  Random random(61);
  for (int i = 0; i < 60; ++i) {
    SCOPED_TRACE(testing::Message() << "seed 61, case " << i);
    float multiplier = std::ldexp(random.real(1, 2), -static_cast<int>(random.in(0, 14)));
    // Few bits: products that are ties.
    if (i % 3 == 0) multiplier = std::bit_cast<float>(std::bit_cast<std::uint32_t>(multiplier) & (~0U << random.in(10, 23)));
    const auto zero_point = static_cast<std::int32_t>(random.in(0, 255));
    check_all(multiplier, -random.in(0, 300000), random.in(0, 300000), -zero_point, 255 - zero_point);
  }
}

TEST(FusedRequantize, WideIntervals) {
  check_all(0x1.23456p-12F, -(1 << 22), (1 << 22) - 2, -128, 127);
  check_all(0x1.fedcbap-9F, -4000000, 300000, -255, 0);
}

TEST(FusedRequantize, Refusals) {
  EXPECT_FALSE(fuse_float32(0.01F, -(1 << 23), 1, 0, 255));  // more than 2^23 accumulators
  EXPECT_FALSE(fuse_float32(0.01F, -10, std::int64_t{1} << 40, 0, 255));
  EXPECT_FALSE(fuse_float32(256.0F, -10, 10, 0, 255));  // could leave int32
  EXPECT_FALSE(fuse_float32(0.0F, -10, 10, 0, 255));
  EXPECT_FALSE(fuse_float32(std::nanf(""), -10, 10, 0, 255));
}

}  // namespace
}  // namespace nibble::kernels
