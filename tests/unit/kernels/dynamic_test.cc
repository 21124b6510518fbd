#include "kernels/dynamic/dynamic.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "conv_oracle.h"
#include "guarded.h"

namespace nibble::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class Dynamic : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isa, Dynamic, testing::ValuesIn(available_isas()), isa_name);

float clip(float x, float lo, float hi) {
  x = x < lo ? lo : x;
  return x > hi ? hi : x;
}

void expect_same(float found, float wanted, std::int64_t i) {
  if (std::isnan(wanted))
    ASSERT_TRUE(std::isnan(found)) << i;
  else
    ASSERT_EQ(found, wanted) << i;
}

TEST_P(Dynamic, MinMax) {
  Random random(39);
  for (std::int64_t n = 0; n <= 50; ++n) {
    Guarded<float> src(n);
    float low = 0, high = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      src[i] = n % 7 == 3 && i % 2 == 0 ? std::numeric_limits<float>::quiet_NaN() : random.real(-5, n % 3 == 0 ? -1.0F : 5.0F);
      if (src[i] < low) low = src[i];
      if (src[i] > high) high = src[i];
    }
    float min = 1, max = -1;
    min_max(GetParam(), src.data(), n, &min, &max);
    ASSERT_EQ(min, low);
    ASSERT_EQ(max, high);
  }
}

TEST_P(Dynamic, Grid) {
  // By hand: (2 + 1) / 255, and 1 / that is 85.
  const Grid8 grid = dynamic_grid({-1.0F, 2.0F});
  EXPECT_EQ(grid.scale, 3.0F / 255.0F);
  EXPECT_EQ(grid.zero_point, 85);
  EXPECT_EQ(grid.qmin, 0);
  EXPECT_EQ(grid.qmax, 255);
  EXPECT_EQ(dynamic_grid({0, 0}).scale, 1.0F);
  EXPECT_EQ(dynamic_grid({0, 0}).zero_point, 0);
  EXPECT_EQ(dynamic_grid({-4.0F, 0}).zero_point, 255);
  // A tie goes to the even integer: 0.5 / (1 / 1) with a width of 255 is 0.
  EXPECT_EQ(dynamic_grid({-0.5F, 254.5F}).zero_point, 0);
  EXPECT_EQ(dynamic_grid({-1.5F, 253.5F}).zero_point, 2);
}

TEST_P(Dynamic, RowsToReals) {
  Random random(51);
  for (std::int64_t n = 1; n <= 50; ++n) {
    SCOPED_TRACE(n);
    const std::int64_t rows = random.in(1, 3), ld_acc = n + random.in(0, 3), ld_dst = n + random.in(0, 3);
    Guarded<std::int32_t> acc((rows - 1) * ld_acc + n);
    for (std::int64_t i = 0; i < acc.size(); ++i)
      acc[i] =
          static_cast<std::int32_t>(random.extreme(std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()));
    Guarded<float> multiplier(n), bias(n), dst((rows - 1) * ld_dst + n);
    for (std::int64_t i = 0; i < n; ++i) {
      multiplier[i] = random.real(1e-6F, 1e-3F);
      bias[i] = n % 5 == 0 && i == 3 ? kNan : random.real(-9, 9);
    }
    for (const bool biased : {false, true})
      for (const auto& [lo, hi] : {std::pair{-kInfinity, kInfinity}, {0.0F, kInfinity}, {0.0F, 6.0F}, {-1.0F, 1.0F}}) {
        FloatRange range{-0.5F, 0.25F};
        FloatRange wanted = range;
        for (std::int64_t i = 0; i < dst.size(); ++i) dst[i] = 77;
        dequantize_rows(GetParam(),
                        {.multiplier = multiplier.data(),
                         .bias = biased ? bias.data() : nullptr,
                         .lo = lo,
                         .hi = hi,
                         .dst = dst.data(),
                         .ld_dst = ld_dst},
                        acc.data(), ld_acc, rows, n, &range);
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t c = 0; c < n; ++c) {
            float x = static_cast<float>(acc[r * ld_acc + c]) * multiplier[c];
            if (biased) x = x + bias[c];
            x = clip(x, lo, hi);
            expect_same(dst[r * ld_dst + c], x, c);
            if (x < wanted.min) wanted.min = x;
            if (x > wanted.max) wanted.max = x;
          }
          for (std::int64_t c = n; r + 1 < rows && c < ld_dst; ++c) ASSERT_EQ(dst[r * ld_dst + c], 77) << "written between rows";
        }
        ASSERT_EQ(range.min, wanted.min);
        ASSERT_EQ(range.max, wanted.max);
      }
  }
}

