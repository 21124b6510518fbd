#include <immintrin.h>

#include "kernels/quantize_linear/kernels.h"

namespace nibble::kernels {
namespace {

inline __attribute__((always_inline)) __m128i quantize8(const Grid8& grid, const float* src) {
  const __m256 x = _mm256_div_ps(_mm256_loadu_ps(src), _mm256_set1_ps(grid.scale));
  // max(NaN, lo) is lo: the second operand.
  const __m256 low = _mm256_max_ps(x, _mm256_set1_ps(static_cast<float>(grid.qmin - grid.zero_point)));
  const __m256 clamped = _mm256_min_ps(low, _mm256_set1_ps(static_cast<float>(grid.qmax - grid.zero_point)));
  const __m256i q = _mm256_add_epi32(_mm256_cvtps_epi32(clamped), _mm256_set1_epi32(grid.zero_point));
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
  return _mm_packus_epi16(words, words);
}

inline __attribute__((always_inline)) __m256 dequantize8(__m256 scale, __m256i zero_point, const std::uint8_t* src) {
  const __m256i q = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(src)));
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, zero_point)), scale);
}

}  // namespace

void quantize_avx2(const Grid8& grid, const float* src, std::uint8_t* dst, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm_storel_epi64(reinterpret_cast<__m128i*>(dst + i), quantize8(grid, src + i));
  if (i == n) return;
  float in[8] = {};
  std::uint8_t out[8];
  __builtin_memcpy(in, src + i, static_cast<unsigned long>(n - i) * sizeof(float));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), quantize8(grid, in));
  __builtin_memcpy(dst + i, out, static_cast<unsigned long>(n - i));
}

void dequantize_u8_avx2(float scale, std::int32_t zero_point, const std::uint8_t* src, float* dst, std::int64_t n) {
  const __m256 s = _mm256_set1_ps(scale);
  const __m256i z = _mm256_set1_epi32(zero_point);
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, dequantize8(s, z, src + i));
  if (i == n) return;
  std::uint8_t in[8] = {};
  float out[8];
  __builtin_memcpy(in, src + i, static_cast<unsigned long>(n - i));
  _mm256_storeu_ps(out, dequantize8(s, z, in));
  __builtin_memcpy(dst + i, out, static_cast<unsigned long>(n - i) * sizeof(float));
}

}  // namespace nibble::kernels
