// Det: of square matrices in the last two axes, by elimination with row pivots in double.
#include <cmath>
#include <utility>

#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

void infer_det(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  check_type(ctx.node, 0, x.dtype, kFloatTypes);
  if (!x.has_rank) {
    set_output(ctx, 0, unknown_rank(x.dtype));
    return;
  }
  if (x.dims.size() < 2) fail_node(ctx.node, "the input is {}; at least two axes are expected", to_string(x));
  merge_dims(ctx.node, x.dims[x.dims.size() - 2], x.dims.back(), "the last two axes");
  TensorType out = x;
  out.dims.resize(x.dims.size() - 2);
  set_output(ctx, 0, std::move(out));
}

double determinant(std::vector<double>& m, std::size_t n) {
  double result = 1;
  for (std::size_t c = 0; c < n; ++c) {
    std::size_t pivot = c;
    for (std::size_t r = c + 1; r < n; ++r) {
      if (std::fabs(m[r * n + c]) > std::fabs(m[pivot * n + c])) pivot = r;
    }
    if (m[pivot * n + c] == 0.0) return 0;
    if (pivot != c) {
      for (std::size_t k = 0; k < n; ++k) std::swap(m[pivot * n + k], m[c * n + k]);
      result = -result;
    }
    result *= m[c * n + c];
    for (std::size_t r = c + 1; r < n; ++r) {
      const double factor = m[r * n + c] / m[c * n + c];
      for (std::size_t k = c; k < n; ++k) m[r * n + k] -= factor * m[c * n + k];
    }
  }
  return result;
}

std::vector<Tensor> evaluate_det(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  check_type(ctx.node, 0, x.type(), kFloatTypes);
  if (x.rank() < 2 || x.shape().back() != x.shape()[x.shape().size() - 2])
    fail_node(ctx.node, "the input has shape {}; square matrices are expected", to_string(x.shape()));
  const auto n = static_cast<std::size_t>(x.shape().back());
  Tensor result(DataType::kFloat64, Shape(x.shape().begin(), x.shape().end() - 2));
  const auto values = to_doubles(x);
  std::size_t at = 0;
  for (double& out : result.mutable_data<double>()) {
    std::vector<double> matrix(values.begin() + static_cast<std::ptrdiff_t>(at), values.begin() + static_cast<std::ptrdiff_t>(at + n * n));
    out = determinant(matrix, n);
    at += n * n;
  }
  return {cast(result, x.type())};
}

constexpr OpDef kOps[] = {
    {.name = "Det", .infer = infer_det, .evaluate = evaluate_det, .note = "a product of many values"},
};

}  // namespace

std::span<const OpDef> det_ops() { return kOps; }

}  // namespace nibble
