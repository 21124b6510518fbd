// 8 elements a step; the tail goes through a buffer, so that nothing past the rows is read.
#include "kernels/requantize/x86_avx2.h"

#include <immintrin.h>

#include <cstddef>

#include "kernels/qadd/kernels.h"

namespace nibble::kernels {
namespace {

struct Clamp {
  explicit Clamp(const BinaryRow& row)
      : lo(_mm256_set1_epi32(row.qmin)),
        hi(_mm256_set1_epi32(row.qmax)),
        hi_float(_mm256_set1_ps(static_cast<float>(row.qmax))),
        offset(_mm256_set1_epi32(row.offset_dst)) {}
  // The conversion wraps around above 2^31 only, hence the minimum before it; below it saturates.
  inline __attribute__((always_inline)) __m128i from_float(__m256 v) const {
    return from_int(_mm256_cvtps_epi32(_mm256_min_ps(v, hi_float)));
  }
  // 8 bytes in the low half.
  inline __attribute__((always_inline)) __m128i from_int(__m256i v) const {
    v = _mm256_add_epi32(_mm256_min_epi32(_mm256_max_epi32(v, lo), hi), offset);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return _mm_packus_epi16(words, words);
  }
  __m256i lo, hi;
  __m256 hi_float;
  __m256i offset;
};

inline __attribute__((always_inline)) __m256i load8(const std::uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}

// The loop: law(a, b) gets vectors of stored integers.
template <typename Law>
inline __attribute__((always_inline)) void for_each(const BinaryRow& row, Law law) {
  const __m256i scalar = _mm256_set1_epi32(row.b[0]);
  std::int64_t i = 0;
  for (; i + 8 <= row.n; i += 8)
    _mm_storel_epi64(reinterpret_cast<__m128i*>(row.dst + i), law(load8(row.a + i), row.b_step == 0 ? scalar : load8(row.b + i)));
  if (i == row.n) return;
  const auto count = static_cast<std::size_t>(row.n - i);
  std::uint8_t a[8] = {}, b[8] = {}, dst[8];
  __builtin_memcpy(a, row.a + i, count);
  if (row.b_step != 0) __builtin_memcpy(b, row.b + i, count);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(dst), law(load8(a), row.b_step == 0 ? scalar : load8(b)));
  __builtin_memcpy(row.dst + i, dst, count);
}

}  // namespace

void qadd_float32_avx2(const BinaryRow& row) {
  const Clamp clamp(row);
  const __m256i offset_a = _mm256_set1_epi32(row.offset_a), offset_b = _mm256_set1_epi32(row.offset_b);
  const __m256 ra = _mm256_set1_ps(row.ra), rb = _mm256_set1_ps(row.rb), f = _mm256_set1_ps(row.f);
  for_each(
      row, [&](__m256i a, __m256i b) __attribute__((always_inline)) {
        const __m256 fa = _mm256_cvtepi32_ps(_mm256_sub_epi32(a, offset_a));
        const __m256 fb = _mm256_cvtepi32_ps(_mm256_sub_epi32(b, offset_b));
        return clamp.from_float(_mm256_fmadd_ps(fa, ra, _mm256_fmadd_ps(fb, rb, f)));
      });
}

void qadd_fixed_point_avx2(const BinaryRow& row) {
  const Clamp clamp(row);
  const __m256i za = _mm256_set1_epi32(row.za + row.offset_a), zb = _mm256_set1_epi32(row.zb + row.offset_b);
  const __m256i ma = _mm256_set1_epi32(row.ma), mb = _mm256_set1_epi32(row.mb), half = _mm256_set1_epi32(1 << (row.shift - 1));
  const __m256i zero_point = _mm256_set1_epi32(row.zero_point);
  const __m128i shift = _mm_cvtsi32_si128(row.shift);
  for_each(
      row, [&](__m256i a, __m256i b) __attribute__((always_inline)) {
        const __m256i sum =
            _mm256_add_epi32(_mm256_mullo_epi32(_mm256_sub_epi32(a, za), ma), _mm256_mullo_epi32(_mm256_sub_epi32(b, zb), mb));
        return clamp.from_int(_mm256_add_epi32(_mm256_sra_epi32(_mm256_add_epi32(sum, half), shift), zero_point));
      });
}

void qmul_float32_avx2(const BinaryRow& row) {
  const Clamp clamp(row);
  const __m256i za = _mm256_set1_epi32(row.za + row.offset_a), zb = _mm256_set1_epi32(row.zb + row.offset_b);
  const __m256 r = _mm256_set1_ps(row.ra), f = _mm256_set1_ps(row.f);
  for_each(
      row, [&](__m256i a, __m256i b) __attribute__((always_inline)) {
        const __m256i p = _mm256_mullo_epi32(_mm256_sub_epi32(a, za), _mm256_sub_epi32(b, zb));
        return clamp.from_float(_mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(p), r), f));
      });
}

void qmul_fixed_point_avx2(const BinaryRow& row) {
  const Clamp clamp(row);
  const __m256i za = _mm256_set1_epi32(row.za + row.offset_a), zb = _mm256_set1_epi32(row.zb + row.offset_b);
  const __m256i m0 = _mm256_set1_epi32(row.ma), shift = _mm256_set1_epi32(row.shift), zero_point = _mm256_set1_epi32(row.zero_point);
  const __m256i lo = _mm256_set1_epi64x(row.qmin - row.zero_point), hi = _mm256_set1_epi64x(row.qmax - row.zero_point);
  for_each(
      row, [&](__m256i a, __m256i b) __attribute__((always_inline)) {
        const __m256i p = _mm256_mullo_epi32(_mm256_sub_epi32(a, za), _mm256_sub_epi32(b, zb));
        return clamp.from_int(_mm256_add_epi32(scale_fixed_point(p, m0, shift, lo, hi), zero_point));
      });
}

}  // namespace nibble::kernels
