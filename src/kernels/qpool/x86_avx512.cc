#include "kernels/requantize/x86_avx512.h"

#include "kernels/qpool/kernels.h"

namespace nibble::kernels {

void pool_max_avx512(const PoolWindow& w) {
  for (std::int64_t c = 0; c < w.channels; c += 64) {
    const __mmask64 mask = w.channels - c >= 64 ? ~0ULL : ~0ULL >> (64 - (w.channels - c));
    __m512i best = _mm512_set1_epi8(static_cast<char>(w.qmin));
    for (std::int64_t y = 0; y < w.height; ++y)
      for (std::int64_t x = 0; x < w.width; ++x)
        best = _mm512_max_epu8(best, _mm512_maskz_loadu_epi8(mask, w.src + y * w.step_h + x * w.step_w + c));
    _mm512_mask_storeu_epi8(w.dst + c, mask, _mm512_min_epu8(best, _mm512_set1_epi8(static_cast<char>(w.qmax))));
  }
}

void pool_average_avx512(const PoolWindow& w) {
  // One multiplier for all channels: sixteen copies.
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
  for (std::int64_t c = 0; c < w.channels; c += 16) {
    const auto mask = static_cast<__mmask16>(w.channels - c >= 16 ? 0xffff : (1 << (w.channels - c)) - 1);
    __m512i sum = _mm512_set1_epi32(w.bias);
    for (std::int64_t y = 0; y < w.height; ++y)
      for (std::int64_t x = 0; x < w.width; ++x)
        sum = _mm512_add_epi32(sum, _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, w.src + y * w.step_h + x * w.step_w + c)));
    _mm_mask_storeu_epi8(w.dst + c, mask, requantize16(sum, r, 0));
  }
}

}  // namespace nibble::kernels
