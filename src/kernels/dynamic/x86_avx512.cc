#include "kernels/dynamic/row.h"
#include "kernels/x86_inline.h"

namespace nibble::kernels {
namespace {

NIBBLE_INLINE __mmask16 first(std::int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : (1 << n) - 1); }

// Minima and maxima give their second operand where one is a NaN.
NIBBLE_INLINE __m512 clip(__m512 x, __m512 lo, __m512 hi) { return _mm512_min_ps(hi, _mm512_max_ps(lo, x)); }

// NaNs are passed over: the value is the first operand.
struct Range {
  __m512 min, max;
  NIBBLE_INLINE explicit Range(const RealRow& row) : min(_mm512_set1_ps(row.min)), max(_mm512_set1_ps(row.max)) {}
  NIBBLE_INLINE void take(__mmask16 mask, __m512 x) {
    min = _mm512_mask_min_ps(min, mask, x, min);
    max = _mm512_mask_max_ps(max, mask, x, max);
  }
  NIBBLE_INLINE void store(RealRow& row) const {
    row.min = _mm512_reduce_min_ps(min);
    row.max = _mm512_reduce_max_ps(max);
  }
};

}  // namespace

void dequantize_row_avx512(RealRow& row) {
  const __m512 lo = _mm512_set1_ps(row.lo), hi = _mm512_set1_ps(row.hi);
  Range range(row);
  // Vectors of channels outside, rows inside: constants stay in registers, and a row of few channels costs no call.
  for (std::int64_t i = 0; i < row.n; i += 16) {
    const __mmask16 mask = first(row.n - i);
    const __m512 multiplier = _mm512_maskz_loadu_ps(mask, row.multiplier + i);
    const bool biased = row.bias != nullptr;
    const __m512 bias = biased ? _mm512_maskz_loadu_ps(mask, row.bias + i) : multiplier;
    const std::int32_t* acc = row.acc + i;
    float* dst = row.dst + i;
    for (std::int64_t r = 0; r < row.rows; ++r, acc += row.ld_acc, dst += row.ld_dst) {
      __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, acc)), multiplier);
      if (biased) x = _mm512_add_ps(x, bias);
      x = clip(x, lo, hi);
      _mm512_mask_storeu_ps(dst, mask, x);
      range.take(mask, x);
    }
  }
  range.store(row);
}

void add_row_avx512(RealRow& row) {
  const __m512 lo = _mm512_set1_ps(row.lo), hi = _mm512_set1_ps(row.hi);
  Range range(row);
  for (std::int64_t i = 0; i < row.n; i += 16) {
    const __mmask16 mask = first(row.n - i);
    const __m512 x = clip(_mm512_add_ps(_mm512_maskz_loadu_ps(mask, row.a + i), _mm512_maskz_loadu_ps(mask, row.b + i)), lo, hi);
    _mm512_mask_storeu_ps(row.dst + i, mask, x);
    range.take(mask, x);
  }
  range.store(row);
}

void min_max_avx512(RealRow& row) {
  Range range(row), second(row);
  std::int64_t i = 0;
  for (; i + 32 <= row.n; i += 32) {
    range.take(0xffff, _mm512_loadu_ps(row.a + i));
    second.take(0xffff, _mm512_loadu_ps(row.a + i + 16));
  }
  range.min = _mm512_min_ps(range.min, second.min);
  range.max = _mm512_max_ps(range.max, second.max);
  for (; i < row.n; i += 16) {
    const __mmask16 mask = first(row.n - i);
    range.take(mask, _mm512_maskz_loadu_ps(mask, row.a + i));
  }
  range.store(row);
}

}  // namespace nibble::kernels
