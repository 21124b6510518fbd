// The same bits on every processor: checksums of what the kernel families make of fixed data. They were written down on x86-64; a port, or
// another compiler, must reproduce them.
#include <gtest/gtest.h>

#include "base/aligned_buffer.h"
#include "guarded.h"
#include "kernels/dynamic/dynamic.h"
#include "kernels/lut/lut.h"
#include "kernels/qadd/qadd.h"
#include "kernels/qconv/qconv.h"
#include "kernels/qconv_depthwise/qconv_depthwise.h"
#include "kernels/qpool/qpool.h"
#include "kernels/quantize_linear/quantize_linear.h"

namespace nibble::kernels {
namespace {

constexpr std::uint64_t kConvFloat32 = 0x2b12ba0af691aeeeULL;
constexpr std::uint64_t kConvFixedPoint = 0x2b12ba0af691aeeeULL;
constexpr std::uint64_t kConvShift = 0x5bcfd21ef7531662ULL;
constexpr std::uint64_t kProducts = 0x37289d6f035ad215ULL;
constexpr std::uint64_t kElements = 0x85457d123a11bdb8ULL;
constexpr std::uint64_t kPools = 0xcff6a2ad9dad6d36ULL;
constexpr std::uint64_t kCodes = 0xc1c73157eb3a8f92ULL;
constexpr std::uint64_t kReals = 0x404dec5513e1c0deULL;
constexpr std::uint64_t kRows = 0x862c97b79a709e3aULL;

// Data without the standard library's distributions, which no standard fixes.
class Sequence {
 public:
  std::uint32_t next() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::uint32_t>(state_ >> 33);
  }
  template <typename T>
  std::vector<T> integers(std::int64_t n, std::int64_t low, std::int64_t high) {
    std::vector<T> v(static_cast<std::size_t>(n));
    for (T& x : v) x = static_cast<T>(low + static_cast<std::int64_t>(next()) % (high - low + 1));
    return v;
  }
  // Multiples of 2^-12 in [low, high]: exact.
  std::vector<float> reals(std::int64_t n, int low, int high) {
    std::vector<float> v;
    for (const auto i : integers<std::int32_t>(n, low * 4096, high * 4096)) v.push_back(static_cast<float>(i) / 4096.0F);
    return v;
  }

 private:
  std::uint64_t state_ = 7;
};

template <typename T>
std::uint64_t checksum(const std::vector<T>& values) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (std::size_t i = 0; i < values.size() * sizeof(T); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ULL;
  return hash;
}

struct Scratch {
  explicit Scratch(std::int64_t bytes) : memory(allocate_aligned(bytes + 64)), span(memory.get(), static_cast<std::size_t>(bytes)) {}
  std::shared_ptr<std::byte> memory;
  std::span<std::byte> span;
};

class GoldenBits : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isa, GoldenBits, testing::ValuesIn(available_isas()), isa_name);

std::vector<Requantizer> requantizers(Sequence& s, RequantizeLaw law, std::int64_t n) {
  std::vector<Requantizer> result;
  for (const float m : s.reals(n, 1, 3)) {
    Requantizer r{.law = law, .multiplier = m / 900.0F, .fixed = {}, .shift = 9};
    if (law == RequantizeLaw::kFixedPoint) r.fixed = *fixed_point_multiplier(static_cast<double>(r.multiplier));
    result.push_back(r);
  }
  return result;
}

// 3x3 wide, strided and depthwise convolutions under each law.
std::uint64_t convolutions(Isa isa, RequantizeLaw law) {
  Sequence s;
  std::vector<std::uint8_t> all;
  for (const std::int64_t groups : {1, 40})
    for (const std::int64_t stride : {1, 2}) {
      const ConvShape shape{.in_channels = 40,
                            .out_channels = 40,
                            .groups = groups,
                            .kernel_h = 3,
                            .kernel_w = 3,
                            .stride_h = stride,
                            .stride_w = stride,
                            .pad_top = 1,
                            .pad_left = 1};
      const std::int64_t out = (13 - 1) / stride + 1;
      const auto src = s.integers<std::uint8_t>(13 * 13 * 40, 0, 255);
      const auto wei = s.integers<std::int8_t>(40 * 40 / groups * 9, -127, 127);
      const auto bias = s.integers<std::int32_t>(40, -3000, 3000);
      const RequantizeTable table(requantizers(s, law, 40), 40, {.zero_point = 7, .qmin = 0, .qmax = 255});
      std::vector<std::uint8_t> dst(static_cast<std::size_t>(out * out * 40));
      ConvCall call;
      call.src = src.data();
      call.ld_src = 40;
      call.dst = dst.data();
      call.ld_dst = 40;
      call.in_h = call.in_w = 13;
      call.out_h = call.out_w = out;
      call.requantize = table.view();
      const ConvWeights weights{.wei = wei.data(), .bias = bias, .src_zero_point = 121};
      if (groups == 1) {
        const PackedConv packed = pack_conv(shape, weights, isa);
        const Scratch scratch(conv_scratch_bytes(packed));
        qconv(packed, call, 0, out * out, scratch.span);
      } else {
        const PackedDepthwise packed = pack_depthwise(shape, weights, isa, &table.view());
        const Scratch scratch(depthwise_scratch_bytes(packed, 13, out));
        qconv_depthwise(packed, call, 0, out, scratch.span);
      }
      all.insert(all.end(), dst.begin(), dst.end());
    }
  return checksum(all);
}

