#include <immintrin.h>

#include "kernels/layout/kernels.h"

namespace nibble::kernels {
namespace {

// Byte j of the 192: plane j % 3, pixel j / 3. pair: index into planes 0 and 1 (64 more for plane 1); third: into plane 2; from_third:
// where.
struct Tables {
  alignas(64) std::uint8_t pair[3][64];
  alignas(64) std::uint8_t third[3][64];
  std::uint64_t from_third[3];
};

constexpr Tables make_tables() {
  Tables t{};
  for (unsigned j = 0; j < 192; ++j) {
    const unsigned plane = j % 3, pixel = j / 3;
    t.pair[j / 64][j % 64] = static_cast<std::uint8_t>(pixel + (plane == 1 ? 64 : 0));
    t.third[j / 64][j % 64] = static_cast<std::uint8_t>(pixel);
    if (plane == 2) t.from_third[j / 64] |= 1ULL << (j % 64);
  }
  return t;
}

constexpr Tables kTables = make_tables();

}  // namespace

void interleave_3x64_avx512vbmi(const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst) {
  const __m512i a = _mm512_loadu_si512(src);
  const __m512i b = _mm512_loadu_si512(src + ld_src);
  const __m512i c = _mm512_loadu_si512(src + 2 * ld_src);
#pragma GCC unroll 3
  for (int i = 0; i < 3; ++i) {
    const __m512i ab = _mm512_permutex2var_epi8(a, _mm512_load_si512(kTables.pair[i]), b);
    _mm512_storeu_si512(dst + 64 * i, _mm512_mask_permutexvar_epi8(ab, kTables.from_third[i], _mm512_load_si512(kTables.third[i]), c));
  }
}

}  // namespace nibble::kernels
