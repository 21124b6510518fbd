// 64 elements a step: bytes to the original integers (an int8 tensor, stored with 128 added, is read as int8 after a flip of the top bit),
// to floats and back. Masks keep the tail inside of the rows.
#include "kernels/requantize/x86_avx512.h"

#include <immintrin.h>

#include "kernels/qadd/kernels.h"
#include "kernels/x86_inline.h"

namespace nibble::kernels {
namespace {

// Sixteen original integers of 64 bytes.
template <bool kSigned>
NIBBLE_INLINE __m512i part(__m512i bytes, int i) {
  __m128i b = _mm512_castsi512_si128(bytes);
  if (i == 1) b = _mm512_extracti32x4_epi32(bytes, 1);
  if (i == 2) b = _mm512_extracti32x4_epi32(bytes, 2);
  if (i == 3) b = _mm512_extracti32x4_epi32(bytes, 3);
  return kSigned ? _mm512_cvtepi8_epi32(b) : _mm512_cvtepu8_epi32(b);
}

// The loop: law(a, b) gets sixteen original integers each and gives rounded integers that are at most 2^31 - 1; they are narrowed with
// saturation, the offset of dst is added, and the bytes clamped.
template <bool kSignedA, bool kSignedB, typename Law>
NIBBLE_INLINE void loop(const BinaryRow& row, Law law) {
  const __m512i flip_a = _mm512_set1_epi8(kSignedA ? -128 : 0), flip_b = _mm512_set1_epi8(kSignedB ? -128 : 0);
  const __m512i offset = _mm512_set1_epi16(static_cast<short>(row.offset_dst));
  const __m512i qmin = _mm512_set1_epi8(static_cast<char>(row.qmin + row.offset_dst));
  const __m512i qmax = _mm512_set1_epi8(static_cast<char>(row.qmax + row.offset_dst));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i scalar = _mm512_set1_epi8(static_cast<char>(row.b[0]));
  for (std::int64_t i = 0; i < row.n; i += 64) {
    const __mmask64 mask = row.n - i >= 64 ? ~0ULL : ~0ULL >> (64 - (row.n - i));
    __m512i a = _mm512_maskz_loadu_epi8(mask, row.a + i);
    __m512i b = row.b_step == 0 ? scalar : _mm512_maskz_loadu_epi8(mask, row.b + i);
    if (kSignedA) a = _mm512_xor_si512(a, flip_a);
    if (kSignedB) b = _mm512_xor_si512(b, flip_b);
    const __m512i v0 = law(part<kSignedA>(a, 0), part<kSignedB>(b, 0));
    const __m512i v1 = law(part<kSignedA>(a, 1), part<kSignedB>(b, 1));
    const __m512i v2 = law(part<kSignedA>(a, 2), part<kSignedB>(b, 2));
    const __m512i v3 = law(part<kSignedA>(a, 3), part<kSignedB>(b, 3));
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(v0, v1), offset);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(v2, v3), offset);
    const __m512i q = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));
    _mm512_mask_storeu_epi8(row.dst + i, mask, _mm512_min_epu8(_mm512_max_epu8(q, qmin), qmax));
  }
}

template <typename Law>
NIBBLE_INLINE void for_each(const BinaryRow& row, Law law) {
  if (row.offset_a == 0 && row.offset_b == 0)
    loop<false, false>(row, law);
  else if (row.offset_a == 0)
    loop<false, true>(row, law);
  else if (row.offset_b == 0)
    loop<true, false>(row, law);
  else
    loop<true, true>(row, law);
}

// Rounded; the conversion would wrap around above 2^31, hence the minimum (any bound beyond the grid will do). Below, it saturates.
NIBBLE_INLINE __m512i to_int(__m512 v) { return _mm512_cvtps_epi32(_mm512_min_ps(v, _mm512_set1_ps(65536.0F))); }

}  // namespace

void qadd_float32_avx512(const BinaryRow& row) {
  const __m512 ra = _mm512_set1_ps(row.ra), rb = _mm512_set1_ps(row.rb), f = _mm512_set1_ps(row.f);
  for_each(
      row, [&](__m512i a, __m512i b) __attribute__((always_inline)) {
        return to_int(_mm512_fmadd_ps(_mm512_cvtepi32_ps(a), ra, _mm512_fmadd_ps(_mm512_cvtepi32_ps(b), rb, f)));
      });
}

void qadd_fixed_point_avx512(const BinaryRow& row) {
  const __m512i za = _mm512_set1_epi32(row.za), zb = _mm512_set1_epi32(row.zb);
  const __m512i ma = _mm512_set1_epi32(row.ma), mb = _mm512_set1_epi32(row.mb), half = _mm512_set1_epi32(1 << (row.shift - 1));
  const __m512i zero_point = _mm512_set1_epi32(row.zero_point);
  const __m128i shift = _mm_cvtsi32_si128(row.shift);
  for_each(
      row, [&](__m512i a, __m512i b) __attribute__((always_inline)) {
        const __m512i sum =
            _mm512_add_epi32(_mm512_mullo_epi32(_mm512_sub_epi32(a, za), ma), _mm512_mullo_epi32(_mm512_sub_epi32(b, zb), mb));
        return _mm512_add_epi32(_mm512_sra_epi32(_mm512_add_epi32(sum, half), shift), zero_point);
      });
}

void qmul_float32_avx512(const BinaryRow& row) {
  const __m512i za = _mm512_set1_epi32(row.za), zb = _mm512_set1_epi32(row.zb);
  const __m512 r = _mm512_set1_ps(row.ra), f = _mm512_set1_ps(row.f);
  for_each(
      row, [&](__m512i a, __m512i b) __attribute__((always_inline)) {
        const __m512i p = _mm512_mullo_epi32(_mm512_sub_epi32(a, za), _mm512_sub_epi32(b, zb));
        return to_int(_mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(p), r), f));
      });
}

void qmul_fixed_point_avx512(const BinaryRow& row) {
  const __m512i za = _mm512_set1_epi32(row.za), zb = _mm512_set1_epi32(row.zb);
  const __m512i m0 = _mm512_set1_epi32(row.ma), shift = _mm512_set1_epi32(row.shift), zero_point = _mm512_set1_epi32(row.zero_point);
  const __m512i lo = _mm512_set1_epi64(row.qmin - row.zero_point), hi = _mm512_set1_epi64(row.qmax - row.zero_point);
  for_each(
      row, [&](__m512i a, __m512i b) __attribute__((always_inline)) {
        const __m512i p = _mm512_mullo_epi32(_mm512_sub_epi32(a, za), _mm512_sub_epi32(b, zb));
        return _mm512_add_epi32(scale_fixed_point(p, m0, shift, lo, hi), zero_point);
      });
}

}  // namespace nibble::kernels
