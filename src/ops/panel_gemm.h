// Matrix products in a fixed order.
//
// C[m, n] = sum over k, ascending, of A[m, k] * B[k, n], each product and sum rounded by itself. Blocking, vectors and threads only decide
// which elements are computed together, never the order inside one, so the bits depend on nothing but A and B. Register tiles of kRows x
// kCols; A and B come as panels: A [k][kRows], B [k][kCols], padded with zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/thread_pool.h"

namespace nibble::nn {

inline constexpr std::int64_t kRows = 6;
inline constexpr std::int64_t kCols = 16;

// One tile: c[i * ldc + j] for i < rows, j < cols. T is float, double or std::uint32_t (which serves int32: sums wrap).
template <typename T>
void micro_kernel(const T* a, const T* b, std::int64_t k, T* c, std::int64_t ldc, std::int64_t rows, std::int64_t cols);
template <>
void micro_kernel(const float* a, const float* b, std::int64_t k, float* c, std::int64_t ldc, std::int64_t rows, std::int64_t cols);
template <>
void micro_kernel(const double* a, const double* b, std::int64_t k, double* c, std::int64_t ldc, std::int64_t rows, std::int64_t cols);
template <>
void micro_kernel(const std::uint32_t* a, const std::uint32_t* b, std::int64_t k, std::uint32_t* c, std::int64_t ldc, std::int64_t rows,
                  std::int64_t cols);

// Panels of A given by `load(row, column)`.
template <typename T, typename Load>
std::vector<T> pack_rows(std::int64_t m, std::int64_t k, Load&& load) {
  const std::int64_t panels = (m + kRows - 1) / kRows;
  std::vector<T> packed(static_cast<std::size_t>(panels * kRows * k));
  for (std::int64_t r = 0; r < m; ++r) {
    T* panel = packed.data() + (r / kRows) * kRows * k + r % kRows;
    for (std::int64_t i = 0; i < k; ++i) panel[i * kRows] = load(r, i);
  }
  return packed;
}

// C from packed A; `fill(panel, dst)` writes B's panel (columns panel * kCols ...) to dst[k * kCols], zeros past the last column.
template <typename T, typename Fill>
void panel_gemm(ThreadPool* pool, std::int64_t m, std::int64_t n, std::int64_t k, const T* a, const Fill& fill, T* c, std::int64_t ldc) {
  constexpr std::int64_t kCacheElements = 32768;  // B panels that are reused for all of A stay in the second-level cache
  const std::int64_t panels = (n + kCols - 1) / kCols;
  const std::int64_t grain = std::clamp<std::int64_t>(kCacheElements / std::max<std::int64_t>(k * kCols, 1), 1, 16);
  parallel_for(pool, panels, grain, [&](std::int64_t begin, std::int64_t end) {
    static thread_local std::vector<T> buffer;
    buffer.resize(static_cast<std::size_t>((end - begin) * k * kCols));
    for (std::int64_t p = begin; p < end; ++p) fill(p, buffer.data() + (p - begin) * k * kCols);
    for (std::int64_t row = 0; row < m; row += kRows) {
      for (std::int64_t p = begin; p < end; ++p)
        micro_kernel<T>(a + row * k, buffer.data() + (p - begin) * k * kCols, k, c + row * ldc + p * kCols, ldc, std::min(kRows, m - row),
                        std::min(kCols, n - p * kCols));
    }
  });
}

}  // namespace nibble::nn
