// ConvTranspose: the transpose of Conv's linear map. Each input pixel adds w * x to the outputs p * stride - pad + k * dilation.
#include <algorithm>

#include "ops/conv_loops.h"
#include "ops/fused_activation.h"
#include "ops/nn_common.h"

namespace nibble::nn {
namespace {

void infer(InferContext& ctx) {
  const Node& node = ctx.node;
  const TensorType& x = *ctx.inputs[0];
  const TensorType& w = *ctx.inputs[1];
  TensorType& y = ctx.outputs[0];
  y.dtype = x.dtype;
  require_rank(node, x, 3, "the input");
  require_rank(node, w, 3, "the weight");
  if (!x.has_rank) return;
  if (w.has_rank && w.dims.size() != x.dims.size()) fail_node(node, "the input is {}, the weight {}", to_string(x), to_string(w));
  const std::int64_t groups = node.get_int("group", 1);
  if (groups < 1 || groups > (std::int64_t{1} << 30)) fail_node(node, "group is {}, expected at least 1", groups);
  y.has_rank = true;
  y.dims.assign(x.dims.size(), Dim{});
  y.dims[0] = x.dims[0];
  std::vector<std::int64_t> kernel(x.dims.size() - 2, -1);
  if (w.has_rank) {
    kernel = spatial_sizes(w);
    if (w.dims[1].known() && w.dims[1].size < (std::int64_t{1} << 30)) y.dims[1].size = w.dims[1].size * groups;
    if (x.dims[1].known() && w.dims[0].known() && x.dims[1].size != w.dims[0].size)
      fail_node(node, "the input is {}, the weight {}", to_string(x), to_string(w));
  }
  const auto axes = resolve_transposed_window(node, spatial_sizes(x), kernel);
  for (std::size_t i = 0; i < axes.size(); ++i) y.dims[i + 2].size = axes[i].out;
}

// Each output sums over input channels, then taps, in ascending order.
template <typename T>
std::vector<Tensor> transposed(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& x = ctx.input(0);
  const Tensor& w = ctx.input(1);
  require_rank(node, x, 3, "the input");
  if (w.rank() != x.rank()) fail_node(node, "the weight has shape {}, expected {} axes", to_string(w.shape()), x.rank());
  const std::int64_t groups = node.get_int("group", 1);
  if (groups < 1) fail_node(node, "group is {}, expected at least 1", groups);
  const std::int64_t channels = x.shape()[1], group_out = w.shape()[1];
  if (w.shape()[0] != channels || channels % groups != 0)
    fail_node(node, "the input has {} channels in {} groups, the weight has shape {}", channels, groups, to_string(w.shape()));
  const std::int64_t group_in = channels / groups;
  const auto axes = resolve_transposed_window(node, spatial_sizes(x.shape()), spatial_sizes(w.shape()));

  Shape y_shape{x.shape()[0], groups * group_out};
  std::int64_t in_pixels = 1, out_pixels = 1, taps = 1;
  for (const WindowAxis& axis : axes) {
    y_shape.push_back(axis.out);
    in_pixels *= axis.in;
    taps *= axis.kernel;
  }
  Tensor y = Tensor::zeros(x.type(), y_shape);
  for (const WindowAxis& axis : axes) out_pixels *= axis.out;
  const auto in = x.data<T>();
  const auto weights = w.data<T>();
  const auto out = y.mutable_data<T>();

  // Where each (input pixel, tap) lands, in units of output pixels; -1 where it is cut off. One row a tap, made once.
  const auto land = [&](std::int64_t pixel, std::int64_t tap) {
    std::int64_t offset = 0, scale = 1;
    for (std::size_t d = axes.size(); d-- > 0;) {
      const WindowAxis& axis = axes[d];
      const std::int64_t position = (pixel % axis.in) * axis.stride - axis.pad_begin + (tap % axis.kernel) * axis.dilation;
      pixel /= axis.in;
      tap /= axis.kernel;
      if (position < 0 || position >= axis.out) return std::int64_t{-1};
      offset += position * scale;
      scale *= axis.out;
    }
    return offset;
  };
  std::vector<std::int64_t> landing(at(in_pixels * taps));
  for (std::int64_t t = 0; t < taps; ++t) {
    for (std::int64_t p = 0; p < in_pixels; ++p) landing[at(t * in_pixels + p)] = land(p, t);
  }
  const std::int64_t planes = x.shape()[0] * groups * group_out;
  parallel_for(ctx.pool, planes, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const std::int64_t o = plane % group_out, group = plane / group_out % groups, n = plane / (group_out * groups);
      T* dst = out.data() + plane * out_pixels;
      for (std::int64_t c = 0; c < group_in; ++c) {
        const T* src = in.data() + (n * channels + group * group_in + c) * in_pixels;
        const T* kernel = weights.data() + ((group * group_in + c) * group_out + o) * taps;
        for (std::int64_t t = 0; t < taps; ++t) {
          const std::int64_t* to = landing.data() + t * in_pixels;
          for (std::int64_t p = 0; p < in_pixels; ++p) {
            if (to[p] >= 0) dst[to[p]] += kernel[t] * src[p];
          }
        }
      }
    }
  });
  if (ctx.has_input(2)) {
    const auto bias = ctx.input(2).data<T>();
    if (std::ssize(bias) != groups * group_out)
      fail_node(node, "the bias has shape {}, expected [{}]", to_string(ctx.input(2).shape()), groups * group_out);
    for (std::int64_t i = 0; i < planes; ++i) {
      for (std::int64_t p = 0; p < out_pixels; ++p) out[at(i * out_pixels + p)] += bias[at(i % (groups * group_out))];
    }
  }
  apply_activation(fused_activation(node), y);
  return {std::move(y)};
}

std::vector<Tensor> evaluate(const EvalContext& ctx) {
  return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return transposed<T>(c); });
}

}  // namespace

const OpDef kConvTranspose = {
    .name = "ConvTranspose", .min_inputs = 2, .max_inputs = 3, .infer = infer, .evaluate = evaluate, .rule = QuantRule::kCompute};

}  // namespace nibble::nn
