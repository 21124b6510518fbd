// Tiles of mr rows by np panels of 16 columns: mr x np accumulators in registers, one dot-product instruction for 4 k of 16 columns. The
// limit is 2 such instructions a cycle with a latency of 4 or 5, so a tile wants at least 10 accumulators, and it reads np + mr vectors a
// step.
#include "kernels/qgemm/tile.h"
#include "kernels/requantize/x86_avx512.h"

namespace nibble::kernels {
namespace {

// The last 1..3 bytes of a run, the rest 0.
NIBBLE_INLINE int load_tail(const std::uint8_t* p, std::int64_t count) {
  unsigned v = p[0];
  if (count > 1) v |= static_cast<unsigned>(p[1]) << 8;
  if (count > 2) v |= static_cast<unsigned>(p[2]) << 16;
  return static_cast<int>(v);
}

NIBBLE_INLINE __m512i broadcast4(const std::uint8_t* p) {
  int v;
  __builtin_memcpy(&v, p, 4);
  return _mm512_set1_epi32(v);
}

__attribute__((noinline)) void row_sums(const QgemmStrip& t, std::int64_t first, std::int64_t count, std::int32_t* sums) {
  const __m512i ones = _mm512_set1_epi8(1);
  for (std::int64_t m = 0; m < count; ++m) {
    __m512i sum = _mm512_setzero_si512();
    for (std::int64_t tap = 0; tap < t.taps; ++tap) {
      const std::uint8_t* row = t.rows[tap * t.row_stride + first + m] + t.row_offset;
      std::int64_t i = 0;
      for (; i + 64 <= t.run; i += 64) sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(row + i), ones);
      if (i < t.run) {
        const __mmask64 mask = ~0ULL >> (64 - (t.run - i));
        sum = _mm512_dpbusd_epi32(sum, _mm512_maskz_loadu_epi8(mask, row + i), ones);
      }
    }
    sums[m] = _mm512_reduce_add_epi32(sum);
  }
}

// The sums of a tile, in memory: [rows][np][16].
using Sums = const std::int32_t*;

// What is not the common case: affine weights, integer laws, int32 output. `count` rows of the strip from `first` on.
template <std::size_t NP>
NIBBLE_INLINE void finish_any(const QgemmStrip& t, std::int64_t first, std::int64_t count, Sums sums) {
  std::int32_t row_sum[kMaxTileRows];
  if (t.zero_points != nullptr) row_sums(t, first, count, row_sum);
  for (std::int64_t m = 0; m < count; ++m) {
    for (std::int64_t p = 0; p < static_cast<std::int64_t>(NP); ++p, sums += 16) {
      __m512i v = _mm512_load_si512(sums);
      if (t.zero_points != nullptr)
        v = _mm512_sub_epi32(v, _mm512_mullo_epi32(_mm512_loadu_si512(t.zero_points + p * 16), _mm512_set1_epi32(row_sum[m])));
      const std::int64_t left = t.columns - p * 16;
      const auto mask = static_cast<__mmask16>(left >= 16 ? 0xffff : (1 << left) - 1);
      const std::int64_t at = (first + m) * t.ld_dst + p * 16;
      if (t.acc != nullptr) {
        _mm512_mask_storeu_epi32(t.acc + at, mask, v);
        continue;
      }
      __m128i q = requantize16(v, t.requantize, p * 16);
      if (t.residual.src != nullptr)
        q = add_residual16(q, _mm_maskz_loadu_epi8(mask, t.residual.src + (first + m) * t.residual.ld_src + p * 16), t.residual);
      _mm_mask_storeu_epi8(t.dst + at, mask, q);
    }
  }
}

// kPlainZero: as kPlain with a zero point of 0, which saves adding it.
enum class Finish { kPlainZero, kPlain, kClamp, kAdd, kAny };

// Scaled values of a row to bytes in their order: narrowing twice with saturation clamps to [0, 255] around the added zero point, and
// leaves the dwords of the four lanes transposed.
template <Finish kFinish, std::size_t NP>
NIBBLE_INLINE __m512i narrow(const __m512i (&v)[NP], __m512i zero_point, __m512i qmin, __m512i qmax) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m512i low = _mm512_packs_epi32(v[0], v[NP > 1 ? 1 : 0]);
  if constexpr (kFinish != Finish::kPlainZero) low = _mm512_adds_epi16(low, zero_point);
  __m512i high = low;
  if constexpr (NP > 2) {
    high = _mm512_packs_epi32(v[2], v[NP > 3 ? 3 : 2]);
    if constexpr (kFinish != Finish::kPlainZero) high = _mm512_adds_epi16(high, zero_point);
  }
  __m512i q = _mm512_packus_epi16(low, high);
  if constexpr (kFinish == Finish::kClamp || kFinish == Finish::kAdd) q = _mm512_min_epu8(_mm512_max_epu8(q, qmin), qmax);
  return _mm512_permutexvar_epi32(order, q);
}

