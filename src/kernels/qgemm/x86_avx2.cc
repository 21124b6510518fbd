// Exact without VNNI: vpmaddubsw would saturate (255 127 + 255 127 > 32767), so both sides are 16 bits wide. Weights are packed so; rows of
// src are widened here, a chunk of k at a time, once for up to four panels. Two instructions then do 16 multiply-adds, three pairs of them
// in two cycles: half as much again as floats.
#include "kernels/qgemm/x86_ymm.h"

namespace nibble::kernels {
namespace {

constexpr std::size_t kRows = 6;             // of a tile: 12 vectors of sums, 2 of weights, a broadcast and a product are the 16 there are
constexpr std::int64_t kChunk = 1024;        // k at a time: six rows of them stay in the first-level cache
constexpr std::int64_t kWide = kChunk + 16;  // elements of a widened row: whole vectors are written

// `count` bytes, fewer than 16, the rest 0. Nothing else is read.
NIBBLE_INLINE __m128i load_part(const std::uint8_t* p, std::int64_t count) {
  if (count >= 8) {
    std::uint64_t low, high;
    __builtin_memcpy(&low, p, 8);
    __builtin_memcpy(&high, p + count - 8, 8);
    high = count == 8 ? 0 : high >> (8 * (16 - count));
    return _mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low));
  }
  if (count >= 4) {
    std::uint32_t low, high;
    __builtin_memcpy(&low, p, 4);
    __builtin_memcpy(&high, p + count - 4, 4);
    const std::uint64_t above = count == 4 ? 0 : high >> (8 * (8 - count));
    return _mm_cvtsi64_si128(static_cast<long long>(low | above << 32));
  }
  return _mm_cvtsi32_si128(count == 0 ? 0 : load_tail(p, count));
}

// k of [begin, end), counted through all taps, of row `m` of the strip. Each run is filled up to a multiple of four with zeros.
NIBBLE_INLINE void widen(const QgemmStrip& t, std::int64_t m, std::int64_t begin, std::int64_t end, std::int16_t* out) {
  const std::int64_t run = (t.run + 3) / 4 * 4;
  std::int64_t tap = begin / run;
  std::int64_t at = begin % run;
  for (std::int64_t k = begin; k < end; ++tap, at = 0) {
    const std::uint8_t* row = t.rows[tap * t.row_stride + m] + t.row_offset;
    const std::int64_t stop = at + (end - k) < run ? at + (end - k) : run;
    k += stop - at;
    for (; at + 16 <= stop && at + 16 <= t.run; at += 16, out += 16)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                          _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + at))));
    for (; at < stop; at += 16) {
      const std::int64_t bytes = (stop < t.run ? stop : t.run) - at;
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_cvtepu8_epi16(load_part(row + at, bytes)));
      out += stop - at < 16 ? stop - at : 16;
    }
  }
}

// sums[m][16] += rows[m][k] wei[k][16]; groups of four k. The sums begin as those at `from`, `from_step` apart.
template <std::size_t MR>
NIBBLE_INLINE void products(const std::int16_t* rows, const std::byte* wei, std::int64_t groups, const std::int32_t* from,
                            std::int64_t from_step, std::int32_t* sums) {
  __m256i acc[MR][2];
#pragma GCC unroll 8
  for (std::size_t m = 0; m < MR; ++m) {
    const auto* v = reinterpret_cast<const __m256i*>(from + static_cast<std::int64_t>(m) * from_step);
    acc[m][0] = _mm256_loadu_si256(v);
    acc[m][1] = _mm256_loadu_si256(v + 1);
  }
  for (; groups > 0; --groups) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m256i b0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(wei + half * 64));
      const __m256i b1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(wei + half * 64 + 32));
#pragma GCC unroll 8
      for (std::size_t m = 0; m < MR; ++m) {
        int pair;
        __builtin_memcpy(&pair, rows + static_cast<std::int64_t>(m) * kWide + half * 2, 4);
        const __m256i a = _mm256_set1_epi32(pair);
        acc[m][0] = _mm256_add_epi32(acc[m][0], _mm256_madd_epi16(a, b0));
        acc[m][1] = _mm256_add_epi32(acc[m][1], _mm256_madd_epi16(a, b1));
        __asm__("" : "+x"(acc[m][0]), "+x"(acc[m][1]));  // gcc would add products first and spill the sums
      }
    }
    rows += 4;
    wei += 128;
  }
