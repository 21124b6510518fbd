// Tiles of mr rows by one panel of 16 columns in two vectors of 8, for AVX2 and AVX-VNNI; the including file defines dot(). Internal
// linkage.
//   struct Dot { static constexpr int kBytes (of a panel's group of 4 k); static void group(acc, a, k, wei): one group of 4 k for all rows
//   }
#pragma once

#include "kernels/qgemm/tile.h"
#include "kernels/requantize/x86_avx2.h"

namespace nibble::kernels {
namespace {

NIBBLE_INLINE int load4(const std::uint8_t* p) {
  int v;
  __builtin_memcpy(&v, p, 4);
  return v;
}

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

// acc: [count][16], of the strip's rows from `first` on.
__attribute__((noinline)) void finish(const QgemmStrip& t, std::int64_t first, std::int64_t count, std::int32_t* acc) {
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
    std::uint8_t* dst = t.dst + (first + m) * t.ld_dst;
    if (t.columns == 16) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(dst), q);
    } else {
      alignas(16) std::uint8_t bytes[16];
      _mm_store_si128(reinterpret_cast<__m128i*>(bytes), q);
      __builtin_memcpy(dst, bytes, static_cast<std::size_t>(t.columns));
    }
  }
}

template <std::size_t MR, typename Dot>
NIBBLE_INLINE void tile(const QgemmStrip& t, std::int64_t first) {
  __m256i acc[MR][2];
#pragma GCC unroll 16
  for (std::size_t m = 0; m < MR; ++m) {
    acc[m][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.bias));
    acc[m][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.bias + 8));
  }
  const std::byte* wei = t.wei;
  const std::int64_t tail = t.may_read_past ? 0 : t.run % 4;
  const std::int64_t groups = tail == 0 ? (t.run + 3) / 4 : t.run / 4;
  for (std::int64_t tap = 0; tap < t.taps; ++tap) {
    const std::uint8_t* a[MR];
#pragma GCC unroll 16
    for (std::size_t m = 0; m < MR; ++m) a[m] = t.rows[tap * t.row_stride + first + static_cast<std::int64_t>(m)] + t.row_offset;
    for (std::int64_t k = 0; k < groups * 4; k += 4) {
#pragma GCC unroll 2
      for (int phase = 0; phase < Dot::kPhases; ++phase) {
        const __m256i b0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(wei));
        const __m256i b1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(wei + 32));
        wei += 64;
        // An index of its own for each phase: gcc would keep the values of the first alive for the second and spill.
        std::int64_t at = k;
        if constexpr (Dot::kPhases > 1) __asm__ volatile("" : "+r"(at));
#pragma GCC unroll 16
        for (std::size_t m = 0; m < MR; ++m) {
          const __m256i v = Dot::prepare(_mm256_set1_epi32(load4(a[m] + at)), phase);
          acc[m][0] = Dot::dot(acc[m][0], v, b0);
          acc[m][1] = Dot::dot(acc[m][1], v, b1);
        }
      }
    }
    if (tail != 0) {
#pragma GCC unroll 2
      for (int phase = 0; phase < Dot::kPhases; ++phase) {
        const __m256i b0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(wei));
        const __m256i b1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(wei + 32));
        wei += 64;
#pragma GCC unroll 16
        for (std::size_t m = 0; m < MR; ++m) {
          const __m256i v = Dot::prepare(_mm256_set1_epi32(load_tail(a[m] + groups * 4, tail)), phase);
          acc[m][0] = Dot::dot(acc[m][0], v, b0);
          acc[m][1] = Dot::dot(acc[m][1], v, b1);
        }
      }
    }
  }
  alignas(32) std::int32_t buffer[MR * 16];
#pragma GCC unroll 16
  for (std::size_t m = 0; m < MR; ++m) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(buffer + m * 16), acc[m][0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(buffer + m * 16 + 8), acc[m][1]);
  }
  finish(t, first, MR, buffer);
}

// Cuts the rows into tiles of at most MR <= 6.
template <std::size_t MR, typename Dot>
NIBBLE_INLINE void strip(const QgemmStrip& t) {
  for (std::int64_t first = 0; first < t.count;) {
    const std::int64_t height = even_share(t.count - first, MR);
    switch (height) {
      case 1: tile<1, Dot>(t, first); break;
      case 2: tile<2, Dot>(t, first); break;
      case 3: tile<3, Dot>(t, first); break;
      case 4: tile<4, Dot>(t, first); break;
      case 5: tile<5, Dot>(t, first); break;
      default:
        if constexpr (MR > 5) tile<6, Dot>(t, first);
        break;
    }
    first += height;
  }
}

}  // namespace
}  // namespace nibble::kernels
