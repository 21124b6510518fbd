// Two lookups in 128 bytes each, chosen by the top bit.
#include <immintrin.h>

#include "kernels/lut/kernels.h"

namespace nibble::kernels {

void lut_avx512vbmi(const std::uint8_t* table, const std::uint8_t* src, std::uint8_t* dst, std::int64_t n) {
  const __m512i t0 = _mm512_loadu_si512(table);
  const __m512i t1 = _mm512_loadu_si512(table + 64);
  const __m512i t2 = _mm512_loadu_si512(table + 128);
  const __m512i t3 = _mm512_loadu_si512(table + 192);
  for (std::int64_t i = 0; i < n; i += 64) {
    const __mmask64 mask = n - i >= 64 ? ~0ULL : ~0ULL >> (64 - (n - i));
    const __m512i x = _mm512_maskz_loadu_epi8(mask, src + i);
    const __m512i low = _mm512_permutex2var_epi8(t0, x, t1);
    const __m512i high = _mm512_permutex2var_epi8(t2, x, t3);
    _mm512_mask_storeu_epi8(dst + i, mask, _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high));
  }
}

}  // namespace nibble::kernels
