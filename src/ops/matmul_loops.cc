#include "ops/matmul_loops.h"

#include <algorithm>
#include <type_traits>

#include "ops/fail.h"
#include "ops/nn_common.h"
#include "ops/panel_gemm.h"

namespace nibble::nn {

MatMulGeometry matmul_geometry(const Node& node, const Shape& a, const Shape& b) {
  if (a.empty() || b.empty()) fail_node(node, "cannot multiply shapes {} and {}: scalars are not allowed", to_string(a), to_string(b));
  Shape left = a, right = b;
  if (a.size() == 1) left.insert(left.begin(), 1);
  if (b.size() == 1) right.push_back(1);
  MatMulGeometry g;
  g.m = left[left.size() - 2];
  g.k = left.back();
  g.n = right.back();
  if (right[right.size() - 2] != g.k)
    fail_node(node, "cannot multiply shapes {} and {}: {} columns meet {} rows", to_string(a), to_string(b), g.k, right[right.size() - 2]);
  const std::size_t rank = std::max(left.size(), right.size()) - 2;
  const auto padded = [&](const Shape& s) {
    Shape result(rank + 2 - s.size(), 1);
    result.insert(result.end(), s.begin(), s.end() - 2);
    return result;
  };
  const Shape a_outer = padded(left), b_outer = padded(right);
  Shape outer(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    if (a_outer[i] != b_outer[i] && a_outer[i] != 1 && b_outer[i] != 1)
      fail_node(node, "cannot multiply shapes {} and {}: they do not broadcast", to_string(a), to_string(b));
    outer[i] = a_outer[i] == 1 ? b_outer[i] : a_outer[i];
  }
  const std::int64_t batches = element_count(outer);
  g.a_batch.resize(at(batches));
  g.b_batch.resize(at(batches));
  for (std::int64_t i = 0; i < batches; ++i) {
    std::int64_t rest = i, a_scale = 1, b_scale = 1;
    for (std::size_t d = rank; d-- > 0;) {
      const std::int64_t coordinate = rest % outer[d];
      rest /= outer[d];
      if (a_outer[d] != 1) g.a_batch[at(i)] += coordinate * a_scale;
      if (b_outer[d] != 1) g.b_batch[at(i)] += coordinate * b_scale;
      a_scale *= a_outer[d];
      b_scale *= b_outer[d];
    }
  }
  g.b_shared = element_count(b_outer) == 1 && a_outer == outer;
  g.output = outer;
  if (a.size() != 1) g.output.push_back(g.m);
  if (b.size() != 1) g.output.push_back(g.n);
  return g;
}

void infer_matmul_dims(const Node& node, const TensorType& a, const TensorType& b, TensorType& y) {
  require_rank(node, a, 1, "the first input");
  require_rank(node, b, 1, "the second input");
  if (!a.has_rank || !b.has_rank) return;
  std::vector<Dim> left = a.dims, right = b.dims;
  if (a.dims.size() == 1) left.insert(left.begin(), Dim{.size = 1, .symbol = {}});
  if (b.dims.size() == 1) right.push_back(Dim{.size = 1, .symbol = {}});
  const Dim& columns = left.back();
  const Dim& rows = right[right.size() - 2];
  const auto wrong = [&] { fail_node(node, "cannot multiply {} and {}", to_string(a), to_string(b)); };
  if (columns.known() && rows.known() && columns.size != rows.size) wrong();
  const std::size_t rank = std::max(left.size(), right.size()) - 2;
  y.has_rank = true;
  y.dims.clear();
  for (std::size_t i = 0; i < rank; ++i) {
    const Dim one{.size = 1, .symbol = {}};
    const Dim l = i + left.size() >= rank + 2 ? left[i + left.size() - rank - 2] : one;
    const Dim r = i + right.size() >= rank + 2 ? right[i + right.size() - rank - 2] : one;
    if (l.known() && l.size == 1)
      y.dims.push_back(r);
    else if ((r.known() && r.size == 1) || l == r)
      y.dims.push_back(l);
    else if (l.known() && r.known())
      wrong();
    else
      y.dims.push_back(l.known() ? l : r.known() ? r : Dim{});
  }
  if (a.dims.size() != 1) y.dims.push_back(left[left.size() - 2]);
  if (b.dims.size() != 1) y.dims.push_back(right.back());
}

namespace {

template <typename T>
inline constexpr bool kHasPanels = std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, std::uint32_t>;

template <typename T>
void multiply(ThreadPool* pool, std::int64_t m, std::int64_t n, std::int64_t k, const T* a, const T* b, T* y) {
  if constexpr (kHasPanels<T>) {
    const std::vector<T> panels = pack_rows<T>(m, k, [&](std::int64_t r, std::int64_t i) { return a[r * k + i]; });
    panel_gemm<T>(
        pool, m, n, k, panels.data(),
        [&](std::int64_t panel, T* dst) {
          const std::int64_t first = panel * kCols, count = std::min(kCols, n - first);
          for (std::int64_t i = 0; i < k; ++i, dst += kCols) {
            const T* src = b + i * n + first;
            for (std::int64_t j = 0; j < count; ++j) dst[j] = src[j];
            for (std::int64_t j = count; j < kCols; ++j) dst[j] = T{};
          }
        },
        y, n);
  } else {
    for (std::int64_t r = 0; r < m; ++r) {
      T* row = y + r * n;
      std::fill(row, row + n, T{});
      for (std::int64_t i = 0; i < k; ++i) {
        for (std::int64_t j = 0; j < n; ++j) row[j] = static_cast<T>(row[j] + a[r * k + i] * b[i * n + j]);
      }
    }
  }
}

}  // namespace

template <typename T>
void matmul(ThreadPool* pool, const MatMulGeometry& g, const T* a, const T* b, T* y) {
  if (g.m * g.n * g.batches() == 0) return;
  if (g.b_shared) {
    multiply(pool, g.m * g.batches(), g.n, g.k, a, b, y);
    return;
  }
  for (std::int64_t i = 0; i < g.batches(); ++i)
    multiply(pool, g.m, g.n, g.k, a + g.a_batch[at(i)] * g.m * g.k, b + g.b_batch[at(i)] * g.k * g.n, y + i * g.m * g.n);
}

template void matmul(ThreadPool*, const MatMulGeometry&, const float*, const float*, float*);
template void matmul(ThreadPool*, const MatMulGeometry&, const double*, const double*, double*);
template void matmul(ThreadPool*, const MatMulGeometry&, const std::uint32_t*, const std::uint32_t*, std::uint32_t*);
template void matmul(ThreadPool*, const MatMulGeometry&, const std::uint64_t*, const std::uint64_t*, std::uint64_t*);

}  // namespace nibble::nn