#pragma GCC unroll 8
  for (std::size_t m = 0; m < MR; ++m) {
    auto* v = reinterpret_cast<__m256i*>(sums + m * 16);
    _mm256_store_si256(v, acc[m][0]);
    _mm256_store_si256(v + 1, acc[m][1]);
  }
}

void any_products(std::int64_t mr, const std::int16_t* rows, const std::byte* wei, std::int64_t groups, const std::int32_t* from,
                  std::int64_t from_step, std::int32_t* sums) {
  switch (mr) {
    case 1: return products<1>(rows, wei, groups, from, from_step, sums);
    case 2: return products<2>(rows, wei, groups, from, from_step, sums);
    case 3: return products<3>(rows, wei, groups, from, from_step, sums);
    case 4: return products<4>(rows, wei, groups, from, from_step, sums);
    case 5: return products<5>(rows, wei, groups, from, from_step, sums);
    default: return products<6>(rows, wei, groups, from, from_step, sums);
  }
}

// One panel of a strip.
QgemmStrip part_of(const QgemmStrip& t, std::int64_t panel) {
  const std::int64_t column = panel * kPanel;
  QgemmStrip part = t;
  part.wei = t.wei + panel * t.panel_bytes;
  part.bias = t.bias + column;
  if (t.zero_points != nullptr) part.zero_points = t.zero_points + column;
  if (t.requantize.multiplier != nullptr) part.requantize.multiplier = t.requantize.multiplier + column;
  if (t.requantize.m0 != nullptr) {
    part.requantize.m0 = t.requantize.m0 + column;
    part.requantize.shift = t.requantize.shift + column;
  }
  if (t.residual.src != nullptr) part.residual.src = t.residual.src + column;
  if (t.dst != nullptr) part.dst = t.dst + column;
  if (t.acc != nullptr) part.acc = t.acc + column;
  part.columns = t.columns - column < kPanel ? t.columns - column : kPanel;
  return part;
}

void strip_of_panels(const QgemmStrip& t) {
  alignas(32) std::int16_t rows[kRows * kWide];
  alignas(32) std::int32_t sums[kMaxPanels][kRows * 16];
  QgemmStrip parts[kMaxPanels];
  const std::int64_t panels = (t.columns + kPanel - 1) / kPanel;
  for (std::int64_t p = 0; p < panels; ++p) parts[p] = part_of(t, p);
  const std::int64_t depth = t.taps * ((t.run + 3) / 4 * 4);
  for (std::int64_t first = 0; first < t.count;) {
    const std::int64_t height = even_share(t.count - first, kRows);
    for (std::int64_t k = 0; k == 0 || k < depth; k += kChunk) {
      const std::int64_t end = k + kChunk < depth ? k + kChunk : depth;
      for (std::int64_t m = 0; m < height; ++m) widen(t, first + m, k, end, rows + m * kWide);
      for (std::int64_t p = 0; p < panels; ++p)
        any_products(height, rows, parts[p].wei + k * kPanel * 2, (end - k) / 4, k == 0 ? parts[p].bias : sums[p], k == 0 ? 0 : 16,
                     sums[p]);
    }
    for (std::int64_t p = 0; p < panels; ++p) finish(parts[p], first, height, sums[p]);
    first += height;
  }
}

}  // namespace

#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_PORTABLE(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_BLOCKS(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) NIBBLE_KERNEL_##isa(fn)
#define NIBBLE_KERNEL_avxvnni(fn)
#define NIBBLE_KERNEL_avx512vnni(fn)
#define NIBBLE_KERNEL_avx2(fn)  \
  void fn(const QgemmStrip& t); \
  void fn(const QgemmStrip& t) { strip_of_panels(t); }
#include "kernels/qgemm/kernels.inc"

}  // namespace nibble::kernels
