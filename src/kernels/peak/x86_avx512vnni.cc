#include <immintrin.h>

#include "kernels/peak/loops.h"

namespace nibble::kernels {

// Enough chains to hide the latency; the empty statements keep the compiler from adding the rounds up.
std::int64_t peak_avx512vnni(std::int64_t rounds) {
  const __m512i x = _mm512_set1_epi8(1), y = _mm512_set1_epi8(2);
  __m512i c0 = _mm512_setzero_si512(), c1 = _mm512_setzero_si512(), c2 = _mm512_setzero_si512(), c3 = _mm512_setzero_si512(),
          c4 = _mm512_setzero_si512(), c5 = _mm512_setzero_si512(), c6 = _mm512_setzero_si512(), c7 = _mm512_setzero_si512(),
          c8 = _mm512_setzero_si512(), c9 = _mm512_setzero_si512(), c10 = _mm512_setzero_si512(), c11 = _mm512_setzero_si512(),
          c12 = _mm512_setzero_si512(), c13 = _mm512_setzero_si512(), c14 = _mm512_setzero_si512(), c15 = _mm512_setzero_si512(),
          c16 = _mm512_setzero_si512(), c17 = _mm512_setzero_si512(), c18 = _mm512_setzero_si512(), c19 = _mm512_setzero_si512(),
          c20 = _mm512_setzero_si512(), c21 = _mm512_setzero_si512(), c22 = _mm512_setzero_si512(), c23 = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < rounds; ++i) {
    c0 = _mm512_dpbusd_epi32(c0, x, y);
    c1 = _mm512_dpbusd_epi32(c1, x, y);
    c2 = _mm512_dpbusd_epi32(c2, x, y);
    c3 = _mm512_dpbusd_epi32(c3, x, y);
    c4 = _mm512_dpbusd_epi32(c4, x, y);
    c5 = _mm512_dpbusd_epi32(c5, x, y);
    c6 = _mm512_dpbusd_epi32(c6, x, y);
    c7 = _mm512_dpbusd_epi32(c7, x, y);
    c8 = _mm512_dpbusd_epi32(c8, x, y);
    c9 = _mm512_dpbusd_epi32(c9, x, y);
    c10 = _mm512_dpbusd_epi32(c10, x, y);
    c11 = _mm512_dpbusd_epi32(c11, x, y);
    c12 = _mm512_dpbusd_epi32(c12, x, y);
    c13 = _mm512_dpbusd_epi32(c13, x, y);
    c14 = _mm512_dpbusd_epi32(c14, x, y);
    c15 = _mm512_dpbusd_epi32(c15, x, y);
    c16 = _mm512_dpbusd_epi32(c16, x, y);
    c17 = _mm512_dpbusd_epi32(c17, x, y);
    c18 = _mm512_dpbusd_epi32(c18, x, y);
    c19 = _mm512_dpbusd_epi32(c19, x, y);
    c20 = _mm512_dpbusd_epi32(c20, x, y);
    c21 = _mm512_dpbusd_epi32(c21, x, y);
    c22 = _mm512_dpbusd_epi32(c22, x, y);
    c23 = _mm512_dpbusd_epi32(c23, x, y);
    __asm__ volatile("" : "+v"(c0));
    __asm__ volatile("" : "+v"(c1));
    __asm__ volatile("" : "+v"(c2));
    __asm__ volatile("" : "+v"(c3));
    __asm__ volatile("" : "+v"(c4));
    __asm__ volatile("" : "+v"(c5));
    __asm__ volatile("" : "+v"(c6));
    __asm__ volatile("" : "+v"(c7));
    __asm__ volatile("" : "+v"(c8));
    __asm__ volatile("" : "+v"(c9));
    __asm__ volatile("" : "+v"(c10));
    __asm__ volatile("" : "+v"(c11));
    __asm__ volatile("" : "+v"(c12));
    __asm__ volatile("" : "+v"(c13));
    __asm__ volatile("" : "+v"(c14));
    __asm__ volatile("" : "+v"(c15));
    __asm__ volatile("" : "+v"(c16));
    __asm__ volatile("" : "+v"(c17));
    __asm__ volatile("" : "+v"(c18));
    __asm__ volatile("" : "+v"(c19));
    __asm__ volatile("" : "+v"(c20));
    __asm__ volatile("" : "+v"(c21));
    __asm__ volatile("" : "+v"(c22));
    __asm__ volatile("" : "+v"(c23));
  }
  return rounds * 24 * 64;
}

std::uint64_t read_avx512(const void* memory, std::int64_t bytes) {
  const std::int64_t part = bytes / 4;
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (std::int64_t i = 0; i < part; i += 256) {
    for (int stream = 0; stream < 4; ++stream) {
      const auto* p = static_cast<const char*>(memory) + stream * part + i;
      for (int line = 0; line < 4; ++line) _mm_prefetch(p + kReadAhead + 64 * line, _MM_HINT_T0);
      a = _mm512_xor_si512(a, _mm512_loadu_si512(p));
      b = _mm512_xor_si512(b, _mm512_loadu_si512(p + 64));
      c = _mm512_xor_si512(c, _mm512_loadu_si512(p + 128));
      d = _mm512_xor_si512(d, _mm512_loadu_si512(p + 192));
    }
  }
  const __m512i all = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
  const __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  return static_cast<std::uint64_t>(_mm256_extract_epi64(half, 0) ^ _mm256_extract_epi64(half, 1) ^ _mm256_extract_epi64(half, 2) ^
                                    _mm256_extract_epi64(half, 3));
}

}  // namespace nibble::kernels
