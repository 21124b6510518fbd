#include "kernels/qconv/qconv.h"

#include <gtest/gtest.h>

#include "conv_oracle.h"
#include "guarded.h"
#include "kernels/qconv/amx.h"

namespace nibble::kernels {
namespace {

void check(Isa isa, const ConvCase& c, Random& random) {
  const ConvShape& s = c.shape;
  SCOPED_TRACE(testing::Message() << to_string(isa) << " C " << s.in_channels << " O " << s.out_channels << " groups " << s.groups
                                  << " kernel " << s.kernel_h << "x" << s.kernel_w << " stride " << s.stride_h << "x" << s.stride_w
                                  << " dilation " << s.dilation_h << "x" << s.dilation_w << " pads " << s.pad_top << " " << s.pad_left
                                  << " " << c.pad_bottom << " " << c.pad_right << " image " << c.batch << "x" << c.in_h << "x" << c.in_w
                                  << " law " << to_string(c.law) << " zero points " << c.zero_points);
  ASSERT_GT(c.out_h(), 0);
  ASSERT_GT(c.out_w(), 0);
  const std::int64_t ld_src = s.in_channels + c.extra_src;
  const std::int64_t ld_dst = s.out_channels + c.extra_dst;
  const std::int64_t in_pixels = c.batch * c.in_h * c.in_w;
  const std::int64_t pixels = c.batch * c.out_h() * c.out_w();
  using Bytes = Guarded<std::uint8_t>;
  Bytes src((in_pixels - 1) * ld_src + s.in_channels, random.in(0, 1) == 0 ? Bytes::Side::kEnd : Bytes::Side::kBegin);
  src.fill(random.bytes(src.size()));
  Guarded<std::int8_t> wei(s.out_channels * s.in_channels / s.groups * s.kernel_h * s.kernel_w);
  wei.fill(random.weights(wei.size()));
  const auto zw = random.integers(c.zero_points == 0 ? 0 : c.zero_points == 1 ? 1 : s.out_channels, -128, 127);
  const auto bias = random.integers(random.in(0, 3) == 0 ? 0 : s.out_channels, -100000, 100000);
  const auto zx = static_cast<std::int32_t>(random.extreme(0, 255));
  const auto expected = convolve(c, src.data(), ld_src, wei.data(), zw, bias, zx);

  const bool dynamic = random.in(0, 3) == 0;
  const PackedConv conv = pack_conv(s, {.wei = wei.data(), .zero_points = zw, .bias = bias, .src_zero_point = dynamic ? 7 : zx}, isa);
  const std::int64_t scratch_bytes = conv_scratch_bytes(conv);
  Guarded<std::byte> scratch((scratch_bytes + 63) / 64 * 64);
  const std::span<std::byte> memory{scratch.data(), static_cast<std::size_t>(scratch_bytes)};
  // Tile registers are tried for all sizes, not only for those that they are chosen for.
  const auto product = [&](const ConvCall& run, std::int64_t begin, std::int64_t end) {
    if (isa == Isa::kAmx && !is_gemm(s) && !conv.gathered)
      qconv_amx(conv, run, begin, end, memory);
    else
      qconv(conv, run, begin, end, memory);
  };
  const OutputGrid grid = random_grid(random);
  const auto requantizers =
      random_requantizers(random, c.law, s.out_channels, 4000.0F * static_cast<float>(s.in_channels / s.groups * s.kernel_h * s.kernel_w));
  const RequantizeTable table(requantizers, s.out_channels, grid);

  Guarded<std::int32_t> acc((pixels - 1) * ld_dst + s.out_channels);
  ConvCall call{.src = src.data(),
                .ld_src = ld_src,
                .dst = acc.data(),
                .ld_dst = ld_dst,
                .batch = c.batch,
                .in_h = c.in_h,
                .in_w = c.in_w,
                .out_h = c.out_h(),
                .out_w = c.out_w(),
                .dst_type = DstType::kInt32,
                .requantize = {},
                .dynamic_zero_point = dynamic,
                .src_zero_point = zx};
  const std::int64_t units = pixels;
  product(call, 0, units);
  for (std::int64_t p = 0; p < pixels; ++p)
    for (std::int64_t o = 0; o < s.out_channels; ++o)
      ASSERT_EQ(acc[p * ld_dst + o], expected[static_cast<std::size_t>(p * s.out_channels + o)]) << "pixel " << p << " channel " << o;

  Bytes dst((pixels - 1) * ld_dst + s.out_channels);
  std::memset(dst.data(), 0xa5, static_cast<std::size_t>(dst.size()));
  call.dst = dst.data();
  call.dst_type = DstType::kUint8;
  call.requantize = table.view();
  const std::int64_t split = random.in(0, units);
  product(call, 0, split);
  product(call, split, units);
  for (std::int64_t p = 0; p < pixels; ++p) {
    for (std::int64_t o = 0; o < s.out_channels; ++o)
      ASSERT_EQ(dst[p * ld_dst + o],
                requantizers[static_cast<std::size_t>(o)](expected[static_cast<std::size_t>(p * s.out_channels + o)], grid))
          << "pixel " << p << " channel " << o;
    for (std::int64_t o = s.out_channels; p + 1 < pixels && o < ld_dst; ++o)
      ASSERT_EQ(dst[p * ld_dst + o], 0xa5) << "written between pixels";
  }

  const RandomAddition addition = random_addition(random, c.law);
  const std::int64_t ld_other = s.out_channels + random.in(0, 2);
  Bytes other((pixels - 1) * ld_other + s.out_channels);
  other.fill(random.bytes(other.size()));
  Bytes sum(dst.size());
  call.dst = sum.data();
  call.residual = addition.view;
  call.residual.src = other.data();
  call.residual.ld_src = ld_other;
  product(call, 0, split);
  product(call, split, units);
  for (std::int64_t p = 0; p < pixels; ++p)
    for (std::int64_t o = 0; o < s.out_channels; ++o)
      ASSERT_EQ(sum[p * ld_dst + o], addition(dst[p * ld_dst + o], other[p * ld_other + o]))
          << "with a residual, pixel " << p << " channel " << o;
}

class Qconv : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isa, Qconv, testing::ValuesIn(available_isas()), isa_name);

TEST_P(Qconv, FirstLayers) {
  Random random(11);
  for (const std::int64_t channels : {1, 2, 3, 5})
    for (const std::int64_t stride : {1, 2})
      for (const std::int64_t kernel : {3, 5, 7})
        check(GetParam(),
              {.shape = {.in_channels = channels,
                         .out_channels = 24,
                         .kernel_h = kernel,
                         .kernel_w = kernel,
                         .stride_h = stride,
                         .stride_w = stride,
                         .pad_top = kernel / 2,
                         .pad_left = stride == 2 ? 0 : kernel / 2},
               .batch = 2,
               .in_h = 11,
               .in_w = 13,
               .pad_bottom = kernel / 2,
               .pad_right = kernel / 2,
               .extra_src = kernel == 5 ? 1 : 0,
               .zero_points = kernel == 7 ? 2 : 0},
              random);
}

TEST_P(Qconv, Pointwise) {
  Random random(12);
  for (const std::int64_t channels : {1, 4, 7, 33})
    for (const std::int64_t stride : {1, 2})
      for (const std::int64_t extra : {0, 3})
        check(GetParam(),
              {.shape = {.in_channels = channels, .out_channels = 21, .stride_h = stride, .stride_w = stride},
               .batch = 2,
               .in_h = 7,
               .in_w = 9,
               .extra_src = extra,
               .extra_dst = extra},
              random);
}

// Pixels, channels and depths of more than one block; the whole way from lowering's choice of kernel to its result.
TEST_P(Qconv, Blocks) {
  Random random(15);
  for (const std::int64_t channels : {16, 64})
    for (const std::int64_t stride : {1, 2})
      check(GetParam(),
            {.shape = {.in_channels = channels,
                       .out_channels = 40,
                       .kernel_h = 3,
                       .kernel_w = 3,
                       .stride_h = stride,
                       .stride_w = stride,
                       .pad_top = 1,
                       .pad_left = 1},
             .in_h = 19,
             .in_w = 17,
             .pad_bottom = 1,
             .pad_right = 1},
            random);
  check(GetParam(), {.shape = {.in_channels = 300, .out_channels = 500, .kernel_h = 3, .kernel_w = 3}, .in_h = 5, .in_w = 6}, random);
}

TEST_P(Qconv, OneDimensional) {
  Random random(13);
  check(GetParam(),
        {.shape = {.in_channels = 6, .out_channels = 9, .kernel_w = 5, .stride_w = 2, .dilation_w = 2, .pad_left = 4},
         .in_w = 40,
         .pad_right = 3},
        random);
}

// Taps that add up to more than a kernel takes at once, so that chunks end inside of a tap.
TEST_P(Qconv, ManyChannels) {
  Random random(20);
  for (const std::int64_t channels : {116, 205, 342})
    check(GetParam(),
          {.shape = {.in_channels = channels, .out_channels = 20, .kernel_h = 3, .kernel_w = 3, .pad_top = 1, .pad_left = 1},
           .in_h = 3,
           .in_w = 4,
           .pad_bottom = 1,
           .pad_right = 1},
          random);
}

// Groups of few channels, which are packed together; some numbers of groups do not divide.
TEST_P(Qconv, NarrowGroups) {
  Random random(19);
  for (const std::int64_t groups : {2, 5, 6, 16, 32})
    for (const std::int64_t in : {1, 2, 4, 8})
      for (const std::int64_t out : {1, 3, 4, 8, 9})
        check(GetParam(),
              {.shape = {.in_channels = groups * in,
                         .out_channels = groups * out,
                         .groups = groups,
                         .kernel_h = 3,
                         .kernel_w = 1 + 2 * (in % 2),
                         .pad_top = 1,
                         .pad_left = in % 2},
               .in_h = 5,
               .in_w = 6,
               .pad_bottom = 1,
               .zero_points = static_cast<int>(out % 3)},
              random);
}

// Random geometry: groups, strides, dilations, padding (also wider than the kernel), batch, laws, affine weights.
TEST_P(Qconv, Random) {
  Random random(14);
  for (int i = 0; i < 150; ++i) {
    ConvCase c;
    ConvShape& s = c.shape;
    s.groups = random.in(0, 2) == 0 ? random.in(2, 3) : 1;
    s.in_channels = s.groups * random.in(1, 20);
    s.out_channels = s.groups * random.in(1, 40);
    s.kernel_h = random.in(1, 4);
    s.kernel_w = random.in(1, 4);
    s.stride_h = random.in(1, 3);
    s.stride_w = random.in(1, 3);
    s.dilation_h = random.in(1, 2);
    s.dilation_w = random.in(1, 2);
    s.pad_top = random.in(0, 3);
    s.pad_left = random.in(0, 3);
    c.pad_bottom = random.in(0, 3);
    c.pad_right = random.in(0, 9);
    c.batch = random.in(1, 2);
    c.in_h = random.in(7, 11);
    c.in_w = random.in(7, 20);
    c.extra_src = random.in(0, 1) * random.in(0, 5);
    c.extra_dst = random.in(0, 1) * random.in(0, 5);
    c.zero_points = static_cast<int>(random.in(0, 2));
    c.law = kLaws[random.in(0, 2)];
    check(GetParam(), c, random);
    if (HasFatalFailure()) FAIL() << "seed 14, case " << i;
  }
}

}  // namespace
}  // namespace nibble::kernels