TEST_P(Dynamic, Sums) {
  Random random(52);
  for (std::int64_t n = 0; n <= 50; ++n) {
    Guarded<float> a(n), b(n), dst(n);
    for (std::int64_t i = 0; i < n; ++i) {
      a[i] = n % 7 == 3 && i == 1 ? kNan : random.real(-5, 5);
      b[i] = random.real(-5, 5);
    }
    FloatRange range;
    FloatRange wanted;
    add_reals(GetParam(), a.data(), b.data(), -1.5F, kInfinity, dst.data(), n, &range);
    for (std::int64_t i = 0; i < n; ++i) {
      const float x = clip(a[i] + b[i], -1.5F, kInfinity);
      expect_same(dst[i], x, i);
      if (x < wanted.min) wanted.min = x;
      if (x > wanted.max) wanted.max = x;
    }
    ASSERT_EQ(range.min, wanted.min);
    ASSERT_EQ(range.max, wanted.max);
    add_reals(GetParam(), a.data(), b.data(), -1.5F, kInfinity, a.data(), n, nullptr);
    for (std::int64_t i = 0; i < n; ++i) expect_same(a[i], dst[i], i);
  }
}

// Convolutions, wide, grouped and depthwise, in any split; weights with zero points and of both signs.
TEST_P(Dynamic, Convolutions) {
  Random random(53);
  for (int i = 0; i < 60; ++i) {
    SCOPED_TRACE(testing::Message() << "seed 53, case " << i);
    const bool depthwise = i % 2 == 1;
    ConvCase c;
    ConvShape& s = c.shape;
    s.groups = depthwise ? random.in(2, 90) : random.in(1, 2);
    s.in_channels = depthwise ? s.groups : s.groups * random.in(1, 20);
    s.out_channels = depthwise ? s.groups : s.groups * random.in(1, 20);
    s.kernel_h = random.in(1, 3);
    s.kernel_w = random.in(1, 3);
    s.stride_h = s.stride_w = random.in(1, 2);
    s.pad_top = s.pad_left = c.pad_bottom = c.pad_right = random.in(0, 1);
    c.batch = random.in(1, 2);
    c.in_h = random.in(4, 9);
    c.in_w = random.in(4, 20);
    c.zero_points = static_cast<int>(random.in(0, 2));
    const std::int64_t ld_src = s.in_channels + random.in(0, 2), ld_dst = s.out_channels + random.in(0, 2);
    Guarded<std::uint8_t> src((c.batch * c.in_h * c.in_w - 1) * ld_src + s.in_channels);
    src.fill(random.bytes(src.size()));
    // As uint8: flipped when packed.
    const auto wei = random.weights(s.out_channels * s.in_channels / s.groups * s.kernel_h * s.kernel_w);
    std::vector<std::int8_t> stored = wei;
    for (auto& w : stored) w = static_cast<std::int8_t>(w ^ -128);
    const auto zw = random.integers(c.zero_points == 0 ? 0 : c.zero_points == 1 ? 1 : s.out_channels, -128, 127);
    const auto zx = static_cast<std::int32_t>(random.extreme(0, 255));
    const auto sums = convolve(c, src.data(), ld_src, wei.data(), zw, {}, zx);
    std::vector<float> multiplier(static_cast<std::size_t>(s.out_channels)), bias(multiplier.size());
    for (std::size_t o = 0; o < bias.size(); ++o) {
      multiplier[o] = random.real(1e-5F, 1e-3F);
      bias[o] = random.real(-2, 2);
    }
    const ConvWeights weights{.wei = stored.data(), .flip = 0x80, .zero_points = zw};
    const std::int64_t units = depthwise ? c.batch * c.out_h() : c.batch * c.out_h() * c.out_w();
    const std::int64_t pixels = c.batch * c.out_h() * c.out_w();
    ConvCall conv_call;
    conv_call.src = src.data();
    conv_call.ld_src = ld_src;
    conv_call.batch = c.batch;
    conv_call.in_h = c.in_h;
    conv_call.in_w = c.in_w;
    conv_call.out_h = c.out_h();
    conv_call.out_w = c.out_w();
    conv_call.dynamic_zero_point = true;
    conv_call.src_zero_point = zx;
    Guarded<float> dst((pixels - 1) * ld_dst + s.out_channels);
    const DequantizeCall call{.multiplier = multiplier.data(), .bias = bias.data(), .lo = 0, .hi = 60, .dst = dst.data(), .ld_dst = ld_dst};
    FloatRange range;
    const std::int64_t split = random.in(0, units);
    const auto run = [&](const auto& packed, std::int64_t scratch_bytes, auto function) {
      Guarded<std::byte> scratch((scratch_bytes + 63) / 64 * 64);
      const std::span<std::byte> memory{scratch.data(), static_cast<std::size_t>(scratch_bytes)};
      FloatRange part;
      function(packed, conv_call, call, 0, split, memory, &range);
      function(packed, conv_call, call, split, units, memory, &part);
      merge(range, part);
    };
    if (depthwise) {
      const PackedDepthwise packed = pack_depthwise(s, weights, GetParam());
      run(packed, dynamic_scratch_bytes(packed, c.in_w, c.out_w()), qconv_depthwise_dynamic);
    } else {
      const PackedConv packed = pack_conv(s, weights, GetParam());
      run(packed, dynamic_scratch_bytes(packed), qconv_dynamic);
    }
    FloatRange wanted;
    for (std::int64_t p = 0; p < pixels; ++p)
      for (std::int64_t o = 0; o < s.out_channels; ++o) {
        const auto channel = static_cast<std::size_t>(o);
        const auto acc = static_cast<std::int32_t>(sums[static_cast<std::size_t>(p * s.out_channels + o)]);
        const float scaled = static_cast<float>(acc) * multiplier[channel];
        const float x = clip(scaled + bias[channel], 0, 60);
        ASSERT_EQ(dst[p * ld_dst + o], x) << "pixel " << p << " channel " << o;
        wanted.max = std::max(wanted.max, x);
      }
    ASSERT_EQ(range.min, wanted.min);
    ASSERT_EQ(range.max, wanted.max);
  }
}

