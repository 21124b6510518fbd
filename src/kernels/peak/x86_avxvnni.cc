#include <immintrin.h>

#include "kernels/peak/loops.h"

namespace nibble::kernels {

// Enough chains to hide the latency; the empty statements keep the compiler from adding the rounds up.
std::int64_t peak_avxvnni(std::int64_t rounds) {
  const __m256i x = _mm256_set1_epi8(1), y = _mm256_set1_epi8(2);
  __m256i c0 = _mm256_setzero_si256(), c1 = _mm256_setzero_si256(), c2 = _mm256_setzero_si256(), c3 = _mm256_setzero_si256(),
          c4 = _mm256_setzero_si256(), c5 = _mm256_setzero_si256(), c6 = _mm256_setzero_si256(), c7 = _mm256_setzero_si256(),
          c8 = _mm256_setzero_si256(), c9 = _mm256_setzero_si256(), c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < rounds; ++i) {
    c0 = _mm256_dpbusd_avx_epi32(c0, x, y);
    c1 = _mm256_dpbusd_avx_epi32(c1, x, y);
    c2 = _mm256_dpbusd_avx_epi32(c2, x, y);
    c3 = _mm256_dpbusd_avx_epi32(c3, x, y);
    c4 = _mm256_dpbusd_avx_epi32(c4, x, y);
    c5 = _mm256_dpbusd_avx_epi32(c5, x, y);
    c6 = _mm256_dpbusd_avx_epi32(c6, x, y);
    c7 = _mm256_dpbusd_avx_epi32(c7, x, y);
    c8 = _mm256_dpbusd_avx_epi32(c8, x, y);
    c9 = _mm256_dpbusd_avx_epi32(c9, x, y);
    c10 = _mm256_dpbusd_avx_epi32(c10, x, y);
    c11 = _mm256_dpbusd_avx_epi32(c11, x, y);
    __asm__ volatile("" : "+x"(c0));
    __asm__ volatile("" : "+x"(c1));
    __asm__ volatile("" : "+x"(c2));
    __asm__ volatile("" : "+x"(c3));
    __asm__ volatile("" : "+x"(c4));
    __asm__ volatile("" : "+x"(c5));
    __asm__ volatile("" : "+x"(c6));
    __asm__ volatile("" : "+x"(c7));
    __asm__ volatile("" : "+x"(c8));
    __asm__ volatile("" : "+x"(c9));
    __asm__ volatile("" : "+x"(c10));
    __asm__ volatile("" : "+x"(c11));
  }
  return rounds * 12 * 32;
}

}  // namespace nibble::kernels
