// The plain loops that are law, the choice of the kernel, and the drivers.
#include "kernels/dynamic/dynamic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "kernels/dynamic/row.h"
#include "kernels/kernel_name.h"

namespace nibble::kernels {

#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn) void fn(RealRow&);
#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) void fn(RealRow&);
#else
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn)
#endif
#include "kernels/dynamic/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE

namespace {

// Comparisons written so that a NaN stays what it is, and is no bound of a range.
void finish(RealRow& row, std::int64_t i, float x) {
  x = x < row.lo ? row.lo : x;
  x = x > row.hi ? row.hi : x;
  row.dst[i] = x;
  row.min = x < row.min ? x : row.min;
  row.max = x > row.max ? x : row.max;
}

struct Row {
  std::string_view family;
  Isa isa;
  RealRowFn fn;
};

[[maybe_unused]] constexpr Isa reference = Isa::kReference;
[[maybe_unused]] constexpr Isa avx2 = Isa::kAvx2;
[[maybe_unused]] constexpr Isa avx512vnni = Isa::kAvx512Vnni;

constexpr Row kRows[] = {
#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn) Row{#family, isa, fn},
#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) Row{#family, isa, fn},
#else
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn)
#endif
#include "kernels/dynamic/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
};

RealRowFn find(std::string_view family, Isa isa) {
  const Row* best = nullptr;
  for (const Row& row : kRows)
    if (row.family == family && row.isa <= isa && (best == nullptr || row.isa > best->isa)) best = &row;
  return best->fn;
}

// A kernel writes output unit u at dst + u * stride, but the scratch memory holds the units from `begin` on.
std::int32_t* before(std::int32_t* scratch, std::int64_t elements) {
  return reinterpret_cast<std::int32_t*>(reinterpret_cast<std::uintptr_t>(scratch) -
                                         static_cast<std::uintptr_t>(elements) * sizeof(std::int32_t));
}

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

constexpr std::int64_t kBlockBytes = 64 * 1024;  // of accumulators: a part of the second-level cache
constexpr std::int64_t kDynamicRows = 4;         // of a depthwise convolution: what its kernels take at once
// Whole tiles of most kernels.
std::int64_t block_rows(std::int64_t channels) {
  return std::clamp<std::int64_t>(kBlockBytes / 4 / std::max<std::int64_t>(channels, 1) / 96 * 96, 96, 960);
}

std::int64_t acc_bytes(std::int64_t rows, std::int64_t channels) {
  return round_up(rows * channels * static_cast<std::int64_t>(sizeof(std::int32_t)), 64);
}

}  // namespace

void dequantize_row_reference(RealRow& row) {
  for (std::int64_t r = 0; r < row.rows; ++r)
    for (std::int64_t i = 0; i < row.n; ++i) {
      const float x = static_cast<float>(row.acc[r * row.ld_acc + i]) * row.multiplier[i];
      finish(row, r * row.ld_dst + i, row.bias == nullptr ? x : x + row.bias[i]);
    }
}

void add_row_reference(RealRow& row) {
  for (std::int64_t i = 0; i < row.n; ++i) finish(row, i, row.a[i] + row.b[i]);
}

void min_max_reference(RealRow& row) {
  // Sixteen at a time: the order does not change a minimum, and independent lanes are what a compiler makes vectors of.
  constexpr std::int64_t kLanes = 16;
  std::array<float, kLanes> lo;
  std::array<float, kLanes> hi;
  lo.fill(row.min);
  hi.fill(row.max);
  std::int64_t i = 0;
  for (; i + kLanes <= row.n; i += kLanes)
    for (std::size_t j = 0; j < kLanes; ++j) {
      const float x = row.a[i + static_cast<std::int64_t>(j)];
      lo[j] = x < lo[j] ? x : lo[j];
      hi[j] = x > hi[j] ? x : hi[j];
    }
  for (; i < row.n; ++i) {
    lo[0] = row.a[i] < lo[0] ? row.a[i] : lo[0];
    hi[0] = row.a[i] > hi[0] ? row.a[i] : hi[0];
  }
  row.min = *std::min_element(lo.begin(), lo.end());
  row.max = *std::max_element(hi.begin(), hi.end());
}

void merge(FloatRange& into, const FloatRange& other) {
  into.min = std::min(into.min, other.min);
  into.max = std::max(into.max, other.max);
}

Grid8 dynamic_grid(const FloatRange& range) {
  Grid8 grid;
  const float width = (range.max - range.min) / 255.0F;
  grid.scale = width > 0.0F ? width : 1.0F;
  grid.zero_point = static_cast<std::int32_t>(std::clamp(std::nearbyint(0.0F - range.min / grid.scale), 0.0F, 255.0F));
  return grid;
}

void min_max(Isa isa, const float* src, std::int64_t n, float* min, float* max) {
  RealRow row;
  row.a = src;
  row.n = n;
  find("min_max", isa)(row);
  *min = row.min;
  *max = row.max;
}

