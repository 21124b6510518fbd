#include <immintrin.h>

#include "kernels/quantize_linear/kernels.h"

namespace nibble::kernels {

// x / scale, correctly rounded, as a multiplication and one correction (Markstein): with y the correctly rounded 1 / scale, q = x y, r = x
// - q scale (exact in a fused operation), q + r y is the rounded quotient. It holds where nothing overflows or underflows (the caller asks
// for a scale in [2^-60, 2^60] and x is clamped to the grid first; below the smallest normal numbers the result rounds to 0 anyway) and the
// mantissa of scale is not all ones.
void quantize_avx512(const Grid8& grid, const float* src, std::uint8_t* dst, std::int64_t n) {
  const __m512 scale = _mm512_set1_ps(grid.scale);
  const __m512 inv_scale = _mm512_set1_ps(1.0F / grid.scale);
  const __m512 lo = _mm512_set1_ps(static_cast<float>(grid.qmin - grid.zero_point));
  const __m512 hi = _mm512_set1_ps(static_cast<float>(grid.qmax - grid.zero_point));
  // Two steps beyond the grid: what lies there clamps whatever the quotient's last bit.
  const __m512 x_lo = _mm512_set1_ps(static_cast<float>(grid.qmin - grid.zero_point - 2) * grid.scale);
  const __m512 x_hi = _mm512_set1_ps(static_cast<float>(grid.qmax - grid.zero_point + 2) * grid.scale);
  const __m512i zero_point = _mm512_set1_epi32(grid.zero_point);
  unsigned bits;
  __builtin_memcpy(&bits, &grid.scale, 4);
  const bool divide = grid.scale < 0x1p-60F || grid.scale > 0x1p60F || (bits & 0x7fffffU) == 0x7fffffU;
  for (std::int64_t i = 0; i < n; i += 16) {
    const auto mask = static_cast<__mmask16>(n - i >= 16 ? 0xffff : (1 << (n - i)) - 1);
    __m512 x = _mm512_maskz_loadu_ps(mask, src + i);
    if (divide) {
      x = _mm512_div_ps(x, scale);
    } else {
      // max(NaN, lo) is lo: the second operand.
      x = _mm512_min_ps(_mm512_max_ps(x, x_lo), x_hi);
      const __m512 q = _mm512_mul_ps(x, inv_scale);
      x = _mm512_fmadd_ps(_mm512_fnmadd_ps(q, scale, x), inv_scale, q);
    }
    const __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(x, lo), hi)), zero_point);
    _mm_mask_storeu_epi8(dst + i, mask, _mm512_cvtepi32_epi8(q));
  }
}

void dequantize_u8_avx512(float scale, std::int32_t zero_point, const std::uint8_t* src, float* dst, std::int64_t n) {
  const __m512 s = _mm512_set1_ps(scale);
  const __m512i z = _mm512_set1_epi32(zero_point);
  for (std::int64_t i = 0; i < n; i += 16) {
    const auto mask = static_cast<__mmask16>(n - i >= 16 ? 0xffff : (1 << (n - i)) - 1);
    const __m512i q = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, src + i));
    _mm512_mask_storeu_ps(dst + i, mask, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(q, z)), s));
  }
}

}  // namespace nibble::kernels