TEST_P(Dynamic, Products) {
  Random random(54);
  for (const std::int64_t rows : {1, 5, 97, 1000}) {
    const std::int64_t n = random.in(1, 70), k = random.in(1, 90);
    Guarded<std::uint8_t> src(rows * k);
    src.fill(random.bytes(src.size()));
    const auto wei = random.weights(k * n);
    const auto zx = static_cast<std::int32_t>(random.extreme(0, 255));
    const PackedGemm packed = pack_gemm({.n = n, .k = k, .wei = wei.data(), .stride_k = n}, GetParam());
    std::vector<std::int32_t> bias(static_cast<std::size_t>(n + kChannelSlack));
    fold_bias(packed, zx, bias.data());
    std::vector<float> multiplier(static_cast<std::size_t>(n));
    for (float& m : multiplier) m = random.real(1e-5F, 1e-3F);
    Guarded<float> dst(rows * n);
    GemmCall gemm;
    gemm.src = src.data();
    gemm.ld_src = k;
    gemm.rows = rows;
    gemm.bias = bias.data();
    const std::int64_t bytes = dynamic_scratch_bytes(packed);
    Guarded<std::byte> scratch((bytes + 63) / 64 * 64);
    FloatRange range;
    qgemm_dynamic(packed, gemm, {.multiplier = multiplier.data(), .dst = dst.data(), .ld_dst = n}, 0, rows,
                  {scratch.data(), static_cast<std::size_t>(bytes)}, &range);
    FloatRange wanted;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < n; ++c) {
        std::int32_t acc = 0;
        for (std::int64_t i = 0; i < k; ++i) acc += (src[r * k + i] - zx) * wei[static_cast<std::size_t>(i * n + c)];
        const float x = static_cast<float>(acc) * multiplier[static_cast<std::size_t>(c)];
        ASSERT_EQ(dst[r * n + c], x) << r << " " << c;
        wanted.min = std::min(wanted.min, x);
        wanted.max = std::max(wanted.max, x);
      }
    ASSERT_EQ(range.min, wanted.min);
    ASSERT_EQ(range.max, wanted.max);
  }
}

}  // namespace
}  // namespace nibble::kernels
