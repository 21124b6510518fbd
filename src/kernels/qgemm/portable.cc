// For processors without kernels of their own: vectors of four 32-bit sums in the compiler's own terms, so that every target gets its
// instructions (64-bit Arm: a multiply-accumulate for four columns). Weights are [K][16] int16, columns j and j + 4 of each 8 next to each
// other: the halves of a 32-bit element, which any vector instructions can tell apart. The ending is loops of 16 columns that compilers
// vectorise.
#include "kernels/qgemm/portable.h"

#include <algorithm>
#include <bit>

#include "kernels/requantize/requantize.h"

namespace nibble::kernels {
namespace {

using Int4 [[gnu::vector_size(16)]] = std::int32_t;
using Float4 [[gnu::vector_size(16)]] = float;

static_assert(std::endian::native == std::endian::little);  // the order of the halves

constexpr std::size_t kRows = 4;  // of a tile: 16 vectors of sums
constexpr std::size_t kParts = kPanel / 4;

template <typename Vector>
inline Vector load(const void* from) {
  Vector v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}

// The sums of rows [first, first + MR): [MR][16].
template <std::size_t MR>
void products(const QgemmStrip& t, std::int64_t first, std::int32_t* sums) {
  Int4 acc[MR][kParts];
#pragma GCC unroll 4
  for (std::size_t m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kParts; ++p) acc[m][p] = load<Int4>(t.bias + p * 4);
  const auto* wei = reinterpret_cast<const std::int16_t*>(t.wei);
  const std::int64_t run = t.run;
  const std::int64_t padding = (run + 3) / 4 * 4 - run;
  for (std::int64_t tap = 0; tap < t.taps; ++tap) {
    const std::uint8_t* rows[MR];
#pragma GCC unroll 4
    for (std::size_t m = 0; m < MR; ++m) rows[m] = t.rows[tap * t.row_stride + first + static_cast<std::int64_t>(m)] + t.row_offset;
    for (std::int64_t k = 0; k < run; ++k) {
      Int4 b[kParts];
#pragma GCC unroll 2
      for (std::size_t p = 0; p < kParts; p += 2) {
        const auto pairs = load<Int4>(wei + p * 4);
        b[p] = (pairs << 16) >> 16;
        b[p + 1] = pairs >> 16;
      }
      wei += kPanel;
#pragma GCC unroll 4
      for (std::size_t m = 0; m < MR; ++m) {
        const std::int32_t a = rows[m][k];
#pragma GCC unroll 4
        for (std::size_t p = 0; p < kParts; ++p) acc[m][p] += b[p] * a;
      }
    }
    wei += padding * kPanel;
  }
#pragma GCC unroll 4
  for (std::size_t m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kParts; ++p) __builtin_memcpy(sums + m * kPanel + p * 4, &acc[m][p], sizeof(Int4));
}

std::int32_t sum_of_row(const QgemmStrip& t, std::int64_t row) {
  std::int32_t sum = 0;
  for (std::int64_t tap = 0; tap < t.taps; ++tap) {
    const std::uint8_t* p = t.rows[tap * t.row_stride + row] + t.row_offset;
    for (std::int64_t k = 0; k < t.run; ++k) sum += p[k];
  }
  return sum;
}

// Law float32 for a panel's sums. Clamping to whole numbers may come before the rounding, and adding 1.5 2^23 rounds: see x86_avx512.h.
void requantize_float32(const Requantize& r, const std::int32_t* sums, std::int32_t* out) {
  constexpr float kMagic = 12582912.0F;
  const Float4 lo = Float4{} + static_cast<float>(r.qmin - r.zero_point);
  const Float4 hi = Float4{} + static_cast<float>(r.qmax - r.zero_point);
  for (std::size_t j = 0; j < static_cast<std::size_t>(kPanel); j += 4) {
    Float4 v = __builtin_convertvector(load<Int4>(sums + j), Float4) * load<Float4>(r.multiplier + j);
    v = v < lo ? lo : v;
    v = v > hi ? hi : v;
    const Int4 q = __builtin_convertvector(v + kMagic - kMagic, Int4) + r.zero_point;
    __builtin_memcpy(out + j, &q, sizeof(q));
  }
}

void finish(const QgemmStrip& t, std::int64_t row, std::int32_t* sums) {
  if (t.zero_points != nullptr) {
    // In unsigned arithmetic: the sum is meant modulo 2^32.
    const auto sum = static_cast<std::uint32_t>(sum_of_row(t, row));
    for (std::int64_t j = 0; j < kPanel; ++j)
      sums[j] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[j]) - static_cast<std::uint32_t>(t.zero_points[j]) * sum);
  }
  if (t.acc != nullptr) {
    std::copy_n(sums, t.columns, t.acc + row * t.ld_dst);
    return;
  }
  std::int32_t q[kPanel];
  if (t.requantize.multiplier != nullptr)
    requantize_float32(t.requantize, sums, q);
  else
    for (std::int64_t j = 0; j < t.columns; ++j) q[j] = requantize_one(t.requantize, sums[j], j);
  std::uint8_t* dst = t.dst + row * t.ld_dst;
  const std::uint8_t* other = t.residual.src;
  if (other == nullptr) {
    for (std::int64_t j = 0; j < t.columns; ++j) dst[j] = static_cast<std::uint8_t>(q[j]);
    return;
  }
  other += row * t.residual.ld_src;
  for (std::int64_t j = 0; j < t.columns; ++j) dst[j] = add_residual_one(t.residual, static_cast<std::uint8_t>(q[j]), other[j]);
}

}  // namespace

void qgemm_u8s8s32_4x16c1_portable(const QgemmStrip& t) {
  std::int32_t sums[kRows * kPanel];
  for (std::int64_t first = 0; first < t.count;) {
    const std::int64_t height = even_share(t.count - first, kRows);
    if (height == 1)
      products<1>(t, first, sums);
    else if (height == 2)
      products<2>(t, first, sums);
    else
      products<kRows>(t, first, sums);  // three rows: the last one twice
    for (std::int64_t m = 0; m < height; ++m) finish(t, first + m, sums + m * kPanel);
    first += height;
  }
}

}  // namespace nibble::kernels
