#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "guarded.h"
#include "kernels/layout/layout.h"
#include "kernels/lut/lut.h"
#include "kernels/qadd/qadd.h"
#include "kernels/qpool/qpool.h"
#include "kernels/quantize_linear/quantize_linear.h"
#include "numeric/quantize.h"

namespace nibble::kernels {
namespace {

class Elementwise : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isa, Elementwise, testing::ValuesIn(available_isas()), isa_name);

using Bytes = Guarded<std::uint8_t>;

TEST_P(Elementwise, AddAndMultiply) {
  Random random(31);
  for (int i = 0; i < 300; ++i) {
    const std::int64_t rows = random.in(1, 4), columns = random.in(1, 70), extra = random.in(0, 1) * random.in(0, 5);
    const auto broadcast = static_cast<BroadcastB>(random.in(0, 2));
    const std::int64_t ld = columns + extra;
    Bytes a((rows - 1) * ld + columns),
        b(broadcast == BroadcastB::kNone     ? (rows - 1) * ld + columns
          : broadcast == BroadcastB::kScalar ? 1
                                             : columns),
        dst((rows - 1) * ld + columns);
    a.fill(random.bytes(a.size()));
    b.fill(random.bytes(b.size()));
    BinaryCall call{.a = a.data(),
                    .ld_a = ld,
                    .b = b.data(),
                    .ld_b = ld,
                    .broadcast = broadcast,
                    .dst = dst.data(),
                    .ld_dst = ld,
                    .columns = columns,
                    .grid = {}};
    const auto zero_point = [&](std::int32_t& offset) {
      offset = random.in(0, 1) == 0 ? 128 : 0;
      return static_cast<std::int32_t>(random.extreme(0, 255)) - offset;
    };
    const std::int32_t za = zero_point(call.offset_a), zb = zero_point(call.offset_b), zc = zero_point(call.offset_dst);
    const auto low = random.in(0, 1) * random.in(0, 100);
    call.grid = {
        .zero_point = zc, .qmin = low - call.offset_dst, .qmax = (random.in(0, 1) == 0 ? 255 : random.in(low, 255)) - call.offset_dst};
    const float sa = std::exp(random.real(-4, 4)), sb = std::exp(random.real(-4, 4)), sc = std::exp(random.real(-4, 4));
    const RequantizeLaw law = random.in(0, 1) == 0 ? RequantizeLaw::kFloat32 : RequantizeLaw::kFixedPoint;
    const auto adder = make_adder(law, random.in(0, 1) == 0 ? AddKind::kAdd : AddKind::kSub, sa, za, sb, zb, sc, zc);
    const auto requantizer = make_requantizer(law, sa, sb, sc);
    if (!adder || !requantizer) continue;
    const auto at = [&](std::int64_t r, std::int64_t c) {
      return broadcast == BroadcastB::kNone ? r * ld + c : broadcast == BroadcastB::kScalar ? 0 : c;
    };
    qadd(GetParam(), *adder, call, 0, rows);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c)
        ASSERT_EQ(dst[r * ld + c], (*adder)(a[r * ld + c] - call.offset_a, b[at(r, c)] - call.offset_b, call.grid) + call.offset_dst)
            << "add, seed 31, case " << i << " at " << r << ", " << c;
    qmul(GetParam(), *requantizer, za, zb, call, 0, rows);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c)
        ASSERT_EQ(dst[r * ld + c],
                  multiply_elements(a[r * ld + c] - call.offset_a, za, b[at(r, c)] - call.offset_b, zb, *requantizer, call.grid) +
                      call.offset_dst)
            << "mul, seed 31, case " << i << " at " << r << ", " << c;
  }
}

