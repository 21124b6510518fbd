#include "kernels/qconv_depthwise/x86_band.h"
#include "kernels/qconv_depthwise/x86_ymm.h"
#include "kernels/requantize/x86_avx512.h"

namespace nibble::kernels {
namespace {

struct Vnni {
  static constexpr std::int64_t kElementBytes = 1;
  static NIBBLE_INLINE __m256i dot(__m256i acc, __m256i z, const std::byte* wei) {
    return _mm256_dpbusd_epi32(acc, z, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(wei)));
  }
  static NIBBLE_INLINE __m128i dot(__m128i acc, __m128i z, const std::byte* wei) {
    return _mm_dpbusd_epi32(acc, z, _mm_loadu_si128(reinterpret_cast<const __m128i*>(wei)));
  }
};

struct Z {
  using T = __m512i;
  static constexpr std::int64_t kChannels = 64;
  static constexpr int kPixels = 1;
  static constexpr std::int64_t kWeiBytes = 64;
  static NIBBLE_INLINE T zero() { return _mm512_setzero_si512(); }
  static NIBBLE_INLINE T load(const std::uint8_t* p, std::int64_t /*second*/) { return _mm512_loadu_si512(p); }
  static NIBBLE_INLINE void store(std::uint8_t* p, std::int64_t /*second*/, T v) { _mm512_storeu_si512(p, v); }
  static NIBBLE_INLINE T zip8_lo(T a, T b) { return _mm512_unpacklo_epi8(a, b); }
  static NIBBLE_INLINE T zip8_hi(T a, T b) { return _mm512_unpackhi_epi8(a, b); }
  static NIBBLE_INLINE T zip16_lo(T a, T b) { return _mm512_unpacklo_epi16(a, b); }
  static NIBBLE_INLINE T zip16_hi(T a, T b) { return _mm512_unpackhi_epi16(a, b); }
  static NIBBLE_INLINE T dot(T acc, T z, const std::byte* wei) { return _mm512_dpbusd_epi32(acc, z, _mm512_loadu_si512(wei)); }
  static NIBBLE_INLINE T sum(T acc, T z, std::int64_t rows) { return _mm512_dpbusd_epi32(acc, z, _mm512_set1_epi32(ones_of(rows))); }
  static NIBBLE_INLINE T minus_product(T acc, T a, T b) { return _mm512_sub_epi32(acc, _mm512_mullo_epi32(a, b)); }
  static NIBBLE_INLINE T from_channels(const std::int32_t* p, int j) {
    T v = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 4 * j)));
    v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 + 4 * j)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 32 + 4 * j)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 48 + 4 * j)), 3);
  }
  static NIBBLE_INLINE T in_order(const std::int32_t* p, int j) { return _mm512_loadu_si512(p + 16 * j); }
  static NIBBLE_INLINE void store_lanes(std::int32_t* p, int j, T v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 4 * j), _mm512_castsi512_si128(v));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 16 + 4 * j), _mm512_extracti32x4_epi32(v, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 32 + 4 * j), _mm512_extracti32x4_epi32(v, 2));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 48 + 4 * j), _mm512_extracti32x4_epi32(v, 3));
  }
  static NIBBLE_INLINE __m128i requantize(const std::int32_t* acc, const Requantize& r, std::int64_t c) {
    return requantize16(_mm512_loadu_si512(acc), r, c);
  }
  template <bool kPlain>
  static NIBBLE_INLINE T finish(const T (&acc)[4], const T (&multiplier)[4], const Requantize& r) {
    const __m512 hi = _mm512_set1_ps(static_cast<float>(r.qmax - r.zero_point));
    T v[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if constexpr (kPlain)
        v[j] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc[j]), _mm512_castsi512_ps(multiplier[j])));
      else
        v[j] = scale_float32(acc[j], _mm512_castsi512_ps(multiplier[j]), hi);
    }
    const T zero_point = _mm512_set1_epi16(static_cast<short>(r.zero_point));
    const T low = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero_point);
    const T high = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zero_point);
    T q = _mm512_packus_epi16(low, high);
    if constexpr (!kPlain) {
      q = _mm512_max_epu8(q, _mm512_set1_epi8(static_cast<char>(r.qmin)));
      q = _mm512_min_epu8(q, _mm512_set1_epi8(static_cast<char>(r.qmax)));
    }
    return q;
  }
};

