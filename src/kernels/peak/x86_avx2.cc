#include <immintrin.h>

#include "kernels/peak/loops.h"

namespace nibble::kernels {

// Enough chains to hide the latency; the empty statements keep the compiler from adding the rounds up, and from taking every product for
// the same one.
std::int64_t peak_avx2(std::int64_t rounds) {
  __m256i x = _mm256_set1_epi8(1);
  const __m256i y = _mm256_set1_epi8(2);
  __m256i c0 = _mm256_setzero_si256(), c1 = _mm256_setzero_si256(), c2 = _mm256_setzero_si256(), c3 = _mm256_setzero_si256(),
          c4 = _mm256_setzero_si256(), c5 = _mm256_setzero_si256(), c6 = _mm256_setzero_si256(), c7 = _mm256_setzero_si256(),
          c8 = _mm256_setzero_si256(), c9 = _mm256_setzero_si256(), c10 = _mm256_setzero_si256(), c11 = _mm256_setzero_si256();
  for (std::int64_t i = 0; i < rounds; ++i) {
    c0 = _mm256_add_epi32(c0, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c1 = _mm256_add_epi32(c1, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c2 = _mm256_add_epi32(c2, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c3 = _mm256_add_epi32(c3, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c4 = _mm256_add_epi32(c4, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c5 = _mm256_add_epi32(c5, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c6 = _mm256_add_epi32(c6, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c7 = _mm256_add_epi32(c7, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c8 = _mm256_add_epi32(c8, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c9 = _mm256_add_epi32(c9, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c10 = _mm256_add_epi32(c10, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
    c11 = _mm256_add_epi32(c11, _mm256_madd_epi16(x, y));
    __asm__("" : "+x"(x));
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

std::uint64_t read_avx2(const void* memory, std::int64_t bytes) {
  const std::int64_t part = bytes / 4;
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  const auto load = [](const char* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); };
  for (std::int64_t i = 0; i < part; i += 256) {
    for (int stream = 0; stream < 4; ++stream) {
      const auto* p = static_cast<const char*>(memory) + stream * part + i;
      for (int line = 0; line < 4; ++line) _mm_prefetch(p + kReadAhead + 64 * line, _MM_HINT_T0);
      a = _mm256_xor_si256(_mm256_xor_si256(a, load(p)), load(p + 32));
      b = _mm256_xor_si256(_mm256_xor_si256(b, load(p + 64)), load(p + 96));
      c = _mm256_xor_si256(_mm256_xor_si256(c, load(p + 128)), load(p + 160));
      d = _mm256_xor_si256(_mm256_xor_si256(d, load(p + 192)), load(p + 224));
    }
  }
  const __m256i all = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
  return static_cast<std::uint64_t>(_mm256_extract_epi64(all, 0) ^ _mm256_extract_epi64(all, 1) ^ _mm256_extract_epi64(all, 2) ^
                                    _mm256_extract_epi64(all, 3));
}

}  // namespace nibble::kernels