// Multiplication in integers: every law that has no floats, shifts from where all saturates to where nothing is left, ties, both grids.
TEST_P(Elementwise, MultiplyEveryPairInIntegers) {
  Bytes a(65536), b(65536), dst(65536);
  for (std::int64_t i = 0; i < 65536; ++i) {
    a[i] = static_cast<std::uint8_t>(i);
    b[i] = static_cast<std::uint8_t>(i >> 8);
  }
  std::vector<Requantizer> requantizers;
  for (const int shift : {-70, -31, -30, -3, 0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 61, 62, 63, 90})
    requantizers.push_back({.law = RequantizeLaw::kShift, .fixed = {}, .shift = shift});
  for (const int shift : {1, 2, 23, 31, 32, 37, 38, 39, 46, 47, 48, 61, 62})
    for (const std::int32_t m0 : {1 << 30, (1 << 30) + (1 << 29), std::numeric_limits<std::int32_t>::max()})
      requantizers.push_back({.law = RequantizeLaw::kFixedPoint, .fixed = {.m0 = m0, .shift = shift}});
  int which = 0;
  for (const Requantizer& requantizer : requantizers) {
    // Stored as int8 with 128 added, or as uint8; the zero points at an end and inside.
    const int offset = which % 2 == 0 ? 0 : 128;
    const std::int32_t za = (which % 3 == 0 ? 0 : which % 3 == 1 ? 255 : 119) - offset, zb = 131 - offset;
    const OutputGrid grid = which++ % 4 < 2 ? OutputGrid{.zero_point = 77 - offset, .qmin = 0 - offset, .qmax = 255 - offset}
                                            : OutputGrid{.zero_point = 130 - offset, .qmin = 130 - offset, .qmax = 201 - offset};
    const BinaryCall call{.a = a.data(),
                          .ld_a = 256,
                          .b = b.data(),
                          .ld_b = 256,
                          .dst = dst.data(),
                          .ld_dst = 256,
                          .columns = 256,
                          .offset_a = offset,
                          .offset_b = offset,
                          .offset_dst = offset,
                          .grid = grid};
    qmul(GetParam(), requantizer, za, zb, call, 0, 256);
    for (std::int64_t i = 0; i < 65536; ++i)
      ASSERT_EQ(dst[i] - offset, multiply_elements(a[i] - offset, za, b[i] - offset, zb, requantizer, grid))
          << +a[i] << " * " << +b[i] << ", shift " << requantizer.shift << ", m0 " << requantizer.fixed.m0 << " 2^-"
          << requantizer.fixed.shift << ", zero point " << za;
  }
}

// All 65536 pairs of one addition with the zero point inside of the sum.
TEST_P(Elementwise, AddEveryPair) {
  Bytes a(65536), b(65536), dst(65536);
  for (std::int64_t i = 0; i < 65536; ++i) {
    a[i] = static_cast<std::uint8_t>(i);
    b[i] = static_cast<std::uint8_t>(i >> 8);
  }
  for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint}) {
    const auto adder = make_adder(law, AddKind::kAdd, 0.0471F, 10, 0.0321F, 128, 0.0547F, 77);
    const BinaryCall call{
        .a = a.data(), .ld_a = 256, .b = b.data(), .ld_b = 256, .dst = dst.data(), .ld_dst = 256, .columns = 256, .grid = {77, 0, 255}};
    qadd(GetParam(), *adder, call, 0, 256);
    for (std::int64_t i = 0; i < 65536; ++i) ASSERT_EQ(dst[i], (*adder)(a[i], b[i], call.grid)) << +a[i] << " + " << +b[i];
  }
}

TEST_P(Elementwise, Lut) {
  Random random(32);
  std::vector<std::uint8_t> table(256);
  for (auto& v : table) v = static_cast<std::uint8_t>(random.in(0, 255));
  for (std::int64_t n = 0; n <= 300; ++n) {
    Bytes src(n), dst(n);
    for (std::int64_t i = 0; i < n; ++i) src[i] = static_cast<std::uint8_t>(n == 300 ? i : random.in(0, 255));
    lut(GetParam(), table.data(), src.data(), dst.data(), n);
    for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(dst[i], table[src[i]]) << "n " << n << " at " << i;
  }
}

TEST_P(Elementwise, QuantizeAndDequantize) {
  Random random(33);
  const float specials[] = {0.0F,
                            -0.0F,
                            std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(),
                            1e38F,
                            -1e38F,
                            1e-45F,
                            0.5F,
                            1.5F,
                            2.5F,
                            -0.5F};
  for (std::int64_t n = 1; n <= 70; ++n) {
    Guarded<float> src(n), back(n);
    Bytes dst(n);
    const OutputGrid g = random_grid(random);
    const Grid8 grid{.scale = random.in(0, 1) == 0 ? 1.0F : random.real(0.001F, 2.0F),
                     .zero_point = g.zero_point,
                     .qmin = static_cast<std::int32_t>(g.qmin),
                     .qmax = static_cast<std::int32_t>(g.qmax)};
    for (std::int64_t i = 0; i < n; ++i) src[i] = random.in(0, 3) == 0 ? specials[random.in(0, 11)] : random.real(-200, 200) * grid.scale;
    quantize_linear(GetParam(), grid, src.data(), dst.data(), n);
    for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(dst[i], quantize(src[i], grid.scale, grid.zero_point, grid.qmin, grid.qmax)) << src[i];
    dequantize_linear(GetParam(), grid.scale, grid.zero_point, dst.data(), back.data(), n);
    for (std::int64_t i = 0; i < n; ++i) ASSERT_EQ(back[i], dequantize(dst[i], grid.scale, grid.zero_point));
  }
}