// 32 channels of two outputs: the lower half is the first one's.
struct Pair : Z {
  static constexpr std::int64_t kChannels = 32;
  static constexpr int kPixels = 2;
  static constexpr std::int64_t kWeiBytes = 32;
  static NIBBLE_INLINE T load(const std::uint8_t* p, std::int64_t second) {
    const T low = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_inserti64x4(low, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + second)), 1);
  }
  static NIBBLE_INLINE void store(std::uint8_t* p, std::int64_t second, T v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_castsi512_si256(v));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + second), _mm512_extracti64x4_epi64(v, 1));
  }
  static NIBBLE_INLINE T twice(const void* p) { return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(p))); }
  static NIBBLE_INLINE T dot(T acc, T z, const std::byte* wei) { return _mm512_dpbusd_epi32(acc, z, twice(wei)); }
  static NIBBLE_INLINE T in_order(const std::int32_t* p, int j) { return twice(p + 8 * j); }
};

struct Band {
  using T = __m512i;
  using Wei = __m512i;
  using Taps = __m512i;
  static constexpr int kBytes = 64;
  static constexpr int kWeiVectors = 1;

  static NIBBLE_INLINE T load(const void* p) { return _mm512_loadu_si512(p); }
  template <int kSize, int kAt>
  static NIBBLE_INLINE void store_part(std::uint8_t* p, T v) {
    if constexpr (kSize == 64) _mm512_storeu_si512(p, v);
    if constexpr (kSize == 32) _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_extracti64x4_epi64(v, kAt / 32));
    if constexpr (kSize == 16) _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_extracti32x4_epi32(v, kAt / 16));
  }
  static NIBBLE_INLINE Wei wei(const void* p) { return load(p); }
  static NIBBLE_INLINE Wei below(Wei w) { return _mm512_slli_epi32(w, 8); }  // (w0 w1 w2 0) -> (0 w0 w1 w2)
  static NIBBLE_INLINE Taps taps(T v) { return v; }
  static NIBBLE_INLINE T dot(T acc, Taps z, Wei w) { return _mm512_dpbusd_epi32(acc, z, w); }
  static NIBBLE_INLINE T zip8_lo(T a, T b) { return _mm512_unpacklo_epi8(a, b); }
  static NIBBLE_INLINE T zip8_hi(T a, T b) { return _mm512_unpackhi_epi8(a, b); }
  static NIBBLE_INLINE T zip16_lo(T a, T b) { return _mm512_unpacklo_epi16(a, b); }
  static NIBBLE_INLINE T zip16_hi(T a, T b) { return _mm512_unpackhi_epi16(a, b); }
  static NIBBLE_INLINE T fused(T acc, T multiplier, T offset) {
    return _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_castsi512_ps(acc), _mm512_castsi512_ps(multiplier), _mm512_castsi512_ps(offset)));
  }
  static NIBBLE_INLINE T words(T v0, T v1) { return _mm512_packs_epi32(v0, v1); }
  static NIBBLE_INLINE T words_of(std::int32_t v) { return _mm512_set1_epi16(static_cast<short>(v)); }
  static NIBBLE_INLINE T add_words(T a, T b) { return _mm512_adds_epi16(a, b); }
  static NIBBLE_INLINE T bytes(T low, T high) { return _mm512_packus_epi16(low, high); }
  static NIBBLE_INLINE T bytes_of(std::int32_t v) { return _mm512_set1_epi8(static_cast<char>(v)); }
  static NIBBLE_INLINE T clamp_bytes(T v, T low, T high) { return _mm512_min_epu8(_mm512_max_epu8(v, low), high); }
  static NIBBLE_INLINE __m128i requantize(const std::int32_t* acc, const Requantize& r, std::int64_t c) {
    return requantize16(_mm512_loadu_si512(acc), r, c);
  }
};

}  // namespace

void band_64_s1_avx512vnni(const DepthwiseBand& d) { run_band<Band, 1, 1>(d); }
void band_64_s2_avx512vnni(const DepthwiseBand& d) { run_band<Band, 1, 2>(d); }
void band_32_s1_avx512vnni(const DepthwiseBand& d) { run_band<Band, 2, 1>(d); }
void band_32_s2_avx512vnni(const DepthwiseBand& d) { run_band<Band, 2, 2>(d); }
void band_16_s1_avx512vnni(const DepthwiseBand& d) { run_band<Band, 4, 1>(d); }
void band_16_s2_avx512vnni(const DepthwiseBand& d) { run_band<Band, 4, 2>(d); }

void depthwise_64_avx512vnni(const DepthwiseRow& d) { run_row<Z, Z, 4>(d); }
void depthwise_32_avx512vnni(const DepthwiseRow& d) { run_row<Y<Vnni>, Pair, 4>(d); }
void depthwise_16_avx512vnni(const DepthwiseRow& d) { run_row<X<Vnni>, X<Vnni>, 4>(d); }

}  // namespace nibble::kernels