void dequantize_rows(Isa isa, const DequantizeCall& call, const std::int32_t* acc, std::int64_t ld_acc, std::int64_t rows,
                     std::int64_t channels, FloatRange* range) {
  RealRow row;
  row.multiplier = call.multiplier;
  row.bias = call.bias;
  row.lo = call.lo;
  row.hi = call.hi;
  row.n = channels;
  row.rows = rows;
  row.ld_acc = ld_acc;
  row.ld_dst = call.ld_dst;
  row.acc = acc;
  row.dst = call.dst;
  find("dequantize_rows", isa)(row);
  if (range != nullptr) merge(*range, {row.min, row.max});
}

void add_reals(Isa isa, const float* a, const float* b, float lo, float hi, float* dst, std::int64_t n, FloatRange* range) {
  RealRow row;
  row.a = a;
  row.b = b;
  row.lo = lo;
  row.hi = hi;
  row.dst = dst;
  row.n = n;
  find("add_reals", isa)(row);
  if (range != nullptr) merge(*range, {row.min, row.max});
}

std::int64_t dynamic_scratch_bytes(const PackedConv& conv) {
  const std::int64_t channels = conv.shape.out_channels;
  return acc_bytes(block_rows(channels), channels) + conv_scratch_bytes(conv);
}

std::int64_t dynamic_scratch_bytes(const PackedDepthwise& conv, std::int64_t in_w, std::int64_t out_w) {
  return acc_bytes(kDynamicRows * out_w, conv.shape.out_channels) + depthwise_scratch_bytes(conv, in_w, out_w);
}

std::int64_t dynamic_scratch_bytes(const PackedGemm& weights) { return acc_bytes(block_rows(weights.n), weights.n); }

void qconv_dynamic(const PackedConv& conv, const ConvCall& conv_call, const DequantizeCall& call, std::int64_t begin, std::int64_t end,
                   std::span<std::byte> scratch, FloatRange* range) {
  const std::int64_t channels = conv.shape.out_channels;
  const std::int64_t step = block_rows(channels);
  auto* const acc = reinterpret_cast<std::int32_t*>(scratch.data());
  const std::span<std::byte> rest = scratch.subspan(static_cast<std::size_t>(acc_bytes(step, channels)));
  ConvCall to_acc = conv_call;
  to_acc.dst_type = DstType::kInt32;
  to_acc.ld_dst = channels;
  DequantizeCall to_real = call;
  for (std::int64_t first = begin; first < end; first += step) {
    const std::int64_t last = std::min(first + step, end);
    to_acc.dst = before(acc, first * channels);
    qconv(conv, to_acc, first, last, rest);
    to_real.dst = call.dst + first * call.ld_dst;
    dequantize_rows(conv.isa, to_real, acc, channels, last - first, channels, range);
  }
}

void qconv_depthwise_dynamic(const PackedDepthwise& conv, const ConvCall& conv_call, const DequantizeCall& call, std::int64_t begin,
                             std::int64_t end, std::span<std::byte> scratch, FloatRange* range) {
  const std::int64_t channels = conv.shape.out_channels;
  auto* const acc = reinterpret_cast<std::int32_t*>(scratch.data());
  const std::span<std::byte> rest = scratch.subspan(static_cast<std::size_t>(acc_bytes(kDynamicRows * conv_call.out_w, channels)));
  ConvCall to_acc = conv_call;
  to_acc.dst_type = DstType::kInt32;
  to_acc.ld_dst = channels;
  DequantizeCall to_real = call;
  for (std::int64_t first = begin; first < end; first += kDynamicRows) {
    const std::int64_t last = std::min(first + kDynamicRows, end);
    to_acc.dst = before(acc, first * conv_call.out_w * channels);
    qconv_depthwise(conv, to_acc, first, last, rest);
    to_real.dst = call.dst + first * conv_call.out_w * call.ld_dst;
    dequantize_rows(conv.isa, to_real, acc, channels, (last - first) * conv_call.out_w, channels, range);
  }
}

void qgemm_dynamic(const PackedGemm& weights, const GemmCall& gemm_call, const DequantizeCall& call, std::int64_t begin, std::int64_t end,
                   std::span<std::byte> scratch, FloatRange* range) {
  const std::int64_t step = block_rows(weights.n);
  auto* const acc = reinterpret_cast<std::int32_t*>(scratch.data());
  GemmCall to_acc = gemm_call;
  to_acc.dst_type = DstType::kInt32;
  to_acc.ld_dst = weights.n;
  DequantizeCall to_real = call;
  for (std::int64_t first = begin; first < end; first += step) {
    const std::int64_t last = std::min(first + step, end);
    to_acc.dst = before(acc, first * weights.n);
    qgemm(weights, to_acc, first, last);
    to_real.dst = call.dst + first * call.ld_dst;
    dequantize_rows(weights.isa, to_real, acc, weights.n, last - first, weights.n, range);
  }
}

std::string dequantize_rows_kernel_name(Isa isa) { return best_kernel_name("dequantize_rows", "s32f32", isa); }

}  // namespace nibble::kernels
