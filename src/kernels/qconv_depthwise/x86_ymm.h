// Vectors of 32 and 16 channels; Dot gives the instruction. Internal linkage.
//   Dot: kBytesPerByte (2 where weights are int16); dot(acc, z, wei) for both widths
#pragma once

#include "kernels/qconv_depthwise/x86_row.h"
#include "kernels/requantize/x86_avx2.h"

namespace nibble::kernels {
namespace {

// Bytes of a group of four rows that lie inside of the kernel, as weights of one.
NIBBLE_INLINE int ones_of(std::int64_t rows) {
  return rows >= 4 ? 0x01010101 : rows == 3 ? 0x00010101 : rows == 2 ? 0x00000101 : 0x00000001;
}

NIBBLE_INLINE __m128i requantize_any(const std::int32_t* acc, const Requantize& r, std::int64_t c) {
  return narrow16(scale8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc)), r, c),
                  scale8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(acc + 8)), r, c + 8), r);
}

template <typename Dot>
struct Y {
  using T = __m256i;
  static constexpr std::int64_t kChannels = 32;
  static constexpr int kPixels = 1;
  static constexpr std::int64_t kWeiBytes = 32 * Dot::kElementBytes;
  static NIBBLE_INLINE T zero() { return _mm256_setzero_si256(); }
  static NIBBLE_INLINE T load(const std::uint8_t* p, std::int64_t /*second*/) { return _mm256_loadu_si256(reinterpret_cast<const T*>(p)); }
  static NIBBLE_INLINE void store(std::uint8_t* p, std::int64_t /*second*/, T v) { _mm256_storeu_si256(reinterpret_cast<T*>(p), v); }
  static NIBBLE_INLINE T zip8_lo(T a, T b) { return _mm256_unpacklo_epi8(a, b); }
  static NIBBLE_INLINE T zip8_hi(T a, T b) { return _mm256_unpackhi_epi8(a, b); }
  static NIBBLE_INLINE T zip16_lo(T a, T b) { return _mm256_unpacklo_epi16(a, b); }
  static NIBBLE_INLINE T zip16_hi(T a, T b) { return _mm256_unpackhi_epi16(a, b); }
  static NIBBLE_INLINE T dot(T acc, T z, const std::byte* wei) { return Dot::dot(acc, z, wei); }
  static NIBBLE_INLINE T sum(T acc, T z, std::int64_t rows) {
    // Pairs of bytes, times 0 or 1, cannot saturate.
    const T words = _mm256_maddubs_epi16(z, _mm256_set1_epi32(ones_of(rows)));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
  }
  static NIBBLE_INLINE T minus_product(T acc, T a, T b) { return _mm256_sub_epi32(acc, _mm256_mullo_epi32(a, b)); }
  static NIBBLE_INLINE T from_channels(const std::int32_t* p, int j) {
    return _mm256_set_m128i(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 + 4 * j)),
                            _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 4 * j)));
  }
  static NIBBLE_INLINE T in_order(const std::int32_t* p, int j) { return _mm256_loadu_si256(reinterpret_cast<const T*>(p + 8 * j)); }
  static NIBBLE_INLINE void store_lanes(std::int32_t* p, int j, T v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 4 * j), _mm256_castsi256_si128(v));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 16 + 4 * j), _mm256_extracti128_si256(v, 1));
  }
  static NIBBLE_INLINE __m128i requantize(const std::int32_t* acc, const Requantize& r, std::int64_t c) {
    return requantize_any(acc, r, c);
  }
  template <bool kPlain>
  static NIBBLE_INLINE T finish(const T (&acc)[4], const T (&multiplier)[4], const Requantize& r) {
    const __m256 hi = _mm256_set1_ps(static_cast<float>(r.qmax - r.zero_point));
    T v[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) v[j] = scale_float32(acc[j], _mm256_castsi256_ps(multiplier[j]), hi);
    const T zero_point = _mm256_set1_epi16(static_cast<short>(r.zero_point));
    const T low = _mm256_adds_epi16(_mm256_packs_epi32(v[0], v[1]), zero_point);
    const T high = _mm256_adds_epi16(_mm256_packs_epi32(v[2], v[3]), zero_point);
    const T q = _mm256_max_epu8(_mm256_packus_epi16(low, high), _mm256_set1_epi8(static_cast<char>(r.qmin)));
    return _mm256_min_epu8(q, _mm256_set1_epi8(static_cast<char>(r.qmax)));
  }
};

