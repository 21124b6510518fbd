#include "kernels/qgemm/x86_ymm.h"

namespace nibble::kernels {
namespace {

NIBBLE_INLINE int load4(const std::uint8_t* p) {
  int v;
  __builtin_memcpy(&v, p, 4);
  return v;
}

template <std::size_t MR>
NIBBLE_INLINE void tile(const QgemmStrip& t, std::int64_t first) {
  __m256i acc[MR][2];
#pragma GCC unroll 16
  for (std::size_t m = 0; m < MR; ++m) {
    acc[m][0] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.bias));
    acc[m][1] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.bias + 8));
  }
  const std::byte* wei = t.wei;
  const std::int64_t tail = t.may_read_past ? 0 : t.run % 4;
  const std::int64_t groups = tail == 0 ? (t.run + 3) / 4 : t.run / 4;
  for (std::int64_t tap = 0; tap < t.taps; ++tap) {
    const std::uint8_t* a[MR];
#pragma GCC unroll 16
    for (std::size_t m = 0; m < MR; ++m) a[m] = t.rows[tap * t.row_stride + first + static_cast<std::int64_t>(m)] + t.row_offset;
    for (std::int64_t k = 0; k < groups * 4; k += 4) {
      const __m256i b0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(wei));
      const __m256i b1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(wei + 32));
      wei += 64;
#pragma GCC unroll 16
      for (std::size_t m = 0; m < MR; ++m) {
        const __m256i v = _mm256_set1_epi32(load4(a[m] + k));
        acc[m][0] = _mm256_dpbusd_avx_epi32(acc[m][0], v, b0);
        acc[m][1] = _mm256_dpbusd_avx_epi32(acc[m][1], v, b1);
      }
    }
    if (tail != 0) {
      const __m256i b0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(wei));
      const __m256i b1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(wei + 32));
      wei += 64;
#pragma GCC unroll 16
      for (std::size_t m = 0; m < MR; ++m) {
        const __m256i v = _mm256_set1_epi32(load_tail(a[m] + groups * 4, tail));
        acc[m][0] = _mm256_dpbusd_avx_epi32(acc[m][0], v, b0);
        acc[m][1] = _mm256_dpbusd_avx_epi32(acc[m][1], v, b1);
      }
    }
  }
  alignas(32) std::int32_t buffer[MR * 16];
#pragma GCC unroll 16
  for (std::size_t m = 0; m < MR; ++m) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(buffer + m * 16), acc[m][0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(buffer + m * 16 + 8), acc[m][1]);
  }
  finish(t, first, MR, buffer);
}

// Cuts the rows into tiles.
NIBBLE_INLINE void strip(const QgemmStrip& t) {
  for (std::int64_t first = 0; first < t.count;) {
    const std::int64_t height = even_share(t.count - first, 6);
    switch (height) {
      case 1: tile<1>(t, first); break;
      case 2: tile<2>(t, first); break;
      case 3: tile<3>(t, first); break;
      case 4: tile<4>(t, first); break;
      case 5: tile<5>(t, first); break;
      default: tile<6>(t, first); break;
    }
    first += height;
  }
}

}  // namespace

#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_PORTABLE(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_BLOCKS(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) NIBBLE_KERNEL_##isa(fn)
#define NIBBLE_KERNEL_avx2(fn)
#define NIBBLE_KERNEL_avx512vnni(fn)
#define NIBBLE_KERNEL_avxvnni(fn) \
  void fn(const QgemmStrip& t);   \
  void fn(const QgemmStrip& t) { strip(t); }
#include "kernels/qgemm/kernels.inc"

}  // namespace nibble::kernels
