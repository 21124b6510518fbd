// What tiles of mr rows by one panel of 16 columns in two vectors of 8 share, for AVX2 and AVX-VNNI. Internal linkage.
#pragma once

#include "kernels/qgemm/tile.h"
#include "kernels/requantize/x86_avx2.h"

namespace nibble::kernels {
namespace {

// The last 1..3 bytes of a run, the rest 0.
NIBBLE_INLINE int load_tail(const std::uint8_t* p, std::int64_t count) {
  unsigned v = p[0];
  if (count > 1) v |= static_cast<unsigned>(p[1]) << 8;
  if (count > 2) v |= static_cast<unsigned>(p[2]) << 16;
  return static_cast<int>(v);
}

__attribute__((noinline)) void row_sums(const QgemmStrip& t, std::int64_t first, std::int64_t count, std::int32_t* sums) {
  for (std::int64_t m = 0; m < count; ++m) {
    __m256i sum = _mm256_setzero_si256();
    std::int64_t rest = 0;
    for (std::int64_t tap = 0; tap < t.taps; ++tap) {
      const std::uint8_t* row = t.rows[tap * t.row_stride + first + m] + t.row_offset;
      std::int64_t i = 0;
      for (; i + 32 <= t.run; i += 32)
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + i)), _mm256_setzero_si256()));
      for (; i < t.run; ++i) rest += row[i];
    }
    const __m128i pair = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    sums[m] = static_cast<std::int32_t>(_mm_cvtsi128_si64(pair) + _mm_extract_epi64(pair, 1) + rest);
  }
}

NIBBLE_INLINE void store_row(std::uint8_t* dst, __m128i q, std::int64_t columns) {
  if (columns == 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst), q);
    return;
  }
  alignas(16) std::uint8_t bytes[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(bytes), q);
  __builtin_memcpy(dst, bytes, static_cast<std::size_t>(columns));
}

// The common case: law float32 and nothing else.
void finish_float32(const QgemmStrip& t, std::int64_t first, std::int64_t count, const std::int32_t* acc) {
  const Requantize& r = t.requantize;
  const __m256 m0 = _mm256_loadu_ps(r.multiplier), m1 = _mm256_loadu_ps(r.multiplier + 8);
  const __m256 hi = _mm256_set1_ps(static_cast<float>(r.qmax - r.zero_point));
  for (std::int64_t m = 0; m < count; ++m, acc += 16) {
    const auto* v = reinterpret_cast<const __m256i*>(acc);
    const __m128i q = narrow16(scale_float32(_mm256_load_si256(v), m0, hi), scale_float32(_mm256_load_si256(v + 1), m1, hi), r);
    store_row(t.dst + (first + m) * t.ld_dst, q, t.columns);
  }
}

// acc: [count][16], of the strip's rows from `first` on.
__attribute__((noinline)) void finish(const QgemmStrip& t, std::int64_t first, std::int64_t count, std::int32_t* acc) {
  if (t.zero_points == nullptr && t.acc == nullptr && t.residual.src == nullptr && t.requantize.multiplier != nullptr) {
    finish_float32(t, first, count, acc);
    return;
  }
  std::int32_t sums[kMaxTileRows];
  if (t.zero_points != nullptr) row_sums(t, first, count, sums);
  for (std::int64_t m = 0; m < count; ++m) {
    auto* v = reinterpret_cast<__m256i*>(acc + m * 16);
    __m256i v0 = _mm256_load_si256(v);
    __m256i v1 = _mm256_load_si256(v + 1);
    if (t.zero_points != nullptr) {
      const auto* zero = reinterpret_cast<const __m256i*>(t.zero_points);
      const __m256i sum = _mm256_set1_epi32(sums[m]);
      v0 = _mm256_sub_epi32(v0, _mm256_mullo_epi32(_mm256_loadu_si256(zero), sum));
      v1 = _mm256_sub_epi32(v1, _mm256_mullo_epi32(_mm256_loadu_si256(zero + 1), sum));
    }
    if (t.acc != nullptr) {
      _mm256_store_si256(v, v0);
      _mm256_store_si256(v + 1, v1);
      __builtin_memcpy(t.acc + (first + m) * t.ld_dst, v, static_cast<std::size_t>(t.columns) * 4);
      continue;
    }
    __m128i q = narrow16(scale8(v0, t.requantize, 0), scale8(v1, t.requantize, 8), t.requantize);
    if (t.residual.src != nullptr) {
      const std::uint8_t* other = t.residual.src + (first + m) * t.residual.ld_src;
      alignas(16) std::uint8_t bytes[16] = {};
      if (t.columns == 16)
        __builtin_memcpy(bytes, other, 16);
      else
        __builtin_memcpy(bytes, other, static_cast<std::size_t>(t.columns));
      q = add_residual16_ymm(q, _mm_load_si128(reinterpret_cast<const __m128i*>(bytes)), t.residual);
    }
    store_row(t.dst + (first + m) * t.ld_dst, q, t.columns);
  }
}

}  // namespace
}  // namespace nibble::kernels
