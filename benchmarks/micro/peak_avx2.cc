#include <immintrin.h>

#include <cstdint>

std::int64_t peak_avx2(std::int64_t rounds);

// Enough chains to hide the latency; the empty statements keep the compiler from adding the rounds up.
std::int64_t peak_avx2(std::int64_t rounds) {
  __m256i x = _mm256_set1_epi8(1);
  const __m256i y = _mm256_set1_epi8(2);
  __m256i c0 = _mm256_setzero_si256(), c1 = _mm256_setzero_si256(), c2 = _mm256_setzero_si256(), c3 = _mm256_setzero_si256(),
          c4 = _mm256_setzero_si256(), c5 = _mm256_setzero_si256(), c6 = _mm256_setzero_si256(), c7 = _mm256_setzero_si256(),
          c8 = _mm256_setzero_si256(), c9 = _mm256_setzero_si256(), c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < rounds; ++i) {
    c0 = _mm256_add_epi32(c0, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c1 = _mm256_add_epi32(c1, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c2 = _mm256_add_epi32(c2, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c3 = _mm256_add_epi32(c3, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c4 = _mm256_add_epi32(c4, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c5 = _mm256_add_epi32(c5, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c6 = _mm256_add_epi32(c6, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c7 = _mm256_add_epi32(c7, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c8 = _mm256_add_epi32(c8, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c9 = _mm256_add_epi32(c9, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c10 = _mm256_add_epi32(c10, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
    c11 = _mm256_add_epi32(c11, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));  // else every product is the same one
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
  return rounds * 12 * 16;
}
