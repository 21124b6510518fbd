#include "ops/panel_gemm.h"

#include <cstring>

// Versions for wider vectors of the same arithmetic: without contraction to fused multiply-adds (this file is compiled with
// -ffp-contract=off) all of them give the same bits. Sanitizers run before the loader can choose a version, so they get the plain one.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define NIBBLE_VERSIONS __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define NIBBLE_VERSIONS
#endif

namespace nibble::nn {
namespace {

template <typename T>
[[gnu::always_inline]] inline void tile(const T* a, const T* b, std::int64_t k, T* c, std::int64_t ldc, std::int64_t rows,
                                        std::int64_t cols) {
  typedef T Vector __attribute__((vector_size(kCols * sizeof(T))));
  static_assert(kRows == 6);
  // Six names, not an array: gcc keeps these in registers.
  Vector c0{}, c1{}, c2{}, c3{}, c4{}, c5{};
  for (std::int64_t i = 0; i < k; ++i, a += kRows, b += kCols) {
    Vector v;
    std::memcpy(&v, b, sizeof(v));
    c0 += a[0] * v;
    c1 += a[1] * v;
    c2 += a[2] * v;
    c3 += a[3] * v;
    c4 += a[4] * v;
    c5 += a[5] * v;
  }
  const Vector result[kRows] = {c0, c1, c2, c3, c4, c5};
  for (std::int64_t r = 0; r < rows; ++r) std::memcpy(c + r * ldc, &result[r], static_cast<std::size_t>(cols) * sizeof(T));
}

NIBBLE_VERSIONS void tile_f32(const float* a, const float* b, std::int64_t k, float* c, std::int64_t ldc, std::int64_t rows,
                              std::int64_t cols) {
  tile<float>(a, b, k, c, ldc, rows, cols);
}
NIBBLE_VERSIONS void tile_f64(const double* a, const double* b, std::int64_t k, double* c, std::int64_t ldc, std::int64_t rows,
                              std::int64_t cols) {
  tile<double>(a, b, k, c, ldc, rows, cols);
}
NIBBLE_VERSIONS void tile_u32(const std::uint32_t* a, const std::uint32_t* b, std::int64_t k, std::uint32_t* c, std::int64_t ldc,
                              std::int64_t rows, std::int64_t cols) {
  tile<std::uint32_t>(a, b, k, c, ldc, rows, cols);
}

}  // namespace

template <>
void micro_kernel(const float* a, const float* b, std::int64_t k, float* c, std::int64_t ldc, std::int64_t rows, std::int64_t cols) {
  tile_f32(a, b, k, c, ldc, rows, cols);
}
template <>
void micro_kernel(const double* a, const double* b, std::int64_t k, double* c, std::int64_t ldc, std::int64_t rows, std::int64_t cols) {
  tile_f64(a, b, k, c, ldc, rows, cols);
}
template <>
void micro_kernel(const std::uint32_t* a, const std::uint32_t* b, std::int64_t k, std::uint32_t* c, std::int64_t ldc, std::int64_t rows,
                  std::int64_t cols) {
  tile_u32(a, b, k, c, ldc, rows, cols);
}

}  // namespace nibble::nn
