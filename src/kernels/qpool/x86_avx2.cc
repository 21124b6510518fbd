#include "kernels/requantize/x86_avx2.h"

#include "kernels/qpool/kernels.h"

namespace nibble::kernels {
// Whole vectors of channels; the last one may do some channels again (dst is not src).
void pool_max_avx2(const PoolWindow& w) {
  if (w.channels < 16) return pool_max_reference(w);
  if (w.channels < 32) {
    for (std::int64_t at = 0; at < w.channels; at += 16) {
      const std::int64_t c = at + 16 <= w.channels ? at : w.channels - 16;
      __m128i best = _mm_set1_epi8(static_cast<char>(w.qmin));
      for (std::int64_t y = 0; y < w.height; ++y)
        for (std::int64_t x = 0; x < w.width; ++x)
          best = _mm_max_epu8(best, _mm_loadu_si128(reinterpret_cast<const __m128i*>(w.src + y * w.step_h + x * w.step_w + c)));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(w.dst + c), _mm_min_epu8(best, _mm_set1_epi8(static_cast<char>(w.qmax))));
    }
    return;
  }
  for (std::int64_t at = 0; at < w.channels; at += 32) {
    const std::int64_t c = at + 32 <= w.channels ? at : w.channels - 32;
    __m256i best = _mm256_set1_epi8(static_cast<char>(w.qmin));
    for (std::int64_t y = 0; y < w.height; ++y)
      for (std::int64_t x = 0; x < w.width; ++x)
        best = _mm256_max_epu8(best, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w.src + y * w.step_h + x * w.step_w + c)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(w.dst + c), _mm256_min_epu8(best, _mm256_set1_epi8(static_cast<char>(w.qmax))));
  }
}

void pool_average_avx2(const PoolWindow& w) {
  float multiplier[16];
  std::int32_t m0[16];
  std::uint8_t shift[16];
  Requantize r = w.requantize;
  for (int i = 0; i < 16; ++i) {
    if (r.multiplier != nullptr)
      multiplier[i] = *w.requantize.multiplier;
    else
      m0[i] = *w.requantize.m0, shift[i] = *w.requantize.shift;
  }
  if (r.multiplier != nullptr) r.multiplier = multiplier;
  r.m0 = m0;
  r.shift = shift;
  if (w.channels < 16) return pool_average_reference(w);
  for (std::int64_t at = 0; at < w.channels; at += 16) {
    const std::int64_t c = at + 16 <= w.channels ? at : w.channels - 16;
    __m256i sum0 = _mm256_set1_epi32(w.bias);
    __m256i sum1 = sum0;
    for (std::int64_t y = 0; y < w.height; ++y)
      for (std::int64_t x = 0; x < w.width; ++x) {
        const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w.src + y * w.step_h + x * w.step_w + c));
        sum0 = _mm256_add_epi32(sum0, _mm256_cvtepu8_epi32(v));
        sum1 = _mm256_add_epi32(sum1, _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)));
      }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(w.dst + c), narrow16(scale8(sum0, r, 0), scale8(sum1, r, 8), r));
  }
}

}  // namespace nibble::kernels
