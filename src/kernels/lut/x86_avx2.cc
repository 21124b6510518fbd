// Sixteen tables of 16 bytes, each looked up by the low nibble and kept where the high nibble is its own.
#include <immintrin.h>

#include "kernels/lut/kernels.h"

namespace nibble::kernels {
namespace {

inline __attribute__((always_inline)) __m256i map(const __m256i* tables, __m256i x) {
  __m256i result = _mm256_setzero_si256();
  const __m256i high = _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi8(15));
  const __m256i low = _mm256_and_si256(x, _mm256_set1_epi8(15));
  for (int t = 0; t < 16; ++t) {
    const __m256i here = _mm256_cmpeq_epi8(high, _mm256_set1_epi8(static_cast<char>(t)));
    result = _mm256_or_si256(result, _mm256_and_si256(here, _mm256_shuffle_epi8(tables[t], low)));
  }
  return result;
}

}  // namespace

void lut_avx2(const std::uint8_t* table, const std::uint8_t* src, std::uint8_t* dst, std::int64_t n) {
  __m256i tables[16];
  for (int t = 0; t < 16; ++t) tables[t] = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * t)));
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i), map(tables, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src + i))));
  for (; i < n; ++i) dst[i] = table[src[i]];
}

}  // namespace nibble::kernels
