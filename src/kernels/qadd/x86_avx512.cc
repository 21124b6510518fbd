// 16 elements a step: bytes to integers (the original ones) to floats and back. An unmasked tail would read past the rows: masks.
#include "kernels/qadd/kernels.h"

#include <immintrin.h>

namespace nibble::kernels {
namespace {

struct Clamp {
  explicit Clamp(const BinaryRow& row)
      : lo(_mm512_set1_epi32(row.qmin)), hi(_mm512_set1_epi32(row.qmax)), hi_float(_mm512_set1_ps(static_cast<float>(row.qmax))),
        offset(_mm512_set1_epi32(row.offset_dst)) {}
  // The conversion wraps around above 2^31 only, hence the minimum before it; below it saturates.
  inline __attribute__((always_inline)) __m128i from_float(__m512 v) const { return from_int(_mm512_cvtps_epi32(_mm512_min_ps(v, hi_float))); }
  inline __attribute__((always_inline)) __m128i from_int(__m512i v) const {
    return _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_min_epi32(_mm512_max_epi32(v, lo), hi), offset));
  }
  __m512i lo, hi;
  __m512 hi_float;
  __m512i offset;
};

// The loop: law(a, b) gets vectors of stored integers.
template <typename Law>
inline __attribute__((always_inline)) void for_each(const BinaryRow& row, Law law) {
  const __m512i scalar = _mm512_set1_epi32(row.b[0]);
  for (std::int64_t i = 0; i < row.n; i += 16) {
    const auto mask = static_cast<__mmask16>(row.n - i >= 16 ? 0xffff : (1 << (row.n - i)) - 1);
    const __m512i a = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, row.a + i));
    const __m512i b = row.b_step == 0 ? scalar : _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, row.b + i));
    _mm_mask_storeu_epi8(row.dst + i, mask, law(a, b));
  }
}

}  // namespace

void qadd_float32_avx512(const BinaryRow& row) {
  const Clamp clamp(row);
  const __m512i offset_a = _mm512_set1_epi32(row.offset_a), offset_b = _mm512_set1_epi32(row.offset_b);
  const __m512 ra = _mm512_set1_ps(row.ra), rb = _mm512_set1_ps(row.rb), f = _mm512_set1_ps(row.f);
  for_each(row, [&](__m512i a, __m512i b) __attribute__((always_inline)) {
    const __m512 fa = _mm512_cvtepi32_ps(_mm512_sub_epi32(a, offset_a));
    const __m512 fb = _mm512_cvtepi32_ps(_mm512_sub_epi32(b, offset_b));
    return clamp.from_float(_mm512_fmadd_ps(fa, ra, _mm512_fmadd_ps(fb, rb, f)));
  });
}

void qadd_fixed_point_avx512(const BinaryRow& row) {
  const Clamp clamp(row);
  const __m512i za = _mm512_set1_epi32(row.za + row.offset_a), zb = _mm512_set1_epi32(row.zb + row.offset_b);
  const __m512i ma = _mm512_set1_epi32(row.ma), mb = _mm512_set1_epi32(row.mb), half = _mm512_set1_epi32(1 << (row.shift - 1));
  const __m512i zero_point = _mm512_set1_epi32(row.zero_point);
  const __m128i shift = _mm_cvtsi32_si128(row.shift);
  for_each(row, [&](__m512i a, __m512i b) __attribute__((always_inline)) {
    const __m512i sum = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_sub_epi32(a, za), ma), _mm512_mullo_epi32(_mm512_sub_epi32(b, zb), mb));
    return clamp.from_int(_mm512_add_epi32(_mm512_sra_epi32(_mm512_add_epi32(sum, half), shift), zero_point));
  });
}

void qmul_float32_avx512(const BinaryRow& row) {
  const Clamp clamp(row);
  const __m512i za = _mm512_set1_epi32(row.za + row.offset_a), zb = _mm512_set1_epi32(row.zb + row.offset_b);
  const __m512 r = _mm512_set1_ps(row.ra), f = _mm512_set1_ps(row.f);
  for_each(row, [&](__m512i a, __m512i b) __attribute__((always_inline)) {
    const __m512i p = _mm512_mullo_epi32(_mm512_sub_epi32(a, za), _mm512_sub_epi32(b, zb));
    return clamp.from_float(_mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(p), r), f));
  });
}

}  // namespace nibble::kernels
