// Exact without VNNI: vpmaddubsw would saturate (255 127 + 255 127 > 32767), so bytes are widened to 16 bits. Four bytes of src become the
// even and the odd two by an AND and a shift; the weights are packed as int16 in that order.
#include "kernels/qgemm/x86_ymm.h"

namespace nibble::kernels {
namespace {

struct Widen {
  static constexpr int kPhases = 2;
  static NIBBLE_INLINE __m256i prepare(__m256i a, int phase) {
    return phase == 0 ? _mm256_and_si256(a, _mm256_set1_epi32(0x00ff00ff)) : _mm256_srli_epi16(a, 8);
  }
  static NIBBLE_INLINE __m256i dot(__m256i acc, __m256i a, __m256i b) {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
    __asm__("" : "+x"(acc));  // gcc would add products first and spill the accumulators
    return acc;
  }
};

}  // namespace

#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_BLOCKS(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) NIBBLE_KERNEL_##isa(mr, fn)
#define NIBBLE_KERNEL_avxvnni(mr, fn)
#define NIBBLE_KERNEL_avx512vnni(mr, fn)
#define NIBBLE_KERNEL_avx2(mr, fn) \
  void fn(const QgemmStrip& t);    \
  void fn(const QgemmStrip& t) { strip<mr, Widen>(t); }
#include "kernels/qgemm/kernels.inc"

}  // namespace nibble::kernels
