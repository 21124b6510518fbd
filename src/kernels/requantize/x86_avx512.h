// Requantization of vectors of 16 accumulators, for the ISA files alone: everything here has internal linkage.
#pragma once

#include <immintrin.h>

#include "kernels/requantize/view.h"
#include "kernels/x86_inline.h"

namespace nibble::kernels {
namespace {

// Law float32, without the zero point: rne(f32(acc) m), at most hi. Below, the conversion saturates to the lowest integer, which the
// narrowing that follows clamps; above, it would wrap around, hence the minimum.
NIBBLE_INLINE __m512i scale_float32(__m512i acc, __m512 multiplier, __m512 hi) {
  return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier), hi));
}

// Integer laws, without the zero point, clamped to [lo, hi] (64-bit lanes).
NIBBLE_INLINE __m512i scale_fixed_point(__m512i acc, __m512i m0, __m512i shift, __m512i lo, __m512i hi) {
  const __m512i one = _mm512_set1_epi64(1);
  const __m512i shift_even = _mm512_and_si512(shift, _mm512_set1_epi64(0xffffffff));
  const __m512i shift_odd = _mm512_srli_epi64(shift, 32);
  __m512i even = _mm512_mul_epi32(acc, m0);
  __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(acc, 32), _mm512_srli_epi64(m0, 32));
  even = _mm512_add_epi64(even, _mm512_srli_epi64(_mm512_sllv_epi64(one, shift_even), 1));
  odd = _mm512_add_epi64(odd, _mm512_srli_epi64(_mm512_sllv_epi64(one, shift_odd), 1));
  even = _mm512_min_epi64(_mm512_max_epi64(_mm512_srav_epi64(even, shift_even), lo), hi);
  odd = _mm512_min_epi64(_mm512_max_epi64(_mm512_srav_epi64(odd, shift_odd), lo), hi);
  return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

// 16 integers, zero point not yet added, to 16 bytes.
NIBBLE_INLINE __m128i narrow16(__m512i v, const Requantize& r) {
  v = _mm512_max_epi32(v, _mm512_set1_epi32(r.qmin - r.zero_point));
  v = _mm512_min_epi32(v, _mm512_set1_epi32(r.qmax - r.zero_point));
  return _mm512_cvtepi32_epi8(_mm512_add_epi32(v, _mm512_set1_epi32(r.zero_point)));
}

// Any law, 16 accumulators of channels c..c+15, to 16 bytes.
NIBBLE_INLINE __m128i requantize16(__m512i acc, const Requantize& r, std::int64_t c) {
  if (r.multiplier != nullptr) {
    const __m512 hi = _mm512_set1_ps(static_cast<float>(r.qmax - r.zero_point));
    return narrow16(scale_float32(acc, _mm512_loadu_ps(r.multiplier + c), hi), r);
  }
  const __m512i shift = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(r.shift + c)));
  return narrow16(scale_fixed_point(acc, _mm512_loadu_si512(r.m0 + c), shift, _mm512_set1_epi64(r.qmin - r.zero_point),
                                    _mm512_set1_epi64(r.qmax - r.zero_point)),
                  r);
}

// A fused addition under law float32, 16 values at a time.
class Addend {
 public:
  NIBBLE_INLINE Addend(const Requantize& r, const ResidualAdd& add)
      : lo_(_mm512_set1_ps(static_cast<float>(r.qmin - r.zero_point))),
        hi_(_mm512_set1_ps(static_cast<float>(r.qmax - r.zero_point))),
        magic_(_mm512_set1_ps(kMagic)),
        unmagic_(_mm512_set1_ps(kMagic - static_cast<float>(r.zero_point - add.offset))),
        offset_src_(_mm512_set1_epi32(add.offset_src)),
        first_(_mm512_set1_ps(add.r_first)),
        second_(_mm512_set1_ps(add.r_second)),
        f_(_mm512_set1_ps(add.f)),
        src_first_(add.src_first) {}

  // rne of the sum of a bounded addition, offset_dst not yet added.
  NIBBLE_INLINE __m512i sum(__m512i acc, __m512 multiplier, __m128i other) const {
    __m512 q = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier);
    // The bounds are integers, so the clamp may come before the rounding. Taking the magic number away again is exact, and so is taking
    // away what leads to the original integers with it.
    q = _mm512_min_ps(_mm512_max_ps(q, lo_), hi_);
    return _mm512_cvtps_epi32(total(_mm512_sub_ps(_mm512_add_ps(q, magic_), unmagic_), other));
  }
  // The same of any addition, of original integers, clamped above only: at most 65536.
  NIBBLE_INLINE __m512i sum(__m512 q, __m128i other) const {
    return _mm512_cvtps_epi32(_mm512_min_ps(total(q, other), _mm512_set1_ps(65536.0F)));
  }

 private:
  static constexpr float kMagic = 12582912.0F;  // 1.5 2^23 leaves no place behind the point

  NIBBLE_INLINE __m512 total(__m512 q, __m128i other) const {
    const __m512 s = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(other), offset_src_));
    return src_first_ ? _mm512_fmadd_ps(s, first_, _mm512_fmadd_ps(q, second_, f_))
                      : _mm512_fmadd_ps(q, first_, _mm512_fmadd_ps(s, second_, f_));
  }

  __m512 lo_, hi_, magic_, unmagic_;
  __m512i offset_src_;
  __m512 first_, second_, f_;
  bool src_first_;
};

// A fused addition under any law: 16 requantized bytes and 16 others.
NIBBLE_INLINE __m128i add_residual16(__m128i requantized, __m128i other, const ResidualAdd& add) {
  const __m512i q = _mm512_cvtepu8_epi32(requantized);
  __m512i v;
  std::int32_t zero = add.zero_dst;
  if (add.float32) {
    zero = add.offset_dst;
    v = Addend(Requantize{}, add).sum(_mm512_cvtepi32_ps(_mm512_sub_epi32(q, _mm512_set1_epi32(add.offset))), other);
  } else {
    const __m512i a = _mm512_mullo_epi32(_mm512_sub_epi32(q, _mm512_set1_epi32(add.zero)), _mm512_set1_epi32(add.m));
    const __m512i b =
        _mm512_mullo_epi32(_mm512_sub_epi32(_mm512_cvtepu8_epi32(other), _mm512_set1_epi32(add.zero_src)), _mm512_set1_epi32(add.m_src));
    const __m512i half = _mm512_set1_epi32(1 << (add.shift - 1));
    v = _mm512_sra_epi32(_mm512_add_epi32(_mm512_add_epi32(a, b), half), _mm_cvtsi32_si128(add.shift));
  }
  v = _mm512_max_epi32(v, _mm512_set1_epi32(add.qmin - zero));
  v = _mm512_min_epi32(v, _mm512_set1_epi32(add.qmax - zero));
  return _mm512_cvtepi32_epi8(_mm512_add_epi32(v, _mm512_set1_epi32(zero)));
}

}  // namespace
}  // namespace nibble::kernels