template <typename Dot>
struct X {
  using T = __m128i;
  static constexpr std::int64_t kChannels = 16;
  static constexpr int kPixels = 1;
  static constexpr std::int64_t kWeiBytes = 16 * Dot::kElementBytes;
  static NIBBLE_INLINE T zero() { return _mm_setzero_si128(); }
  static NIBBLE_INLINE T load(const std::uint8_t* p, std::int64_t /*second*/) { return _mm_loadu_si128(reinterpret_cast<const T*>(p)); }
  static NIBBLE_INLINE void store(std::uint8_t* p, std::int64_t /*second*/, T v) { _mm_storeu_si128(reinterpret_cast<T*>(p), v); }
  static NIBBLE_INLINE T zip8_lo(T a, T b) { return _mm_unpacklo_epi8(a, b); }
  static NIBBLE_INLINE T zip8_hi(T a, T b) { return _mm_unpackhi_epi8(a, b); }
  static NIBBLE_INLINE T zip16_lo(T a, T b) { return _mm_unpacklo_epi16(a, b); }
  static NIBBLE_INLINE T zip16_hi(T a, T b) { return _mm_unpackhi_epi16(a, b); }
  static NIBBLE_INLINE T dot(T acc, T z, const std::byte* wei) { return Dot::dot(acc, z, wei); }
  static NIBBLE_INLINE T sum(T acc, T z, std::int64_t rows) {
    const T words = _mm_maddubs_epi16(z, _mm_set1_epi32(ones_of(rows)));
    return _mm_add_epi32(acc, _mm_madd_epi16(words, _mm_set1_epi16(1)));
  }
  static NIBBLE_INLINE T minus_product(T acc, T a, T b) { return _mm_sub_epi32(acc, _mm_mullo_epi32(a, b)); }
  static NIBBLE_INLINE T from_channels(const std::int32_t* p, int j) { return _mm_loadu_si128(reinterpret_cast<const T*>(p + 4 * j)); }
  static NIBBLE_INLINE T in_order(const std::int32_t* p, int j) { return from_channels(p, j); }
  static NIBBLE_INLINE void store_lanes(std::int32_t* p, int j, T v) { _mm_storeu_si128(reinterpret_cast<T*>(p + 4 * j), v); }
  static NIBBLE_INLINE __m128i requantize(const std::int32_t* acc, const Requantize& r, std::int64_t c) {
    return requantize_any(acc, r, c);
  }
  template <bool kPlain>
  static NIBBLE_INLINE T finish(const T (&acc)[4], const T (&multiplier)[4], const Requantize& r) {
    const __m128 hi = _mm_set1_ps(static_cast<float>(r.qmax - r.zero_point));
    T v[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      v[j] = _mm_cvtps_epi32(_mm_min_ps(_mm_mul_ps(_mm_cvtepi32_ps(acc[j]), _mm_castsi128_ps(multiplier[j])), hi));
    const T zero_point = _mm_set1_epi16(static_cast<short>(r.zero_point));
    const T low = _mm_adds_epi16(_mm_packs_epi32(v[0], v[1]), zero_point);
    const T high = _mm_adds_epi16(_mm_packs_epi32(v[2], v[3]), zero_point);
    const T q = _mm_max_epu8(_mm_packus_epi16(low, high), _mm_set1_epi8(static_cast<char>(r.qmin)));
    return _mm_min_epu8(q, _mm_set1_epi8(static_cast<char>(r.qmax)));
  }
};

}  // namespace
}  // namespace nibble::kernels
