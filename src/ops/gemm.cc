// Gemm: alpha * A' * B' + beta * C, where ' transposes if transA, transB say so and C broadcasts to the result.
#include <algorithm>
#include <type_traits>

#include "ops/fused_activation.h"
#include "ops/nn_common.h"
#include "ops/onednn.h"
#include "ops/panel_gemm.h"
#include "tensor/dispatch.h"

namespace nibble::nn {
namespace {

void infer(InferContext& ctx) {
  const TensorType& a = *ctx.inputs[0];
  const TensorType& b = *ctx.inputs[1];
  TensorType& y = ctx.outputs[0];
  y.dtype = a.dtype;
  y.has_rank = true;
  y.dims.assign(2, Dim{});
  for (const TensorType* type : {&a, &b}) {
    if (type->has_rank && type->dims.size() != 2) fail_node(ctx.node, "an input is {}, expected 2 axes", to_string(*type));
  }
  const std::size_t ta = ctx.node.get_int("transA", 0) != 0 ? 1 : 0, tb = ctx.node.get_int("transB", 0) != 0 ? 1 : 0;
  if (a.has_rank) y.dims[0] = a.dims[ta];
  if (b.has_rank) y.dims[1] = b.dims[1 - tb];
  if (a.has_rank && b.has_rank && a.dims[1 - ta].known() && b.dims[tb].known() && a.dims[1 - ta].size != b.dims[tb].size)
    fail_node(ctx.node, "cannot multiply {} and {} (transA {}, transB {})", to_string(a), to_string(b), ta, tb);
}

template <typename T>
void multiply(const EvalContext& ctx, std::int64_t m, std::int64_t n, std::int64_t k, bool transposed_a, bool transposed_b, T* y) {
  const T* a = ctx.input(0).data<T>().data();
  const T* b = ctx.input(1).data<T>().data();
  const std::int64_t a_row = transposed_a ? 1 : k, a_col = transposed_a ? m : 1, b_row = transposed_b ? 1 : n, b_col = transposed_b ? k : 1;
  if constexpr (std::is_floating_point_v<T>) {
    const std::vector<T> panels = pack_rows<T>(m, k, [&](std::int64_t r, std::int64_t i) { return a[r * a_row + i * a_col]; });
    panel_gemm<T>(
        ctx.pool, m, n, k, panels.data(),
        [&](std::int64_t panel, T* dst) {
          const std::int64_t first = panel * kCols, count = std::min(kCols, n - first);
          for (std::int64_t i = 0; i < k; ++i, dst += kCols) {
            const T* src = b + i * b_row + first * b_col;
            for (std::int64_t j = 0; j < count; ++j) dst[j] = src[j * b_col];
            for (std::int64_t j = count; j < kCols; ++j) dst[j] = T{};
          }
        },
        y, n);
  } else {
    for (std::int64_t r = 0; r < m; ++r) {
      for (std::int64_t j = 0; j < n; ++j) {
        std::uint64_t sum = 0;  // wraps
        for (std::int64_t i = 0; i < k; ++i)
          sum += static_cast<std::uint64_t>(a[r * a_row + i * a_col]) * static_cast<std::uint64_t>(b[i * b_row + j * b_col]);
        y[r * n + j] = static_cast<T>(sum);
      }
    }
  }
}

// Strides that walk C [m, n], [1, n], [m, 1], [n], [1] or a scalar along with the result.
std::pair<std::int64_t, std::int64_t> bias_strides(const Node& node, const Shape& c, std::int64_t m, std::int64_t n) {
  const std::int64_t cols = c.empty() ? 1 : c.back(), rows = c.size() == 2 ? c[0] : 1;
  if (c.size() > 2 || (cols != 1 && cols != n) || (rows != 1 && rows != m))
    fail_node(node, "C has shape {}, which does not broadcast to [{},{}]", to_string(c), m, n);
  return {rows == 1 ? 0 : cols, cols == 1 ? 0 : 1};
}

template <typename T>
std::vector<Tensor> gemm(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Shape& a = ctx.input(0).shape();
  const Shape& b = ctx.input(1).shape();
  if (a.size() != 2 || b.size() != 2) fail_node(node, "the inputs have shapes {} and {}, expected 2 axes each", to_string(a), to_string(b));
  const bool ta = node.get_int("transA", 0) != 0, tb = node.get_int("transB", 0) != 0;
  const std::int64_t m = a[ta ? 1 : 0], k = a[ta ? 0 : 1], n = b[tb ? 0 : 1];
  if (b[tb ? 1 : 0] != k) fail_node(node, "cannot multiply shapes {} and {} (transA {}, transB {})", to_string(a), to_string(b), ta, tb);
  Tensor y(ctx.input(0).type(), {m, n});
  const auto out = y.mutable_data<T>();
  bool done = out.empty();
  if constexpr (std::is_same_v<T, float>) {
    if (!done && ctx.mode == ExecMode::kFast)
      done = onednn_gemm(ctx.pool, ta, tb, m, n, k, 1.0F, ctx.input(0).data<float>().data(), ctx.input(1).data<float>().data(), out.data());
  }
  if (!done) multiply<T>(ctx, m, n, k, ta, tb, out.data());
  const float alpha = node.get_float("alpha", 1.0F), beta = node.get_float("beta", 1.0F);
  if (alpha != 1.0F) {
    for (T& v : out) v = static_cast<T>(static_cast<T>(alpha) * v);
  }
  if (ctx.has_input(2)) {
    const auto c = ctx.input(2).data<T>();
    const auto [row, col] = bias_strides(node, ctx.input(2).shape(), m, n);
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const T bias = c[at(i * row + j * col)];
        out[at(i * n + j)] = static_cast<T>(out[at(i * n + j)] + (beta == 1.0F ? bias : static_cast<T>(static_cast<T>(beta) * bias)));
      }
    }
  }
  if (node.has("activation")) apply_activation(fused_activation(node), y);
  return {std::move(y)};
}

std::vector<Tensor> evaluate(const EvalContext& ctx) {
  switch (ctx.input(0).type()) {
    case DataType::kInt32: return gemm<std::int32_t>(ctx);
    case DataType::kUInt32: return gemm<std::uint32_t>(ctx);
    case DataType::kInt64: return gemm<std::int64_t>(ctx);
    case DataType::kUInt64: return gemm<std::uint64_t>(ctx);
    default: return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return gemm<T>(c); });
  }
}

}  // namespace

const OpDef kGemm = {.name = "Gemm", .min_inputs = 2, .max_inputs = 3, .infer = infer, .evaluate = evaluate, .rule = QuantRule::kCompute};

}  // namespace nibble::nn
