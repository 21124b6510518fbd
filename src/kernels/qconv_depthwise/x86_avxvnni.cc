#include "kernels/qconv_depthwise/x86_band_ymm.h"
#include "kernels/qconv_depthwise/x86_ymm.h"

namespace nibble::kernels {
namespace {

struct Vnni {
  static constexpr std::int64_t kElementBytes = 1;
  static NIBBLE_INLINE __m256i dot(__m256i acc, __m256i z, const std::byte* wei) {
    return _mm256_dpbusd_avx_epi32(acc, z, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(wei)));
  }
  static NIBBLE_INLINE __m128i dot(__m128i acc, __m128i z, const std::byte* wei) {
    return _mm_dpbusd_avx_epi32(acc, z, _mm_loadu_si128(reinterpret_cast<const __m128i*>(wei)));
  }
};

struct VnniBand {
  static constexpr int kWeiVectors = 1;
  using Wei = __m256i;
  using Taps = __m256i;
  static NIBBLE_INLINE Wei wei(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
  static NIBBLE_INLINE Wei below(const Wei& w) { return _mm256_slli_epi32(w, 8); }  // (w0 w1 w2 0) -> (0 w0 w1 w2)
  static NIBBLE_INLINE Taps taps(__m256i z) { return z; }
  static NIBBLE_INLINE __m256i dot(__m256i acc, const Taps& z, const Wei& w) { return _mm256_dpbusd_avx_epi32(acc, z, w); }
};
using Band = BandYmm<VnniBand>;

}  // namespace

void band_32_s1_avxvnni(const DepthwiseBand& d) { run_band<Band, 1, 1>(d); }
void band_32_s2_avxvnni(const DepthwiseBand& d) { run_band<Band, 1, 2>(d); }
void band_16_s1_avxvnni(const DepthwiseBand& d) { run_band<Band, 2, 1>(d); }
void band_16_s2_avxvnni(const DepthwiseBand& d) { run_band<Band, 2, 2>(d); }

void depthwise_32_avxvnni(const DepthwiseRow& d) { run_row<Y<Vnni>, Y<Vnni>, 2>(d); }
void depthwise_16_avxvnni(const DepthwiseRow& d) { run_row<X<Vnni>, X<Vnni>, 2>(d); }

}  // namespace nibble::kernels
