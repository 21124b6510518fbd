// Exact without VNNI: four taps a channel as two pairs of 16 bits (see qgemm/x86_avx2.cc).
#include "kernels/qconv_depthwise/x86_band_ymm.h"
#include "kernels/qconv_depthwise/x86_ymm.h"

namespace nibble::kernels {
namespace {

struct Widen {
  static constexpr std::int64_t kElementBytes = 2;
  static NIBBLE_INLINE __m256i dot(__m256i acc, __m256i z, const std::byte* wei) {
    const auto* w = reinterpret_cast<const __m256i*>(wei);
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_and_si256(z, _mm256_set1_epi32(0x00ff00ff)), _mm256_loadu_si256(w)));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_srli_epi16(z, 8), _mm256_loadu_si256(w + 1)));
  }
  static NIBBLE_INLINE __m128i dot(__m128i acc, __m128i z, const std::byte* wei) {
    const auto* w = reinterpret_cast<const __m128i*>(wei);
    acc = _mm_add_epi32(acc, _mm_madd_epi16(_mm_and_si128(z, _mm_set1_epi32(0x00ff00ff)), _mm_loadu_si128(w)));
    return _mm_add_epi32(acc, _mm_madd_epi16(_mm_srli_epi16(z, 8), _mm_loadu_si128(w + 1)));
  }
};

// The same for bands: even and odd taps are split once for all of their products.
struct WidenBand {
  static constexpr int kWeiVectors = 2;
  struct Wei {
    __m256i even, odd;  // (w0 w2), (w1 w3)
  };
  struct Taps {
    __m256i even, odd;
  };
  static NIBBLE_INLINE Wei wei(const void* p) {
    const auto* w = static_cast<const __m256i*>(p);
    return {_mm256_load_si256(w), _mm256_load_si256(w + 1)};
  }
  // (w0 w1 w2 0) -> (0 w0 w1 w2)
  static NIBBLE_INLINE Wei below(const Wei& w) { return {_mm256_slli_epi32(w.odd, 16), w.even}; }
  static NIBBLE_INLINE Taps taps(__m256i z) { return {_mm256_and_si256(z, _mm256_set1_epi32(0x00ff00ff)), _mm256_srli_epi16(z, 8)}; }
  static NIBBLE_INLINE __m256i dot(__m256i acc, const Taps& z, const Wei& w) {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(z.even, w.even));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(z.odd, w.odd));
  }
};
using Band = BandYmm<WidenBand>;

}  // namespace

void band_32_s1_avx2(const DepthwiseBand& d) { run_band<Band, 1, 1>(d); }
void band_32_s2_avx2(const DepthwiseBand& d) { run_band<Band, 1, 2>(d); }
void band_16_s1_avx2(const DepthwiseBand& d) { run_band<Band, 2, 1>(d); }
void band_16_s2_avx2(const DepthwiseBand& d) { run_band<Band, 2, 2>(d); }

void depthwise_32_avx2(const DepthwiseRow& d) { run_row<Y<Widen>, Y<Widen>, 2>(d); }
void depthwise_16_avx2(const DepthwiseRow& d) { run_row<X<Widen>, X<Widen>, 2>(d); }

}  // namespace nibble::kernels
