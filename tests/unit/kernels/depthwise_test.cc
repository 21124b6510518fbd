#include <gtest/gtest.h>

#include "base/aligned_buffer.h"
#include "conv_oracle.h"
#include "guarded.h"
#include "kernels/qconv_depthwise/qconv_depthwise.h"

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
  const OutputGrid grid = random_grid(random);
  const auto requantizers =
      random_requantizers(random, c.law, s.out_channels, 4000.0F * static_cast<float>(s.in_channels / s.groups * s.kernel_h * s.kernel_w));
  const RequantizeTable table(requantizers, s.out_channels, grid);
  const PackedDepthwise conv = pack_depthwise(s, {.wei = wei.data(), .zero_points = zw, .bias = bias, .src_zero_point = dynamic ? 7 : zx},
                                              isa, random.in(0, 3) == 0 ? nullptr : &table.view());
  const std::int64_t scratch_bytes = depthwise_scratch_bytes(conv, c.in_w, c.out_w());
  Guarded<std::byte> scratch((scratch_bytes + 63) / 64 * 64);
  const std::span<std::byte> memory{scratch.data(), static_cast<std::size_t>(scratch_bytes)};
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
  const std::int64_t units = c.batch * c.out_h();
  qconv_depthwise(conv, call, 0, units, memory);
  for (std::int64_t p = 0; p < pixels; ++p)
    for (std::int64_t o = 0; o < s.out_channels; ++o)
      ASSERT_EQ(acc[p * ld_dst + o], expected[static_cast<std::size_t>(p * s.out_channels + o)]) << "pixel " << p << " channel " << o;

  Bytes dst((pixels - 1) * ld_dst + s.out_channels);
  std::memset(dst.data(), 0xa5, static_cast<std::size_t>(dst.size()));
  call.dst = dst.data();
  call.dst_type = DstType::kUint8;
  call.requantize = table.view();
  const std::int64_t split = random.in(0, units);
  qconv_depthwise(conv, call, 0, split, memory);
  qconv_depthwise(conv, call, split, units, memory);
  for (std::int64_t p = 0; p < pixels; ++p) {
    for (std::int64_t o = 0; o < s.out_channels; ++o)
      ASSERT_EQ(dst[p * ld_dst + o],
                requantizers[static_cast<std::size_t>(o)](expected[static_cast<std::size_t>(p * s.out_channels + o)], grid))
          << "pixel " << p << " channel " << o;
    for (std::int64_t o = s.out_channels; p + 1 < pixels && o < ld_dst; ++o)
      ASSERT_EQ(dst[p * ld_dst + o], 0xa5) << "written between pixels";
  }
}

class Depthwise : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isa, Depthwise, testing::ValuesIn(available_isas()), isa_name);

ConvCase square(std::int64_t channels, std::int64_t kernel, std::int64_t stride, std::int64_t image) {
  return {.shape = {.in_channels = channels,
                    .out_channels = channels,
                    .groups = channels,
                    .kernel_h = kernel,
                    .kernel_w = kernel,
                    .stride_h = stride,
                    .stride_w = stride,
                    .pad_top = kernel / 2,
                    .pad_left = kernel / 2},
          .in_h = image,
          .in_w = image,
          .pad_bottom = kernel / 2,
          .pad_right = kernel / 2};
}

TEST_P(Depthwise, EveryChannelCount) {
  Random random(21);
  for (std::int64_t channels = 1; channels <= 130; ++channels) {
    ConvCase c = square(channels, 3, 1 + channels % 2, 6);
    c.extra_src = channels % 3;
    c.extra_dst = channels % 4;
    check(GetParam(), c, random);
  }
}

