#include "kernels/qgemm/qgemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "guarded.h"
#include "kernels/qgemm/driver.h"
#include "kernels/qgemm/select.h"

namespace nibble::kernels {
namespace {

enum class Zero { kSymmetric, kPerTensor, kPerColumn };

struct Case {
  std::int64_t m, n, k;
  std::int64_t extra_src = 0, extra_dst = 0;  // wider rows
  Zero zero = Zero::kSymmetric;
  RequantizeLaw law = RequantizeLaw::kFloat32;
  bool transposed = false;
};

// The product by its formula, and the kernel's, both as bytes and as accumulators.
void check(Isa isa, const Case& c, Random& random) {
  SCOPED_TRACE(testing::Message() << to_string(isa) << " m " << c.m << " n " << c.n << " k " << c.k << " law " << to_string(c.law)
                                  << " zero " << static_cast<int>(c.zero) << " +" << c.extra_src << " +" << c.extra_dst);
  const std::int64_t ld_src = c.k + c.extra_src;
  const std::int64_t ld_dst = c.n + c.extra_dst;
  Guarded<std::uint8_t> src((c.m - 1) * ld_src + c.k);
  src.fill(random.bytes(src.size()));
  Guarded<std::int8_t> wei(c.k * c.n);
  wei.fill(random.weights(wei.size()));
  const std::int64_t stride_k = c.transposed ? 1 : c.n;
  const std::int64_t stride_n = c.transposed ? c.k : 1;
  const auto zero_points = random.integers(c.zero == Zero::kSymmetric ? 0 : c.zero == Zero::kPerTensor ? 1 : c.n, -128, 127);
  const auto bias = random.integers(random.in(0, 3) == 0 ? 0 : c.n, -100000, 100000);
  const auto zx = static_cast<std::int32_t>(random.extreme(0, 255));

  std::vector<std::int64_t> expected(static_cast<std::size_t>(c.m * c.n));
  for (std::int64_t m = 0; m < c.m; ++m)
    for (std::int64_t n = 0; n < c.n; ++n) {
      std::int64_t acc = bias.empty() ? 0 : bias[static_cast<std::size_t>(n)];
      const std::int64_t zw = zero_points.empty() ? 0 : zero_points[zero_points.size() == 1 ? 0 : static_cast<std::size_t>(n)];
      for (std::int64_t k = 0; k < c.k; ++k) acc += (std::int64_t{src[m * ld_src + k]} - zx) * (wei[k * stride_k + n * stride_n] - zw);
      expected[static_cast<std::size_t>(m * c.n + n)] = acc;
    }

  const GemmWeights weights{.n = c.n,
                            .k = c.k,
                            .wei = wei.data(),
                            .stride_k = stride_k,
                            .stride_n = stride_n,
                            .zero_points = zero_points,
                            .bias = bias,
                            .src_zero_point = zx};
  const std::int64_t bytes = packed_gemm_bytes(c.n, c.k, isa);
  Guarded<std::byte> memory((bytes + 63) / 64 * 64);
  const PackedGemm packed = pack_gemm_into(weights, isa, {memory.data(), static_cast<std::size_t>(bytes)});

  // Tile registers are tried for all sizes, not only for those that they are chosen for.
  const auto product = [&](const PackedGemm& w, const GemmCall& call, std::int64_t begin, std::int64_t end) {
    if (isa == Isa::kAmx)
      qgemm_amx(w, call, begin, end, 0, gemm_panels(w));
    else
      qgemm(w, call, begin, end);
  };

  Guarded<std::int32_t> acc((c.m - 1) * ld_dst + c.n);
  GemmCall call{
      .src = src.data(), .ld_src = ld_src, .dst = acc.data(), .ld_dst = ld_dst, .rows = c.m, .dst_type = DstType::kInt32, .requantize = {}};
  product(packed, call, 0, c.m);
  for (std::int64_t m = 0; m < c.m; ++m)
    for (std::int64_t n = 0; n < c.n; ++n)
      ASSERT_EQ(acc[m * ld_dst + n], expected[static_cast<std::size_t>(m * c.n + n)]) << "at " << m << ", " << n;

  const OutputGrid grid = random_grid(random);
  const auto requantizers = random_requantizers(random, c.law, c.n, 4000.0F * static_cast<float>(c.k));
  const RequantizeTable table(requantizers, c.n, grid);
  Guarded<std::uint8_t> dst((c.m - 1) * ld_dst + c.n);
  std::memset(dst.data(), 0xa5, static_cast<std::size_t>(dst.size()));
  call.dst = dst.data();
  call.dst_type = DstType::kUint8;
  call.requantize = table.view();
  const std::int64_t split = random.in(0, c.m);
  product(packed, call, 0, split);
  product(packed, call, split, c.m);
  for (std::int64_t m = 0; m < c.m; ++m) {
    for (std::int64_t n = 0; n < c.n; ++n)
      ASSERT_EQ(dst[m * ld_dst + n], requantizers[static_cast<std::size_t>(n)](expected[static_cast<std::size_t>(m * c.n + n)], grid))
          << "at " << m << ", " << n;
    for (std::int64_t n = c.n; m + 1 < c.m && n < ld_dst; ++n) ASSERT_EQ(dst[m * ld_dst + n], 0xa5) << "written between rows " << m;
  }

  // A fused addition is the requantization above, then the adder.
  const RandomAddition addition = random_addition(random, random.in(0, 2) == 0 ? kLaws[random.in(0, 2)] : c.law);
  const bool in_place = random.in(0, 3) == 0;
  const std::int64_t ld_other = in_place ? ld_dst : c.n + random.in(0, 3);
  Guarded<std::uint8_t> other((c.m - 1) * ld_other + c.n);
  other.fill(random.bytes(other.size()));
  Guarded<std::uint8_t> sum(dst.size());
  std::memset(sum.data(), 0xa5, static_cast<std::size_t>(sum.size()));
  if (in_place) std::memcpy(sum.data(), other.data(), static_cast<std::size_t>(sum.size()));
  call.dst = sum.data();
  call.residual = addition.view;
  call.residual.src = in_place ? sum.data() : other.data();
  call.residual.ld_src = ld_other;
  product(packed, call, 0, split);
  product(packed, call, split, c.m);
  for (std::int64_t m = 0; m < c.m; ++m) {
    for (std::int64_t n = 0; n < c.n; ++n)
      ASSERT_EQ(sum[m * ld_dst + n], addition(dst[m * ld_dst + n], other[m * ld_other + n])) << "with a residual, at " << m << ", " << n;
    for (std::int64_t n = c.n; !in_place && m + 1 < c.m && n < ld_dst; ++n)
      ASSERT_EQ(sum[m * ld_dst + n], 0xa5) << "written between rows " << m;
  }
}

class Qgemm : public testing::TestWithParam<Isa> {};
INSTANTIATE_TEST_SUITE_P(Isa, Qgemm, testing::ValuesIn(available_isas()), isa_name);

TEST_P(Qgemm, EveryRowCount) {
  Random random(1);
  for (std::int64_t m = 1; m <= 33; ++m)
    for (const std::int64_t n : {16, 32, 48, 64}) check(GetParam(), {.m = m, .n = n, .k = 8}, random);
}

TEST_P(Qgemm, EveryColumnCount) {
  Random random(2);
  for (std::int64_t n = 1; n <= 129; ++n) check(GetParam(), {.m = 7, .n = n, .k = 12, .extra_src = n % 3, .extra_dst = n % 5}, random);
}

TEST_P(Qgemm, EveryDepth) {
  Random random(3);
  for (std::int64_t k = 1; k <= 133; ++k) check(GetParam(), {.m = 5, .n = 18, .k = k, .extra_src = k % 4 == 1 ? 3 : 0}, random);
}

// Kernels that take K in chunks: at their ends and across them.
TEST_P(Qgemm, ManyK) {
  Random random(7);
  for (const std::int64_t k : {1020, 1023, 1024, 1025, 1030, 2048, 2051})
    for (const std::int64_t n : {5, 40, 64}) check(GetParam(), {.m = 8, .n = n, .k = k, .extra_src = k % 2}, random);
}

TEST_P(Qgemm, LawsAndZeroPoints) {
  Random random(4);
  for (const RequantizeLaw law : kLaws)
    for (const Zero zero : {Zero::kSymmetric, Zero::kPerTensor, Zero::kPerColumn})
      for (const std::int64_t m : {1, 6, 50})
        for (const std::int64_t n : {5, 16, 40, 64, 130})
          for (const std::int64_t k : {3, 64, 201})
            check(GetParam(), {.m = m, .n = n, .k = k, .extra_src = 1, .extra_dst = 2, .zero = zero, .law = law, .transposed = n % 2 == 0},
                  random);
}

// Sizes around those of tiles of 16 rows and 64 k, of blocks of two by two, and of the caches.
TEST_P(Qgemm, Blocks) {
  Random random(6);
  for (const std::int64_t m : {15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 65})
    for (const std::int64_t n : {16, 33, 64, 100})
      for (const std::int64_t k : {63, 64, 65, 128, 200})
        check(GetParam(), {.m = m, .n = n, .k = k, .extra_src = random.in(0, 1) * random.in(0, 64), .extra_dst = random.in(0, 2)}, random);
  check(GetParam(), {.m = 37, .n = 70, .k = 1100, .extra_src = 4}, random);
  check(GetParam(), {.m = 70, .n = 600, .k = 2000, .extra_dst = 1}, random);
  check(GetParam(), {.m = 16, .n = 90, .k = 3000, .zero = Zero::kPerColumn}, random);
}

// Extremes at each position of K: what vpmaddubsw would saturate.
TEST_P(Qgemm, ExtremesAtEveryDepth) {
  constexpr std::int64_t kK = 40;
  const std::vector<std::uint8_t> src(kK, 255);
  for (const int value : {-128, 127})
    for (std::int64_t at = 0; at + 1 < kK; ++at) {
      std::vector<std::int8_t> wei(kK, 0);
      wei[static_cast<std::size_t>(at)] = wei[static_cast<std::size_t>(at) + 1] = static_cast<std::int8_t>(value);
      const PackedGemm packed = pack_gemm({.n = 1, .k = kK, .wei = wei.data(), .stride_k = 1, .stride_n = kK}, GetParam());
      std::int32_t acc = 0;
      qgemm(packed, {.src = src.data(), .ld_src = kK, .dst = &acc, .ld_dst = 1, .rows = 1, .dst_type = DstType::kInt32, .requantize = {}},
            0, 1);
      ASSERT_EQ(acc, 2 * 255 * value) << "at " << at;
    }
}

// float(acc) above 2^24 rounds; results far outside of the grid clamp on the right side.
TEST_P(Qgemm, AccumulatorsAtTheEdgesOfInt32) {
  const std::vector<std::int32_t> bias = {
      2147483647, -2147483647 - 1, 16777217, -16777217, 0, 1, -1, 33554435, 2147483520, -2147483648 + 127, 7, 8, 9, 10, 11, 12, 13};
  const auto n = static_cast<std::int64_t>(bias.size());
  const std::vector<std::int8_t> wei(static_cast<std::size_t>(n), 0);
  const std::uint8_t src = 0;
  const PackedGemm packed = pack_gemm({.n = n, .k = 1, .wei = wei.data(), .stride_k = n, .stride_n = 1, .bias = bias}, GetParam());
  for (const float multiplier : {1.0F, 0.5F, 3.0F, 1e-7F, 5.9604645e-08F, 1e9F, 1e30F})
    for (const OutputGrid grid : {OutputGrid{0, 0, 255}, OutputGrid{128, 3, 200}, OutputGrid{255, 0, 255}}) {
      const Requantizer one{.law = RequantizeLaw::kFloat32, .multiplier = multiplier, .fixed = {}, .shift = 0};
      const RequantizeTable table({&one, 1}, n, grid);
      std::vector<std::uint8_t> dst(bias.size());
      qgemm(packed, {.src = &src, .ld_src = 1, .dst = dst.data(), .ld_dst = n, .rows = 1, .requantize = table.view()}, 0, 1);
      for (std::size_t i = 0; i < bias.size(); ++i) ASSERT_EQ(dst[i], one(bias[i], grid)) << bias[i] << " * " << multiplier;
    }
  for (const int shift : {-40, -31, -30, -1, 0, 1, 2, 31, 62, 80})
    for (const OutputGrid grid : {OutputGrid{0, 0, 255}, OutputGrid{128, 3, 200}}) {
      const Requantizer one{.law = RequantizeLaw::kShift, .multiplier = 1, .fixed = {}, .shift = shift};
      const RequantizeTable table({&one, 1}, n, grid);
      std::vector<std::uint8_t> dst(bias.size());
      qgemm(packed, {.src = &src, .ld_src = 1, .dst = dst.data(), .ld_dst = n, .rows = 1, .requantize = table.view()}, 0, 1);
      for (std::size_t i = 0; i < bias.size(); ++i) ASSERT_EQ(dst[i], one(bias[i], grid)) << bias[i] << " >> " << shift;
    }
  for (const int shift : {1, 2, 30, 31, 32, 61, 62})
    for (const std::int32_t m0 : {1 << 30, 2147483647, 1518500250}) {
      const OutputGrid grid{77, 1, 250};
      const Requantizer one{.law = RequantizeLaw::kFixedPoint, .multiplier = 1, .fixed = {m0, shift}, .shift = 0};
      const RequantizeTable table({&one, 1}, n, grid);
      std::vector<std::uint8_t> dst(bias.size());
      qgemm(packed, {.src = &src, .ld_src = 1, .dst = dst.data(), .ld_dst = n, .rows = 1, .requantize = table.view()}, 0, 1);
      for (std::size_t i = 0; i < bias.size(); ++i) ASSERT_EQ(dst[i], one(bias[i], grid)) << bias[i] << " * " << m0 << " >> " << shift;
    }
}

// Ties round to even under float32 and upward under the integer laws.
TEST_P(Qgemm, Ties) {
  const std::vector<std::int32_t> bias = {1, 3, 5, -1, -3, -5, 2, 4};
  const std::vector<std::int8_t> wei(8, 0);
  const std::uint8_t src = 0;
  const PackedGemm packed = pack_gemm({.n = 8, .k = 1, .wei = wei.data(), .stride_k = 8, .stride_n = 1, .bias = bias}, GetParam());
  const OutputGrid grid{100, 0, 255};
  const auto run = [&](const Requantizer& one) {
    const RequantizeTable table({&one, 1}, 8, grid);
    std::vector<std::uint8_t> dst(8);
    qgemm(packed, {.src = &src, .ld_src = 1, .dst = dst.data(), .ld_dst = 8, .rows = 1, .requantize = table.view()}, 0, 1);
    return std::vector<int>(dst.begin(), dst.end());
  };
  EXPECT_EQ(run({.law = RequantizeLaw::kFloat32, .multiplier = 0.5F, .fixed = {}, .shift = 0}),
            (std::vector<int>{100, 102, 102, 100, 98, 98, 101, 102}));
  EXPECT_EQ(run({.law = RequantizeLaw::kFixedPoint, .multiplier = 0.5F, .fixed = {1 << 30, 31}, .shift = 0}),
            (std::vector<int>{101, 102, 103, 100, 99, 98, 101, 102}));
  EXPECT_EQ(run({.law = RequantizeLaw::kShift, .multiplier = 0.5F, .fixed = {}, .shift = 1}),
            (std::vector<int>{101, 102, 103, 100, 99, 98, 101, 102}));
}

TEST_P(Qgemm, UnsignedWeightsAndDynamicZeroPoint) {
  Random random(5);
  constexpr std::int64_t kM = 9, kN = 37, kK = 30;
  const auto src = random.bytes(kM * kK);
  const auto wei = random.bytes(kK * kN);
  const std::vector<std::int32_t> zw = {static_cast<std::int32_t>(140 - 128)};
  const PackedGemm packed = pack_gemm({.n = kN,
                                       .k = kK,
                                       .wei = reinterpret_cast<const std::int8_t*>(wei.data()),
                                       .stride_k = kN,
                                       .stride_n = 1,
                                       .flip = 0x80,
                                       .zero_points = zw},
                                      GetParam());
  std::vector<std::int32_t> bias(kN + kChannelSlack);
  fold_bias(packed, 99, bias.data());
  std::vector<std::int32_t> acc(kM * kN);
  const GemmCall call{.src = src.data(),
                      .ld_src = kK,
                      .dst = acc.data(),
                      .ld_dst = kN,
                      .rows = kM,
                      .dst_type = DstType::kInt32,
                      .requantize = {},
                      .bias = bias.data()};
  qgemm_panels(packed, call, 0, kM, 0, 1);
  qgemm_panels(packed, call, 0, kM, 1, gemm_panels(packed));
  for (std::int64_t m = 0; m < kM; ++m)
    for (std::int64_t n = 0; n < kN; ++n) {
      std::int32_t expected = 0;
      for (std::int64_t k = 0; k < kK; ++k)
        expected += (src[static_cast<std::size_t>(m * kK + k)] - 99) * (wei[static_cast<std::size_t>(k * kN + n)] - 140);
      ASSERT_EQ(acc[static_cast<std::size_t>(m * kN + n)], expected);
    }
}

// Every kernel that kernels.inc lists is chosen for some size: the tests above go through all of them.
TEST_P(Qgemm, EveryListedTileIsReached) {
  if (GetParam() == Isa::kReference) return;
  std::set<std::string> listed;
  for (const KernelRow& row : list_kernels())
    if (row.family == "qgemm" && row.isa == GetParam()) listed.insert(row.name);
  std::set<std::string> reached;
  for (std::int64_t m = 1; m <= 33; ++m)
    for (std::int64_t n = 16; n <= 64; n += 16) reached.insert(gemm_kernel_name(GetParam(), m, n, 256));
  // Where tile registers do not pay, vectors are used.
  std::erase_if(reached, [](const std::string& name) { return !name.ends_with("_" + std::string(to_string(GetParam()))); });
  EXPECT_EQ(reached, listed);
  EXPECT_FALSE(listed.empty());
}

}  // namespace
}  // namespace nibble::kernels