// The division must be the correctly rounded one: values within a few units in the last place of every tie, many scales, also those with
// extreme exponents and a mantissa of all ones.
TEST_P(Elementwise, QuantizeAroundTies) {
  Random random(38);
  std::vector<float> src;
  std::vector<std::uint8_t> dst;
  for (int i = 0; i < 400; ++i) {
    float scale = std::ldexp(random.real(1.0F, 2.0F), static_cast<int>(random.in(-20, 8)));
    if (i % 20 == 0) scale = std::ldexp(random.real(1.0F, 2.0F), static_cast<int>(random.in(-126, 100)));
    if (i % 20 == 1) scale = std::nextafter(std::ldexp(1.0F, static_cast<int>(random.in(-10, 10))), 0.0F);
    if (i % 20 == 2) scale = 1e-45F;
    const Grid8 grid{.scale = scale, .zero_point = static_cast<std::int32_t>(random.in(0, 255))};
    src.clear();
    for (int k = -260; k <= 260; ++k) {
      float x = (static_cast<float>(k) + 0.5F) * scale;
      for (int up = 0; up < 2; ++up) x = std::nextafter(x, -INFINITY);
      for (int step = 0; step < 5; ++step) {
        src.push_back(x);
        x = std::nextafter(x, INFINITY);
      }
    }
    dst.resize(src.size());
    quantize_linear(GetParam(), grid, src.data(), dst.data(), static_cast<std::int64_t>(src.size()));
    for (std::size_t at = 0; at < src.size(); ++at)
      ASSERT_EQ(dst[at], quantize(src[at], scale, grid.zero_point, 0, 255)) << src[at] << " / " << scale;
  }
}

TEST_P(Elementwise, DequantizeIntegersAndChannels) {
  Random random(40);
  const auto acc = random.integers(5 * 9, -1000000, 1000000);
  const auto zero_points = random.integers(9, -100, 100);
  std::vector<float> scale(9), bias(9), dst(5 * 9), expected(5 * 9);
  for (std::size_t c = 0; c < 9; ++c) {
    scale[c] = random.real(0.001F, 1.0F);
    bias[c] = random.real(-3, 3);
  }
  dequantize_channels(GetParam(), scale.data(), zero_points.data(), bias.data(), acc.data(), 9, dst.data(), 9, 5, 9);
  for (std::size_t i = 0; i < 45; ++i) {
    const float x = static_cast<float>(acc[i] - zero_points[i % 9]) * scale[i % 9];
    ASSERT_EQ(dst[i], x + bias[i % 9]);
  }
  dequantize_linear(GetParam(), 0.37F, 11, acc.data(), dst.data(), 45);
  for (std::size_t i = 0; i < 45; ++i) ASSERT_EQ(dst[i], dequantize(acc[i], 0.37F, 11));
  std::vector<std::uint8_t> q = random.bytes(45), flipped(45);
  dequantize_channels(GetParam(), scale.data(), zero_points.data(), q.data(), 9, dst.data(), 9, 5, 9);
  for (std::size_t i = 0; i < 45; ++i) ASSERT_EQ(dst[i], dequantize(q[i], scale[i % 9], zero_points[i % 9]));
  flip_sign(GetParam(), q.data(), flipped.data(), 45);
  for (std::size_t i = 0; i < 45; ++i) ASSERT_EQ(static_cast<int>(static_cast<std::int8_t>(flipped[i])), q[i] - 128);
}

TEST_P(Elementwise, LayoutsWithQuantization) {
  Random random(34);
  for (const std::int64_t channels : {1, 3, 4, 16, 65})
    for (const std::int64_t pixels : {1, 15, 64, 131}) {
      const std::int64_t batch = 2, ld = channels + channels % 2;
      Guarded<float> src(batch * channels * pixels), back(batch * channels * pixels);
      for (std::int64_t i = 0; i < src.size(); ++i) src[i] = random.real(-2, 2);
      Bytes dst((batch * pixels - 1) * ld + channels);
      const Grid8 grid{.scale = 0.017F, .zero_point = 119};
      const std::int64_t split = random.in(0, batch * pixels);
      quantize_nchw_to_nhwc(GetParam(), grid, src.data(), channels, pixels, dst.data(), ld, 0, split);
      quantize_nchw_to_nhwc(GetParam(), grid, src.data(), channels, pixels, dst.data(), ld, split, batch * pixels);
      for (std::int64_t b = 0; b < batch; ++b) {
        for (std::int64_t c = 0; c < channels; ++c)
          for (std::int64_t p = 0; p < pixels; ++p)
            ASSERT_EQ(dst[(b * pixels + p) * ld + c], quantize(src[(b * channels + c) * pixels + p], grid.scale, grid.zero_point, 0, 255))
                << channels << " x " << pixels;
        const std::int64_t at = random.in(0, pixels);
        float* image = back.data() + b * channels * pixels;
        const std::uint8_t* from = dst.data() + b * pixels * ld;
        dequantize_nhwc_to_nchw(GetParam(), grid.scale, grid.zero_point, from, ld, channels, pixels, image, 0, at);
        dequantize_nhwc_to_nchw(GetParam(), grid.scale, grid.zero_point, from, ld, channels, pixels, image, at, pixels);
        for (std::int64_t c = 0; c < channels; ++c)
          for (std::int64_t p = 0; p < pixels; ++p)
            ASSERT_EQ(image[c * pixels + p], dequantize(from[p * ld + c], grid.scale, grid.zero_point));
      }
    }
}

