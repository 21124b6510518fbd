// ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul: exact int32 sums (that wrap, as ONNX leaves overflow open) of
// (a - a_zero_point) * (b - b_zero_point). The QLinear forms requantize: y = saturate(round_half_even(sum * m) + y_zero_point) with
// m = a_scale * b_scale / y_scale, computed and applied in float32.
#include <algorithm>

#include "ops/conv_loops.h"
#include "ops/matmul_loops.h"
#include "ops/nn_common.h"
#include "ops/quant_layout.h"
#include "tensor/dispatch.h"

namespace nibble::nn {
namespace {

// value - zero point, with one zero point for each index of the middle of [outer, axis, inner].
std::vector<std::uint32_t> centered(const Node& node, const Tensor& tensor, std::span<const std::int64_t> zero, std::int64_t outer,
                                    std::int64_t axis, std::int64_t inner) {
  if (tensor.type() != DataType::kInt8 && tensor.type() != DataType::kUInt8)
    fail_node(node, "an operand is {}, expected int8 or uint8", to_string(tensor.type()));
  std::vector<std::uint32_t> result(at(tensor.size()));
  dispatch(tensor.type(), [&]<typename T>() {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
      const auto in = tensor.data<T>();
      std::size_t e = 0;
      for (std::int64_t o = 0; o < outer; ++o) {
        for (std::int64_t a = 0; a < axis; ++a) {
          const std::int64_t z = zero.size() == 1 ? zero[0] : zero[at(a)];
          for (std::int64_t i = 0; i < inner; ++i, ++e) result[e] = static_cast<std::uint32_t>(static_cast<std::int64_t>(in[e]) - z);
        }
      }
    }
  });
  return result;
}

std::vector<std::int64_t> zero_points_or_zero(const Node& node, const EvalContext& ctx, std::size_t i, std::int64_t count) {
  if (!ctx.has_input(i)) return {0};
  return zero_points(node, &ctx.input(i), ctx.input(i).size() == 1 ? 1 : count);
}

struct Operand {
  const Tensor* values;
  std::vector<std::int64_t> zero;
};

Tensor convolve_integers(const EvalContext& ctx, const Operand& x, const Operand& w) {
  const ConvGeometry geometry = conv_geometry(ctx.node, x.values->shape(), w.values->shape());
  const std::int64_t filters = geometry.groups * geometry.group_out;
  const auto in = centered(ctx.node, *x.values, x.zero, 1, 1, x.values->size());
  const auto weights = centered(ctx.node, *w.values, w.zero, 1, filters, filters == 0 ? 0 : w.values->size() / filters);
  Tensor y = Tensor::zeros(DataType::kInt32, geometry.output_shape());
  if (!in.empty()) convolve(ctx.pool, geometry, in.data(), weights.data(), reinterpret_cast<std::uint32_t*>(y.mutable_bytes()));
  return y;
}

Tensor multiply_integers(const EvalContext& ctx, const Operand& a, const Operand& b) {
  const Shape& left = a.values->shape();
  const MatMulGeometry geometry = matmul_geometry(ctx.node, left, b.values->shape());
  const auto rows =
      centered(ctx.node, *a.values, a.zero, a.values->size() / std::max<std::int64_t>(geometry.m * geometry.k, 1), geometry.m, geometry.k);
  const auto columns = centered(ctx.node, *b.values, b.zero, b.values->size() / std::max<std::int64_t>(geometry.n, 1), geometry.n, 1);
  Tensor y(DataType::kInt32, geometry.output);
  matmul(ctx.pool, geometry, rows.data(), columns.data(), reinterpret_cast<std::uint32_t*>(y.mutable_bytes()));
  return y;
}

void infer_conv_integer(InferContext& ctx) {
  ctx.outputs[0].dtype = DataType::kInt32;
  infer_conv_dims(ctx.node, *ctx.inputs[0], *ctx.inputs[1], ctx.outputs[0]);
}

std::vector<Tensor> conv_integer(const EvalContext& ctx) {
  const Node& node = ctx.node;
  require_rank(node, ctx.input(1), 3, "the weight");
  return {convolve_integers(ctx, {&ctx.input(0), zero_points_or_zero(node, ctx, 2, 1)},
                            {&ctx.input(1), zero_points_or_zero(node, ctx, 3, ctx.input(1).shape()[0])})};
}

void infer_matmul_integer(InferContext& ctx) {
  ctx.outputs[0].dtype = DataType::kInt32;
  infer_matmul_dims(ctx.node, *ctx.inputs[0], *ctx.inputs[1], ctx.outputs[0]);
}

std::vector<Tensor> matmul_integer(const EvalContext& ctx) {
  const Node& node = ctx.node;
  require_rank(node, ctx.input(0), 1, "A");
  require_rank(node, ctx.input(1), 1, "B");
  const Shape& a = ctx.input(0).shape();
  return {multiply_integers(ctx, {&ctx.input(0), zero_points_or_zero(node, ctx, 2, a.size() < 2 ? 1 : a[a.size() - 2])},
                            {&ctx.input(1), zero_points_or_zero(node, ctx, 3, ctx.input(1).shape().back())})};
}

void infer_qlinear_conv(InferContext& ctx) {
  ctx.outputs[0].dtype = ctx.inputs[7]->dtype;
  infer_conv_dims(ctx.node, *ctx.inputs[0], *ctx.inputs[3], ctx.outputs[0]);
}

// [outer, rows, cols] of int32 to the type of `y_zero`; one multiplier in all, a row, or a column.
Tensor requantize(const Node& node, const Tensor& sums, const std::vector<float>& row_scale, const std::vector<float>& column_scale,
                  float y_scale, const Tensor& y_zero, std::int64_t rows, std::int64_t cols) {
  const DataType type = y_zero.type();
  if (type != DataType::kInt8 && type != DataType::kUInt8) fail_node(node, "the output is {}, expected int8 or uint8", to_string(type));
  if (!(y_scale > 0.0F)) fail_node(node, "the output scale is {}, expected above 0", y_scale);
  const IntegerRange range = integer_range(node, type);
  const std::int64_t zero = zero_points(node, &y_zero, 1)[0];
  Tensor y(type, sums.shape());
  const auto in = sums.data<std::int32_t>();
  dispatch(type, [&]<typename T>() {
    if constexpr (std::is_integral_v<T> && sizeof(T) == 1 && !std::is_same_v<T, bool>) {
      const auto out = y.mutable_data<T>();
      for (std::int64_t i = 0; i < std::ssize(in); ++i) {
        const float left = row_scale.size() == 1 ? row_scale[0] : row_scale[at(i / cols % rows)];
        const float right = column_scale.size() == 1 ? column_scale[0] : column_scale[at(i % cols)];
        const float multiplier = left * right / y_scale;
        out[at(i)] = static_cast<T>(saturate(static_cast<float>(in[at(i)]) * multiplier, zero, range));
      }
    }
  });
  return y;
}

std::vector<float> scales_or_one(const Node& node, const Tensor& tensor, std::int64_t count) {
  return scales(node, tensor, tensor.size() == 1 ? 1 : count);
}

std::vector<Tensor> qlinear_conv(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& w = ctx.input(3);
  require_rank(node, w, 3, "the weight");
  const std::int64_t filters = w.shape()[0];
  Tensor sums =
      convolve_integers(ctx, {&ctx.input(0), zero_points_or_zero(node, ctx, 2, 1)}, {&w, zero_points_or_zero(node, ctx, 5, filters)});
  const std::int64_t pixels = product(sums.shape(), 2, sums.shape().size());
  if (ctx.has_input(8)) {
    const auto bias = ctx.input(8).data<std::int32_t>();
    if (std::ssize(bias) != filters) fail_node(node, "the bias has shape {}, expected [{}]", to_string(ctx.input(8).shape()), filters);
    const auto out = sums.mutable_data<std::int32_t>();
    for (std::int64_t i = 0; i < std::ssize(out); ++i)
      out[at(i)] =
          static_cast<std::int32_t>(static_cast<std::uint32_t>(out[at(i)]) + static_cast<std::uint32_t>(bias[at(i / pixels % filters)]));
  }
  const auto x_scale = scales(node, ctx.input(1), 1);
  auto w_scale = scales_or_one(node, ctx.input(4), filters);
  for (float& s : w_scale) s = x_scale[0] * s;
  return {requantize(node, sums, w_scale, {1.0F}, scales(node, ctx.input(6), 1)[0], ctx.input(7), filters, pixels)};
}

void infer_qlinear_matmul(InferContext& ctx) {
  ctx.outputs[0].dtype = ctx.inputs[7]->dtype;
  infer_matmul_dims(ctx.node, *ctx.inputs[0], *ctx.inputs[3], ctx.outputs[0]);
}

std::vector<Tensor> qlinear_matmul(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& a = ctx.input(0);
  const Tensor& b = ctx.input(3);
  require_rank(node, a, 1, "a");
  require_rank(node, b, 1, "b");
  const std::int64_t rows = a.rank() < 2 ? 1 : a.shape()[at(a.rank() - 2)], cols = b.rank() < 2 ? 1 : b.shape().back();
  const Tensor sums = multiply_integers(ctx, {&a, zero_points_or_zero(node, ctx, 2, rows)}, {&b, zero_points_or_zero(node, ctx, 5, cols)});
  return {requantize(node, sums, scales_or_one(node, ctx.input(1), rows), scales_or_one(node, ctx.input(4), cols),
                     scales(node, ctx.input(6), 1)[0], ctx.input(7), rows, cols)};
}

}  // namespace

const OpDef kConvInteger = {.name = "ConvInteger",
                            .min_inputs = 2,
                            .max_inputs = 4,
                            .infer = infer_conv_integer,
                            .evaluate = conv_integer,
                            .rule = QuantRule::kNotReal,
                            .note = "computes in integers already"};
const OpDef kMatMulInteger = {.name = "MatMulInteger",
                              .min_inputs = 2,
                              .max_inputs = 4,
                              .infer = infer_matmul_integer,
                              .evaluate = matmul_integer,
                              .rule = QuantRule::kNotReal,
                              .note = "computes in integers already"};
const OpDef kQLinearConv = {.name = "QLinearConv",
                            .min_inputs = 8,
                            .max_inputs = 9,
                            .infer = infer_qlinear_conv,
                            .evaluate = qlinear_conv,
                            .rule = QuantRule::kNotReal,
                            .note = "computes in integers already"};
const OpDef kQLinearMatMul = {.name = "QLinearMatMul",
                              .min_inputs = 8,
                              .max_inputs = 8,
                              .infer = infer_qlinear_matmul,
                              .evaluate = qlinear_matmul,
                              .rule = QuantRule::kNotReal,
                              .note = "computes in integers already"};

}  // namespace nibble::nn