TEST_P(Depthwise, EveryWidth) {
  Random random(22);
  for (const std::int64_t kernel : {3, 5})
    for (const std::int64_t stride : {1, 2})
      for (std::int64_t width = 1; width <= 30; ++width) {
        // 64, 32 and 16 channels are the blocks; the 32 of 96 come two outputs a vector.
        const std::int64_t counts[] = {64, 32, 96, 16};
        ConvCase c = square(counts[width % 4], kernel, stride, 5);
        c.in_w = width;
        c.law = kLaws[width % 3];
        check(GetParam(), c, random);
        c.shape.in_channels = c.shape.out_channels = c.shape.groups = 32;
        c.extra_src = width % 3;
        check(GetParam(), c, random);
        c.shape.pad_left = 0;
        if (c.in_w + c.pad_right >= kernel) check(GetParam(), c, random);
      }
}

// What sixteen-bit sums would lose: the extremes of nine taps.
TEST_P(Depthwise, Extremes) {
  for (const int value : {-128, 127}) {
    const ConvCase c = square(96, 3, 1, 9);
    const std::vector<std::uint8_t> src(9 * 9 * 96, 255);
    const std::vector<std::int8_t> wei(96 * 9, static_cast<std::int8_t>(value));
    const auto expected = convolve(c, src.data(), 96, wei.data(), {}, {}, 0);
    const PackedDepthwise conv = pack_depthwise(c.shape, {.wei = wei.data()}, GetParam());
    const std::int64_t scratch_bytes = depthwise_scratch_bytes(conv, 9, 9);
    const auto memory = allocate_aligned(scratch_bytes);
    const std::span<std::byte> scratch(memory.get(), static_cast<std::size_t>(scratch_bytes));
    std::vector<std::int32_t> acc(expected.size());
    qconv_depthwise(conv,
                    {.src = src.data(),
                     .ld_src = 96,
                     .dst = acc.data(),
                     .ld_dst = 96,
                     .in_h = 9,
                     .in_w = 9,
                     .out_h = 9,
                     .out_w = 9,
                     .dst_type = DstType::kInt32,
                     .requantize = {}},
                    0, 9, scratch);
    for (std::size_t i = 0; i < acc.size(); ++i) ASSERT_EQ(acc[i], expected[i]);
  }
}

TEST_P(Depthwise, Random) {
  Random random(23);
  for (int i = 0; i < 150; ++i) {
    ConvCase c;
    ConvShape& s = c.shape;
    s.groups = s.in_channels = s.out_channels = random.in(1, 3) == 1 ? random.in(1, 20) : random.in(16, 150);
    s.kernel_h = random.in(1, 6);
    s.kernel_w = random.in(1, 6);
    s.stride_h = random.in(1, 3);
    s.stride_w = random.in(1, 3);
    s.dilation_h = random.in(1, 2);
    s.dilation_w = random.in(1, 2);
    s.pad_top = random.in(0, 3);
    s.pad_left = random.in(0, 3);
    c.pad_bottom = random.in(0, 3);
    c.pad_right = random.in(0, 9);
    c.batch = random.in(1, 2);
    c.in_h = random.in(11, 13);
    c.in_w = random.in(11, 20);
    c.extra_src = random.in(0, 1) * random.in(0, 5);
    c.extra_dst = random.in(0, 1) * random.in(0, 5);
    c.zero_points = static_cast<int>(random.in(0, 2));
    c.law = kLaws[random.in(0, 2)];
    check(GetParam(), c, random);
    if (HasFatalFailure()) FAIL() << "seed 23, case " << i;
  }
}

TEST_P(Depthwise, ItsOwnKernelIsUsed) {
  const std::vector<std::int8_t> wei(64 * 9, 1);
  const PackedDepthwise conv = pack_depthwise(square(64, 3, 1, 9).shape, {.wei = wei.data()}, GetParam());
  const bool plain = GetParam() < Isa::kAvx2;
  EXPECT_EQ(conv.blocks.empty(), plain);
  const std::string name = depthwise_kernel_name(conv);
  EXPECT_EQ(name.substr(name.rfind('_') + 1), to_string(plain ? Isa::kReference : vector_isa(GetParam())));
  bool listed = false;
  for (const KernelRow& row : list_kernels()) listed = listed || row.name == name;
  EXPECT_TRUE(listed) << name;
}

}  // namespace
}  // namespace nibble::kernels
