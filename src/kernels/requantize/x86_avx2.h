// Requantization of vectors of 8 accumulators, for the ISA files alone: everything here has internal linkage.
#pragma once

#include <immintrin.h>

#include "kernels/requantize/view.h"
#include "kernels/x86_inline.h"

namespace nibble::kernels {
namespace {

// As in x86_avx512.h.
NIBBLE_INLINE __m256i scale_float32(__m256i acc, __m256 multiplier, __m256 hi) {
  return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), multiplier), hi));
}

// (product + 2^shift / 2) >> shift in 64-bit lanes, clamped. AVX2 shifts logically only: 2^62, a multiple of 2^shift, makes the value
// positive first.
NIBBLE_INLINE __m256i rounding_shift_clamp(__m256i product, __m256i shift, __m256i lo, __m256i hi) {
  const __m256i bias = _mm256_set1_epi64x(std::int64_t{1} << 62);
  const __m256i half = _mm256_srli_epi64(_mm256_sllv_epi64(_mm256_set1_epi64x(1), shift), 1);
  const __m256i sum = _mm256_add_epi64(_mm256_add_epi64(product, bias), half);
  __m256i v = _mm256_sub_epi64(_mm256_srlv_epi64(sum, shift), _mm256_srlv_epi64(bias, shift));
  v = _mm256_blendv_epi8(v, lo, _mm256_cmpgt_epi64(lo, v));
  return _mm256_blendv_epi8(v, hi, _mm256_cmpgt_epi64(v, hi));
}

NIBBLE_INLINE __m256i scale_fixed_point(__m256i acc, __m256i m0, __m256i shift, __m256i lo, __m256i hi) {
  const __m256i shift_even = _mm256_and_si256(shift, _mm256_set1_epi64x(0xffffffff));
  const __m256i even = rounding_shift_clamp(_mm256_mul_epi32(acc, m0), shift_even, lo, hi);
  const __m256i odd =
      rounding_shift_clamp(_mm256_mul_epi32(_mm256_srli_epi64(acc, 32), _mm256_srli_epi64(m0, 32)), _mm256_srli_epi64(shift, 32), lo, hi);
  return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

// Any law, 8 accumulators of channels c..c+7, zero point not yet added.
NIBBLE_INLINE __m256i scale8(__m256i acc, const Requantize& r, std::int64_t c) {
  if (r.multiplier != nullptr)
    return scale_float32(acc, _mm256_loadu_ps(r.multiplier + c), _mm256_set1_ps(static_cast<float>(r.qmax - r.zero_point)));
  const __m256i shift = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(r.shift + c)));
  return scale_fixed_point(acc, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(r.m0 + c)), shift,
                           _mm256_set1_epi64x(r.qmin - r.zero_point), _mm256_set1_epi64x(r.qmax - r.zero_point));
}

// 16 scaled values (8 and 8) to bytes: two saturating narrowings clamp to [0, 255] around the added zero point.
NIBBLE_INLINE __m128i narrow16(__m256i v0, __m256i v1, const Requantize& r) {
  __m256i words = _mm256_adds_epi16(_mm256_packs_epi32(v0, v1), _mm256_set1_epi16(static_cast<short>(r.zero_point)));
  words = _mm256_permute4x64_epi64(words, 0xd8);
  __m128i q = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  q = _mm_max_epu8(q, _mm_set1_epi8(static_cast<char>(r.qmin)));
  return _mm_min_epu8(q, _mm_set1_epi8(static_cast<char>(r.qmax)));
}

// A fused addition under any law: 8 requantized integers and 8 bytes of the other tensor in the low half; not yet narrowed, zero point or
// offset added, clamped above only (at most 65536).
NIBBLE_INLINE __m256i add_residual8(__m256i requantized, __m128i other, const ResidualAdd& add) {
  const __m256i other32 = _mm256_cvtepu8_epi32(other);
  if (add.float32) {
    const __m256 q = _mm256_cvtepi32_ps(_mm256_sub_epi32(requantized, _mm256_set1_epi32(add.offset)));
    const __m256 s = _mm256_cvtepi32_ps(_mm256_sub_epi32(other32, _mm256_set1_epi32(add.offset_src)));
    const __m256 first = _mm256_set1_ps(add.r_first), second = _mm256_set1_ps(add.r_second), f = _mm256_set1_ps(add.f);
    const __m256 total =
        add.src_first ? _mm256_fmadd_ps(s, first, _mm256_fmadd_ps(q, second, f)) : _mm256_fmadd_ps(q, first, _mm256_fmadd_ps(s, second, f));
    return _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_min_ps(total, _mm256_set1_ps(65000.0F))), _mm256_set1_epi32(add.offset_dst));
  }
  const __m256i a = _mm256_mullo_epi32(_mm256_sub_epi32(requantized, _mm256_set1_epi32(add.zero)), _mm256_set1_epi32(add.m));
  const __m256i b = _mm256_mullo_epi32(_mm256_sub_epi32(other32, _mm256_set1_epi32(add.zero_src)), _mm256_set1_epi32(add.m_src));
  const __m256i half = _mm256_set1_epi32(1 << (add.shift - 1));
  const __m256i v = _mm256_sra_epi32(_mm256_add_epi32(_mm256_add_epi32(a, b), half), _mm_cvtsi32_si128(add.shift));
  return _mm256_add_epi32(v, _mm256_set1_epi32(add.zero_dst));
}

// 16 requantized bytes and 16 others to 16 bytes.
NIBBLE_INLINE __m128i add_residual16_ymm(__m128i requantized, __m128i other, const ResidualAdd& add) {
  const __m256i v0 = add_residual8(_mm256_cvtepu8_epi32(requantized), other, add);
  const __m256i v1 = add_residual8(_mm256_cvtepu8_epi32(_mm_srli_si128(requantized, 8)), _mm_srli_si128(other, 8), add);
  const __m256i lo = _mm256_set1_epi32(add.qmin), hi = _mm256_set1_epi32(add.qmax);
  const auto clamp = [&](__m256i v) __attribute__((always_inline)) { return _mm256_min_epi32(_mm256_max_epi32(v, lo), hi); };
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(clamp(v0), clamp(v1)), 0xd8);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

}  // namespace
}  // namespace nibble::kernels