// Law float32 from registers, the case that counts.
template <Finish kFinish, std::size_t MR, std::size_t NP>
NIBBLE_INLINE void finish_plain(const QgemmStrip& t, std::int64_t first, std::int64_t count, const __m512i (&acc)[MR][NP]) {
  const __m512i zero_point = _mm512_set1_epi16(static_cast<short>(t.requantize.zero_point));
  const __mmask64 mask = ~0ULL >> (64 - t.columns);
  __m512 multiplier[NP];
#pragma GCC unroll 4
  for (std::size_t p = 0; p < NP; ++p) multiplier[p] = _mm512_loadu_ps(t.requantize.multiplier + p * 16);
  std::uint8_t* dst = t.dst + first * t.ld_dst;
#pragma GCC unroll 16
  for (std::size_t m = 0; m < MR; ++m) {
    if (static_cast<std::int64_t>(m) >= count) break;
    __m512i v[NP];
#pragma GCC unroll 4
    for (std::size_t p = 0; p < NP; ++p) v[p] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc[m][p]), multiplier[p]));
    _mm512_mask_storeu_epi8(dst, mask, narrow<kFinish>(v, zero_point, zero_point, zero_point));
    dst += t.ld_dst;
  }
}

// Law float32 from memory, with what else may be asked for.
template <Finish kFinish, std::size_t NP>
NIBBLE_INLINE void finish_float32(const QgemmStrip& t, std::int64_t first, std::int64_t count, Sums sums) {
  const Requantize& r = t.requantize;
  const __m512 hi = _mm512_set1_ps(static_cast<float>(r.qmax - r.zero_point));
  const __m512i zero_point = _mm512_set1_epi16(static_cast<short>(kFinish == Finish::kAdd ? t.residual.offset_dst : r.zero_point));
  const __m512i qmin = _mm512_set1_epi8(static_cast<char>(kFinish == Finish::kAdd ? t.residual.qmin : r.qmin));
  const __m512i qmax = _mm512_set1_epi8(static_cast<char>(kFinish == Finish::kAdd ? t.residual.qmax : r.qmax));
  const __mmask64 mask = ~0ULL >> (64 - t.columns);
  const Addend addend(t.requantize, t.residual);
  __m512 multiplier[NP];
#pragma GCC unroll 4
  for (std::size_t p = 0; p < NP; ++p) multiplier[p] = _mm512_loadu_ps(r.multiplier + p * 16);
  for (std::int64_t m = 0; m < count; ++m, sums += NP * 16) {
    __m512i v[NP];
#pragma GCC unroll 4
    for (std::size_t p = 0; p < NP; ++p) {
      const __m512i sum = _mm512_load_si512(sums + p * 16);
      if constexpr (kFinish == Finish::kAdd) {
        const std::uint8_t* other = t.residual.src + (first + m) * t.residual.ld_src + p * 16;
        v[p] = addend.sum(sum, multiplier[p], _mm_maskz_loadu_epi8(static_cast<__mmask16>(mask >> (p * 16)), other));
      } else {
        v[p] = scale_float32(sum, multiplier[p], hi);
      }
    }
    _mm512_mask_storeu_epi8(t.dst + (first + m) * t.ld_dst, mask, narrow<kFinish>(v, zero_point, qmin, qmax));
  }
}

template <std::size_t NP>
__attribute__((noinline)) void finish_memory(const QgemmStrip& t, Finish how, std::int64_t first, std::int64_t count, Sums sums) {
  if (how == Finish::kAdd)
    finish_float32<Finish::kAdd, NP>(t, first, count, sums);
  else if (how == Finish::kClamp)
    finish_float32<Finish::kClamp, NP>(t, first, count, sums);
  else
    finish_any<NP>(t, first, count, sums);
}

Finish finish_of(const QgemmStrip& t) {
  const bool add = t.residual.src != nullptr;
  if (t.zero_points != nullptr || t.acc != nullptr || t.requantize.multiplier == nullptr || (add && !t.residual.bounded))
    return Finish::kAny;
  if (add) return Finish::kAdd;
  if (!t.requantize.plain) return Finish::kClamp;
  return t.requantize.zero_point == 0 ? Finish::kPlainZero : Finish::kPlain;
}

// One group of four k: gcc 12 copies and spills the accumulators of the intrinsic.
NIBBLE_INLINE void dot(__m512i& acc, __m512i a, __m512i b) { acc = _mm512_dpbusd_epi32(acc, a, b); }

