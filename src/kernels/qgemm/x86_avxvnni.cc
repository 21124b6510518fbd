#include "kernels/qgemm/x86_ymm.h"

namespace nibble::kernels {
namespace {

struct Vnni {
  static constexpr int kPhases = 1;
  static NIBBLE_INLINE __m256i prepare(__m256i a, int /*phase*/) { return a; }
  static NIBBLE_INLINE __m256i dot(__m256i acc, __m256i a, __m256i b) { return _mm256_dpbusd_avx_epi32(acc, a, b); }
};

}  // namespace

#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_BLOCKS(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) NIBBLE_KERNEL_##isa(mr, fn)
#define NIBBLE_KERNEL_avx2(mr, fn)
#define NIBBLE_KERNEL_avx512vnni(mr, fn)
#define NIBBLE_KERNEL_avxvnni(mr, fn) \
  void fn(const QgemmStrip& t);       \
  void fn(const QgemmStrip& t) { strip<mr, Vnni>(t); }
#include "kernels/qgemm/kernels.inc"

}  // namespace nibble::kernels
