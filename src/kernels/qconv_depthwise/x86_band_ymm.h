// Vectors of 32 bytes. Dot gives the instruction: Wei, wei, below, Taps, taps, dot. Internal linkage.
#pragma once

#include "kernels/qconv_depthwise/x86_band.h"
#include "kernels/requantize/x86_avx2.h"

namespace nibble::kernels {
namespace {

template <typename Dot>
struct BandYmm : Dot {
  using T = __m256i;
  static constexpr int kBytes = 32;

  static NIBBLE_INLINE T load(const void* p) { return _mm256_loadu_si256(static_cast<const T*>(p)); }
  template <int kSize, int kAt>
  static NIBBLE_INLINE void store_part(std::uint8_t* p, T v) {
    if constexpr (kSize == 32)
      _mm256_storeu_si256(reinterpret_cast<T*>(p), v);
    else
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), kAt == 0 ? _mm256_castsi256_si128(v) : _mm256_extracti128_si256(v, 1));
  }
  static NIBBLE_INLINE T zip8_lo(T a, T b) { return _mm256_unpacklo_epi8(a, b); }
  static NIBBLE_INLINE T zip8_hi(T a, T b) { return _mm256_unpackhi_epi8(a, b); }
  static NIBBLE_INLINE T zip16_lo(T a, T b) { return _mm256_unpacklo_epi16(a, b); }
  static NIBBLE_INLINE T zip16_hi(T a, T b) { return _mm256_unpackhi_epi16(a, b); }
  static NIBBLE_INLINE T fused(T acc, T multiplier, T offset) {
    return _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_castsi256_ps(acc), _mm256_castsi256_ps(multiplier), _mm256_castsi256_ps(offset)));
  }
  static NIBBLE_INLINE T words(T v0, T v1) { return _mm256_packs_epi32(v0, v1); }
  static NIBBLE_INLINE T words_of(std::int32_t v) { return _mm256_set1_epi16(static_cast<short>(v)); }
  static NIBBLE_INLINE T add_words(T a, T b) { return _mm256_adds_epi16(a, b); }
  static NIBBLE_INLINE T bytes(T low, T high) { return _mm256_packus_epi16(low, high); }
  static NIBBLE_INLINE T bytes_of(std::int32_t v) { return _mm256_set1_epi8(static_cast<char>(v)); }
  static NIBBLE_INLINE T clamp_bytes(T v, T low, T high) { return _mm256_min_epu8(_mm256_max_epu8(v, low), high); }
  static NIBBLE_INLINE __m128i requantize(const std::int32_t* acc, const Requantize& r, std::int64_t c) {
    return narrow16(scale8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc)), r, c),
                    scale8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + 8)), r, c + 8), r);
  }
};

}  // namespace
}  // namespace nibble::kernels