TEST_P(GoldenBits, Convolutions) {
  EXPECT_EQ(convolutions(GetParam(), RequantizeLaw::kFloat32), kConvFloat32);
  EXPECT_EQ(convolutions(GetParam(), RequantizeLaw::kFixedPoint), kConvFixedPoint);
  EXPECT_EQ(convolutions(GetParam(), RequantizeLaw::kShift), kConvShift);
}

TEST_P(GoldenBits, Products) {
  Sequence s;
  const auto src = s.integers<std::uint8_t>(37 * 75, 0, 255);
  const auto wei = s.integers<std::int8_t>(75 * 50, -128, 127);
  std::vector<std::int32_t> dst(37 * 50);
  const PackedGemm packed = pack_gemm({.n = 50, .k = 75, .wei = wei.data(), .stride_k = 50, .src_zero_point = 31}, GetParam());
  GemmCall call;
  call.src = src.data();
  call.ld_src = 75;
  call.dst = dst.data();
  call.ld_dst = 50;
  call.rows = 37;
  call.dst_type = DstType::kInt32;
  qgemm(packed, call, 0, 37);
  EXPECT_EQ(checksum(dst), kProducts);
}

TEST_P(GoldenBits, Elements) {
  Sequence s;
  constexpr std::int64_t kN = 1003;
  const auto a = s.integers<std::uint8_t>(kN, 0, 255);
  const auto b = s.integers<std::uint8_t>(kN, 0, 255);
  std::vector<std::uint8_t> dst(kN), all;
  BinaryCall call;
  call.a = a.data();
  call.b = b.data();
  call.dst = dst.data();
  call.ld_a = call.ld_b = call.ld_dst = call.columns = kN;
  call.grid = {.zero_point = 9, .qmin = 0, .qmax = 250};
  for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint}) {
    qadd(GetParam(), *make_adder(law, AddKind::kAdd, 0.047F, 10, 0.032F, 12, 0.055F, 9), call, 0, 1);
    all.insert(all.end(), dst.begin(), dst.end());
    Requantizer r{.law = law, .multiplier = 0.0123F, .fixed = *fixed_point_multiplier(0.0123), .shift = 0};
    qmul(GetParam(), r, 100, 130, call, 0, 1);
    all.insert(all.end(), dst.begin(), dst.end());
  }
  lut(GetParam(), b.data(), a.data(), dst.data(), kN);
  all.insert(all.end(), dst.begin(), dst.end());
  EXPECT_EQ(checksum(all), kElements);
}

TEST_P(GoldenBits, Pools) {
  Sequence s;
  const auto src = s.integers<std::uint8_t>(9 * 9 * 35, 0, 255);
  std::vector<std::uint8_t> dst(5 * 5 * 35), all;
  PoolCall call;
  call.src = src.data();
  call.dst = dst.data();
  call.ld_src = call.ld_dst = call.channels = 35;
  call.in_h = call.in_w = 9;
  call.out_h = call.out_w = 5;
  call.kernel_h = call.kernel_w = 3;
  call.stride_h = call.stride_w = 2;
  call.pad_top = call.pad_left = call.pad_bottom = call.pad_right = 1;
  qpool_max(GetParam(), call, 3, 250, 0, 5);
  all.insert(all.end(), dst.begin(), dst.end());
  std::vector<float> multipliers;
  for (int count = 1; count <= 9; ++count) multipliers.push_back(0.9F / static_cast<float>(count));
  const RequantizeTable table(std::span<const float>(multipliers), 9, {.zero_point = 30, .qmin = 0, .qmax = 255});
  qpool_average(GetParam(), call, 77, PadCount::kExclude, table.view(), 0, 5);
  all.insert(all.end(), dst.begin(), dst.end());
  EXPECT_EQ(checksum(all), kPools);
}

TEST_P(GoldenBits, Edges) {
  Sequence s;
  const auto x = s.reals(1003, -9, 9);
  std::vector<std::uint8_t> codes(x.size());
  FloatRange range;
  min_max(GetParam(), x.data(), 1003, &range.min, &range.max);
  const Grid8 grid = dynamic_grid(range);
  quantize_linear(GetParam(), grid, x.data(), codes.data(), 1003);
  EXPECT_EQ(checksum(codes), kCodes);
  std::vector<float> reals(x.size());
  dequantize_linear(GetParam(), grid.scale, grid.zero_point, codes.data(), reals.data(), 1003);
  EXPECT_EQ(checksum(reals), kReals);
  const auto acc = s.integers<std::int32_t>(17 * 59, -9000000, 9000000);
  const auto bias = s.reals(59, -3, 3);
  std::vector<float> multiplier = s.reals(59, 1, 2);
  for (float& m : multiplier) m /= 1234567.0F;
  dequantize_rows(GetParam(), {.multiplier = multiplier.data(), .bias = bias.data(), .lo = -4, .hi = 6, .dst = reals.data(), .ld_dst = 59},
                  acc.data(), 59, 17, 59, &range);
  EXPECT_EQ(checksum(reals), kRows);
}

}  // namespace
}  // namespace nibble::kernels