TEST_P(Elementwise, Transposes) {
  Random random(35);
  for (const std::int64_t channels : {1, 3, 7, 16, 33, 64})
    for (const std::int64_t pixels : {1, 5, 16, 49, 100}) {
      Bytes src(2 * channels * pixels), nhwc(2 * channels * pixels), back(2 * channels * pixels);
      src.fill(random.bytes(src.size()));
      nchw_to_nhwc(GetParam(), src.data(), 2, channels, pixels, nhwc.data(), channels);
      for (std::int64_t b = 0; b < 2; ++b)
        for (std::int64_t c = 0; c < channels; ++c)
          for (std::int64_t p = 0; p < pixels; ++p) ASSERT_EQ(nhwc[(b * pixels + p) * channels + c], src[(b * channels + c) * pixels + p]);
      nhwc_to_nchw(GetParam(), nhwc.data(), channels, 2, channels, pixels, back.data());
      for (std::int64_t i = 0; i < src.size(); ++i) ASSERT_EQ(back[i], src[i]);
    }
}

TEST_P(Elementwise, Pools) {
  Random random(36);
  for (int i = 0; i < 200; ++i) {
    PoolCall p;
    p.channels = random.in(1, 130);
    p.batch = random.in(1, 2);
    p.kernel_h = random.in(1, 3);
    p.kernel_w = random.in(1, 3);
    p.stride_h = random.in(1, 3);
    p.stride_w = random.in(1, 3);
    p.dilation_h = random.in(1, 2);
    p.dilation_w = random.in(1, 2);
    p.in_h = random.in(5, 9);
    p.in_w = random.in(5, 9);
    p.pad_top = random.in(0, p.kernel_h - 1);
    p.pad_left = random.in(0, p.kernel_w - 1);
    p.pad_bottom = random.in(0, p.kernel_h - 1);
    p.pad_right = random.in(0, p.kernel_w - 1);
    if (i % 7 == 0) {  // global
      p.kernel_h = p.in_h;
      p.kernel_w = p.in_w;
      p.dilation_h = p.dilation_w = 1;
      p.pad_top = p.pad_left = p.pad_bottom = p.pad_right = 0;
    }
    const bool ceil = random.in(0, 1) == 1;  // windows may then begin inside and end past the padding
    p.out_h = (p.in_h + p.pad_top + p.pad_bottom - p.dilation_h * (p.kernel_h - 1) - 1 + (ceil ? p.stride_h - 1 : 0)) / p.stride_h + 1;
    p.out_w = (p.in_w + p.pad_left + p.pad_right - p.dilation_w * (p.kernel_w - 1) - 1 + (ceil ? p.stride_w - 1 : 0)) / p.stride_w + 1;
    p.ld_src = p.channels + random.in(0, 3);
    p.ld_dst = p.channels + random.in(0, 3);
    Bytes src((p.batch * p.in_h * p.in_w - 1) * p.ld_src + p.channels), dst((p.batch * p.out_h * p.out_w - 1) * p.ld_dst + p.channels);
    src.fill(random.bytes(src.size()));
    p.src = src.data();
    p.dst = dst.data();
    const std::int32_t zx = static_cast<std::int32_t>(random.in(0, 255));
    const OutputGrid grid = random_grid(random);
    const auto requantizers =
        random_requantizers(random, kLaws[random.in(0, 2)], p.kernel_h * p.kernel_w, 200.0F * static_cast<float>(p.kernel_h * p.kernel_w));
    const RequantizeTable table(requantizers, p.kernel_h * p.kernel_w, grid);
    for (const int kind : {0, 1, 2}) {
      const std::int64_t rows = p.batch * p.out_h, split = random.in(0, rows);
      for (const auto& [begin, end] : {std::pair{std::int64_t{0}, split}, std::pair{split, rows}}) {
        if (kind == 0)
          qpool_max(GetParam(), p, static_cast<std::int32_t>(grid.qmin), static_cast<std::int32_t>(grid.qmax), begin, end);
        else
          qpool_average(GetParam(), p, zx, kind == 1 ? PadCount::kExclude : PadCount::kInclude, table.view(), begin, end);
      }
      for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t ow = 0; ow < p.out_w; ++ow)
          for (std::int64_t c = 0; c < p.channels; ++c) {
            std::int64_t best = grid.qmin, sum = 0, inside = 0, padded = 0;
            for (std::int64_t kh = 0; kh < p.kernel_h; ++kh)
              for (std::int64_t kw = 0; kw < p.kernel_w; ++kw) {
                const std::int64_t ih = row % p.out_h * p.stride_h + kh * p.dilation_h - p.pad_top,
                                   iw = ow * p.stride_w + kw * p.dilation_w - p.pad_left;
                if (ih >= p.in_h + p.pad_bottom || iw >= p.in_w + p.pad_right) continue;
                ++padded;
                if (ih < 0 || iw < 0 || ih >= p.in_h || iw >= p.in_w) continue;
                ++inside;
                const std::int64_t q = src[((row / p.out_h * p.in_h + ih) * p.in_w + iw) * p.ld_src + c];
                best = std::max(best, q);
                sum += q - zx;
              }
            const std::int64_t count = std::max<std::int64_t>(1, kind == 2 ? padded : inside);
            const std::int64_t expected =
                kind == 0 ? std::min(best, grid.qmax) : requantizers[static_cast<std::size_t>(count - 1)](sum, grid);
            ASSERT_EQ(dst[(row * p.out_w + ow) * p.ld_dst + c], expected)
                << "seed 36, case " << i << " kind " << kind << " at " << row << ", " << ow << ", " << c;
          }
    }
  }
}

