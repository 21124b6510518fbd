#include "kernels/dynamic/row.h"
#include "kernels/x86_inline.h"

namespace nibble::kernels {
namespace {

struct alignas(32) Masks {
  std::int32_t value[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
};
constexpr Masks kMasks;

NIBBLE_INLINE __m256i first(std::int64_t n) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMasks.value + (n >= 8 ? 0 : 8 - n)));
}

// Minima and maxima give their second operand where one is a NaN.
NIBBLE_INLINE __m256 clip(__m256 x, __m256 lo, __m256 hi) { return _mm256_min_ps(hi, _mm256_max_ps(lo, x)); }

// NaNs are passed over: the value is the first operand. Lanes outside of the mask are 0, which every range holds.
struct Range {
  __m256 min, max;
  NIBBLE_INLINE explicit Range(const RealRow& row) : min(_mm256_set1_ps(row.min)), max(_mm256_set1_ps(row.max)) {}
  NIBBLE_INLINE void take(__m256 x) {
    min = _mm256_min_ps(x, min);
    max = _mm256_max_ps(x, max);
  }
  NIBBLE_INLINE void store(RealRow& row) const {
    float lows[8], highs[8];
    _mm256_storeu_ps(lows, min);
    _mm256_storeu_ps(highs, max);
    for (int i = 0; i < 8; ++i) {
      row.min = lows[i] < row.min ? lows[i] : row.min;
      row.max = highs[i] > row.max ? highs[i] : row.max;
    }
  }
};

}  // namespace

void dequantize_row_avx2(RealRow& row) {
  const __m256 lo = _mm256_set1_ps(row.lo), hi = _mm256_set1_ps(row.hi);
  Range range(row);
  // Vectors of channels outside, rows inside: constants stay in registers, and a row of few channels costs no call.
  for (std::int64_t i = 0; i < row.n; i += 8) {
    const __m256i mask = first(row.n - i);
    const __m256 multiplier = _mm256_maskload_ps(row.multiplier + i, mask);
    const bool biased = row.bias != nullptr;
    const __m256 bias = biased ? _mm256_maskload_ps(row.bias + i, mask) : multiplier;
    const std::int32_t* acc = row.acc + i;
    float* dst = row.dst + i;
    for (std::int64_t r = 0; r < row.rows; ++r, acc += row.ld_acc, dst += row.ld_dst) {
      __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_maskload_epi32(acc, mask)), multiplier);
      if (biased) x = _mm256_add_ps(x, bias);
      x = clip(x, lo, hi);
      _mm256_maskstore_ps(dst, mask, x);
      range.take(_mm256_and_ps(x, _mm256_castsi256_ps(mask)));
    }
  }
  range.store(row);
}

void add_row_avx2(RealRow& row) {
  const __m256 lo = _mm256_set1_ps(row.lo), hi = _mm256_set1_ps(row.hi);
  Range range(row);
  for (std::int64_t i = 0; i < row.n; i += 8) {
    const __m256i mask = first(row.n - i);
    const __m256 x = clip(_mm256_add_ps(_mm256_maskload_ps(row.a + i, mask), _mm256_maskload_ps(row.b + i, mask)), lo, hi);
    _mm256_maskstore_ps(row.dst + i, mask, x);
    range.take(_mm256_and_ps(x, _mm256_castsi256_ps(mask)));
  }
  range.store(row);
}

void min_max_avx2(RealRow& row) {
  Range range(row), second(row);
  std::int64_t i = 0;
  for (; i + 16 <= row.n; i += 16) {
    range.take(_mm256_loadu_ps(row.a + i));
    second.take(_mm256_loadu_ps(row.a + i + 8));
  }
  range.min = _mm256_min_ps(range.min, second.min);
  range.max = _mm256_max_ps(range.max, second.max);
  for (; i < row.n; i += 8) range.take(_mm256_maskload_ps(row.a + i, first(row.n - i)));
  range.store(row);
}

}  // namespace nibble::kernels
