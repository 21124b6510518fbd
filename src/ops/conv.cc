// Conv: y[n, o, p] = sum over c, k of w[o, c, k] * x[n, c, p * stride - pad + k * dilation] + b[o].
#include "ops/channels_last.h"
#include "ops/conv_loops.h"
#include "ops/fused_activation.h"
#include "ops/nn_common.h"
#include "ops/onednn.h"

namespace nibble::nn {
namespace {

void infer(InferContext& ctx) {
  ctx.outputs[0].dtype = ctx.inputs[0]->dtype;
  infer_conv_dims(ctx.node, *ctx.inputs[0], *ctx.inputs[1], ctx.outputs[0]);
}

template <typename T>
std::vector<Tensor> convolution(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Tensor& w = ctx.input(1);
  const ConvGeometry geometry = conv_geometry(ctx.node, x.shape(), w.shape());
  Tensor y(x.type(), geometry.output_shape());
  const std::int64_t channels = geometry.groups * geometry.group_out, pixels = geometry.out_pixels();
  const FusedActivation activation = fused_activation(ctx.node);
  const auto out = y.mutable_data<T>();
  if (geometry.group_in * geometry.in_pixels() == 0)
    std::fill(out.begin(), out.end(), T{});
  else
    convolve<T>(ctx.pool, geometry, x.data<T>().data(), w.data<T>().data(), out.data());
  if (ctx.has_input(2)) {
    const auto bias = ctx.input(2).data<T>();
    if (std::ssize(bias) != channels)
      fail_node(ctx.node, "the bias has shape {}, expected [{}]", to_string(ctx.input(2).shape()), channels);
    for (std::int64_t i = 0; i < geometry.batch * channels; ++i) {
      const T b = bias[at(i % channels)];
      T* row = out.data() + i * pixels;
      for (std::int64_t p = 0; p < pixels; ++p) row[p] += b;
    }
  }
  apply_activation(activation, y);
  return {std::move(y)};
}

std::vector<Tensor> evaluate(const EvalContext& ctx) {
  return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return convolution<T>(c); });
}

// x and y are channels-last. What oneDNN declines goes through the plain loops and back.
std::vector<Tensor> evaluate_nhwc(const EvalContext& ctx) {
  const Shape& x = ctx.input(0).shape();
  const Tensor& w = ctx.input(1);
  const ConvGeometry geometry = conv_geometry(ctx.node, {x[0], x[3], x[1], x[2]}, w.shape());
  const FusedActivation activation = fused_activation(ctx.node);
  const bool floats = w.type() == DataType::kFloat32 && (!ctx.has_input(2) || ctx.input(2).type() == DataType::kFloat32);
  const bool bias_fits = !ctx.has_input(2) || ctx.input(2).size() == geometry.groups * geometry.group_out;
  if (floats && bias_fits) {
    if (auto y = onednn_conv_nhwc(ctx, geometry, activation)) return {std::move(*y)};
  }
  const Tensor plain = from_channels_last(ctx.pool, ctx.input(0));
  std::vector<const Tensor*> inputs(ctx.inputs.begin(), ctx.inputs.end());
  inputs[0] = &plain;
  const auto outputs = evaluate({.node = ctx.node, .opset = ctx.opset, .inputs = inputs, .pool = ctx.pool});
  return {to_channels_last(ctx.pool, outputs[0])};
}

}  // namespace

const OpDef kConv = {.name = "Conv",
                     .min_inputs = 2,
                     .max_inputs = 3,
                     .infer = infer,
                     .evaluate = evaluate,
                     .rule = QuantRule::kCompute,
                     .evaluate_nhwc = evaluate_nhwc};

}  // namespace nibble::nn
