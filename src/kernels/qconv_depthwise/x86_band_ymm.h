// Vectors of 32 bytes: 32 channels, or 16 of two streams. Dot gives the instruction: Wei, wei(p, streams), below, Taps, taps, dot. Internal
// linkage.
#pragma once

#include "kernels/qconv_depthwise/x86_band.h"
#include "kernels/requantize/x86_avx2.h"

namespace nibble::kernels {
namespace {

template <int kStreamCount>
NIBBLE_INLINE __m256i load_ymm(const void* p, std::int64_t d) {
  if constexpr (kStreamCount == 1)
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
  else
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p))),
                                   _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const std::byte*>(p) + d)), 1);
}

template <typename Dot, int kStreamCount>
struct BandYmm {
  using T = __m256i;
  using Wei = typename Dot::Wei;
  using Taps = typename Dot::Taps;
  static constexpr int kStreams = kStreamCount;
  static constexpr std::int64_t kChannels = 32 / kStreams;
  static constexpr std::int64_t kWeiBytes = kChannels * Dot::kElementBytes;

  static NIBBLE_INLINE T load(const std::uint8_t* p, std::int64_t d) { return load_ymm<kStreams>(p, d); }
  static NIBBLE_INLINE void store(std::uint8_t* p, std::int64_t d, T v) {
    if constexpr (kStreams == 1) {
      _mm256_storeu_si256(reinterpret_cast<T*>(p), v);
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(v));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p + d), _mm256_extracti128_si256(v, 1));
    }
  }
  static NIBBLE_INLINE T spread(const void* p) { return load_ymm<kStreams>(p, 0); }
  static NIBBLE_INLINE Wei wei(const std::byte* p) { return Dot::template wei<kStreams>(p); }
  static NIBBLE_INLINE Wei below(const Wei& w) { return Dot::below(w); }
  static NIBBLE_INLINE Taps taps(T v) { return Dot::taps(v); }
  static NIBBLE_INLINE T dot(T acc, const Taps& z, const Wei& w) { return Dot::dot(acc, z, w); }
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
  static NIBBLE_INLINE T clamp_bytes(T v, std::int32_t low, std::int32_t high) {
    v = _mm256_max_epu8(v, _mm256_set1_epi8(static_cast<char>(low)));
    return _mm256_min_epu8(v, _mm256_set1_epi8(static_cast<char>(high)));
  }
  static NIBBLE_INLINE void store_lanes(std::int32_t* p, std::int64_t d, T v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(v));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + (kStreams == 1 ? 16 : d)), _mm256_extracti128_si256(v, 1));
  }
  static NIBBLE_INLINE __m128i requantize(const std::int32_t* acc, const Requantize& r, std::int64_t c) {
    return narrow16(scale8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc)), r, c),
                    scale8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + 8)), r, c + 8), r);
  }
};

}  // namespace
}  // namespace nibble::kernels