// Rows [first, first + count), count <= MR. The processor overlaps their requantization with the products of the next tile.
template <std::size_t MR, std::size_t NP>
NIBBLE_INLINE void tile(const QgemmStrip& t, Finish how, std::int64_t first, std::int64_t count) {
  __m512i acc[MR][NP];
#pragma GCC unroll 16
  for (std::size_t m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (std::size_t p = 0; p < NP; ++p) acc[m][p] = _mm512_loadu_si512(t.bias + p * 16);

  const std::byte* wei = t.wei;
  const std::int64_t panel = t.panel_bytes;
  const std::int64_t tail = t.may_read_past ? 0 : t.run % 4;
  const std::int64_t end = (tail == 0 ? (t.run + 3) / 4 : t.run / 4) * 4;
  for (std::int64_t tap = 0; tap < t.taps; ++tap) {
    const std::uint8_t* a[MR];
#pragma GCC unroll 16
    for (std::size_t m = 0; m < MR; ++m) a[m] = t.rows[tap * t.row_stride + first + static_cast<std::int64_t>(m)] + t.row_offset;
    for (std::int64_t k = 0; k < end; k += 4) {
      __m512i b[NP];
#pragma GCC unroll 4
      for (std::size_t p = 0; p < NP; ++p) b[p] = _mm512_loadu_si512(wei + static_cast<std::int64_t>(p) * panel);
      wei += 64;
#pragma GCC unroll 16
      for (std::size_t m = 0; m < MR; ++m) {
        const __m512i v = broadcast4(a[m] + k);
#pragma GCC unroll 4
        for (std::size_t p = 0; p < NP; ++p) dot(acc[m][p], v, b[p]);
      }
      __asm__ volatile("" : "+r"(k));  // one index for all rows: gcc would advance each pointer
    }
    if (tail != 0) {
      __m512i b[NP];
#pragma GCC unroll 4
      for (std::size_t p = 0; p < NP; ++p) b[p] = _mm512_loadu_si512(wei + static_cast<std::int64_t>(p) * panel);
      wei += 64;
#pragma GCC unroll 16
      for (std::size_t m = 0; m < MR; ++m) {
        const __m512i v = _mm512_set1_epi32(load_tail(a[m] + end, tail));
#pragma GCC unroll 4
        for (std::size_t p = 0; p < NP; ++p) dot(acc[m][p], v, b[p]);
      }
    }
  }
  if (how == Finish::kPlainZero) {
    finish_plain<Finish::kPlainZero>(t, first, count, acc);
    return;
  }
  if (how == Finish::kPlain) {
    finish_plain<Finish::kPlain>(t, first, count, acc);
    return;
  }
  alignas(64) std::int32_t sums[MR * NP * 16];
#pragma GCC unroll 16
  for (std::size_t m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (std::size_t p = 0; p < NP; ++p) _mm512_store_si512(sums + (m * NP + p) * 16, acc[m][p]);
  finish_memory<NP>(t, how, first, count, sums);
}

// Cuts the rows into tiles of at most MR; a height that has no tile of its own takes the next larger one.
template <std::size_t MR, std::size_t NP>
NIBBLE_INLINE void strip(const QgemmStrip& t) {
  const Finish how = finish_of(t);
  for (std::int64_t first = 0; first < t.count;) {
    const std::int64_t height = even_share(t.count - first, MR);
    if (height == 1)
      tile<1, NP>(t, how, first, height);
    else if (height == 2)
      tile<2, NP>(t, how, first, height);
    else if (NP == 4 && height == 3)
      tile<3, NP>(t, how, first, height);
    else if (height <= 4)
      tile<4, NP>(t, how, first, height);
    else if (NP == 4 && height == 5)
      tile<5, NP>(t, how, first, height);
    else if (NP > 1 && height <= 6)
      tile<6, NP>(t, how, first, height);
    else if (NP < 4 && height <= 8)
      tile<8, NP>(t, how, first, height);
    else if (MR >= 12 && height <= 12)
      tile<12, NP>(t, how, first, height);
    else if (MR >= 16)
      tile<16, NP>(t, how, first, height);
    first += height;
  }
}

}  // namespace

#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_PORTABLE(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_BLOCKS(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) NIBBLE_KERNEL_##isa(mr, nr, fn)
#define NIBBLE_KERNEL_avx2(mr, nr, fn)
#define NIBBLE_KERNEL_avxvnni(mr, nr, fn)
#define NIBBLE_KERNEL_avx512vnni(mr, nr, fn) \
  void fn(const QgemmStrip& t);              \
  void fn(const QgemmStrip& t) { strip<mr, nr / 16>(t); }
#include "kernels/qgemm/kernels.inc"

}  // namespace nibble::kernels