TEST(Layout, PadResizeCopy) {
  Random random(37);
  const auto src = random.bytes(2 * 3 * 4 * 5);
  std::vector<std::uint8_t> dst(2 * 6 * 6 * 5);
  pad_nhwc({.src = src.data(),
            .ld_src = 5,
            .dst = dst.data(),
            .ld_dst = 5,
            .batch = 2,
            .in_h = 3,
            .in_w = 4,
            .out_h = 6,
            .out_w = 6,
            .channels = 5,
            .pad_top = 2,
            .pad_left = -1,
            .value = 9},
           0, 12);
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t y = 0; y < 6; ++y)
      for (std::size_t x = 0; x < 6; ++x)
        for (std::size_t c = 0; c < 5; ++c) {
          const bool inside = y >= 2 && y < 5 && x < 3;
          ASSERT_EQ(dst[((b * 6 + y) * 6 + x) * 5 + c], inside ? src[((b * 3 + y - 2) * 4 + x + 1) * 5 + c] : 9);
        }
  const std::int32_t rows[] = {0, 0, 1, 2, 2, 2}, columns[] = {3, 2, 2, 1, 0, 0};
  resize_nearest_nhwc({.src = src.data(),
                       .ld_src = 5,
                       .dst = dst.data(),
                       .ld_dst = 5,
                       .batch = 2,
                       .in_h = 3,
                       .in_w = 4,
                       .out_h = 6,
                       .out_w = 6,
                       .channels = 5,
                       .index_h = rows,
                       .index_w = columns},
                      0, 12);
  for (std::size_t b = 0; b < 2; ++b)
    for (std::size_t y = 0; y < 6; ++y)
      for (std::size_t x = 0; x < 6; ++x)
        for (std::size_t c = 0; c < 5; ++c)
          ASSERT_EQ(dst[((b * 6 + y) * 6 + x) * 5 + c],
                    src[((b * 3 + static_cast<std::size_t>(rows[y])) * 4 + static_cast<std::size_t>(columns[x])) * 5 + c]);
  std::vector<std::uint8_t> wide(24 * 7, 1);
  copy_rows(src.data(), 5, wide.data() + 2, 7, 5, 0, 24);
  for (std::size_t r = 0; r < 24; ++r) {
    for (std::size_t c = 0; c < 5; ++c) ASSERT_EQ(wide[r * 7 + 2 + c], src[r * 5 + c]);
    ASSERT_EQ(wide[r * 7], 1);
  }
}

}  // namespace
}  // namespace nibble::kernels
