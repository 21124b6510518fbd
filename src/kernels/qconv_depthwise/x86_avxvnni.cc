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

}  // namespace

void depthwise_32_avxvnni(const DepthwiseRow& d) { run_row<Y<Vnni>, Y<Vnni>, 2>(d); }
void depthwise_16_avxvnni(const DepthwiseRow& d) { run_row<X<Vnni>, X<Vnni>, 2>(d); }

}  // namespace nibble::kernels
