// Convolutions: NHWC kernels for one and two spatial axes, plain loops for three.
#include <algorithm>
#include <memory>

#include "kernels/layout/layout.h"
#include "quantize/window_geometry.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

// The kernel's view of a window over [N, C, (H,) W].
struct Window2d {
  std::int64_t in_h = 1, in_w = 1, out_h = 1, out_w = 1, pad_top = 0, pad_left = 0;
};

Window2d window_2d(const Window& w) {
  Window2d r;
  const std::size_t rank = w.input.size();
  r.in_w = w.input[rank - 1];
  r.out_w = w.output[rank - 1];
  r.pad_left = w.pad_begin[rank - 1];
  if (rank == 2) {
    r.in_h = w.input[0];
    r.out_h = w.output[0];
    r.pad_top = w.pad_begin[0];
  }
  return r;
}

void add_conv_step(PlanBuilder& plan, const Node& node, kernels::ConvCall call, kernels::PackedConv packed, const Rows& src) {
  const std::int64_t pixels = call.batch * call.out_h * call.out_w;
  const std::int64_t products =
      packed.shape.in_channels / packed.shape.groups * packed.shape.kernel_h * packed.shape.kernel_w * packed.shape.out_channels;
  const auto sum = plan.write_sum(node, Layout::kChannelsLast);
  const Rows dst = sum ? sum->dst : plan.write_rows(node, node.output(0), Layout::kChannelsLast);
  call.ld_src = src.ld;
  call.ld_dst = dst.ld;
  Ref other;
  if (sum) {
    call.residual = sum->law;
    call.residual.ld_src = sum->other.ld;
    other = sum->other.ref;
  }
  const bool adds = sum.has_value();
  plan.need_scratch(kernels::conv_scratch_bytes(packed));
  const std::string kernel = kernels::conv_kernel_name(packed, pixels) + (adds ? "+add" : "");
  // Pixels are shared out, so that a thread finds what it wrote in its own cache. Where the weights are much more than what is read and
  // written, the channels are, and each thread keeps its part of the weights.
  struct Part {
    kernels::PackedConv conv;
    std::int64_t first = 0;
  };
  std::vector<Part> parts;
  const std::int64_t channels = packed.shape.out_channels;
  const double ns_a_pixel = static_cast<double>(products) / plan.macs_per_ns(std::max<std::int64_t>(pixels, 1));
  constexpr std::int64_t kMuch = 4;  // what another core has written costs more than what all share
  const bool many_weights = products > kMuch * pixels * (packed.shape.in_channels + channels);
  const bool pays = plan.grain(channels, ns_a_pixel * static_cast<double>(pixels) / static_cast<double>(channels)) < channels;
  // Whole cache lines of a pixel's channels, if there are enough.
  constexpr std::int64_t kLine = 64;
  const std::int64_t least = kernels::conv_channel_step(packed);
  const std::int64_t step = channels >= 2 * kLine * plan.threads() ? std::max(kLine, least) : least;
  const std::int64_t steps = (channels + step - 1) / step;
  const std::int64_t count = many_weights && pays ? std::min<std::int64_t>(steps, plan.threads()) : 1;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t begin = steps * i / count * step;
    const std::int64_t end = std::min(channels, steps * (i + 1) / count * step);
    parts.push_back({.conv = kernels::conv_channels(packed, begin, end), .first = begin});
  }
  const std::int64_t grain = count > 1 ? pixels : plan.grain(pixels, ns_a_pixel);
  const std::int64_t chunks = (pixels + grain - 1) / grain;
  const auto shared = plan.own(std::move(parts));
  plan.add_step(node, kernel, pixels * products, [=](const RunContext& run) {
    kernels::ConvCall c = call;
    c.src = run.in(src.ref);
    c.dst = run.ptr(dst.ref);
    if (adds) c.residual.src = run.in(other);
    run.pool->parallel_for(count * chunks, 1, [&](std::int64_t begin, std::int64_t end, int thread) {
      for (std::int64_t i = begin; i < end; ++i) {
        const Part& part = (*shared)[static_cast<std::size_t>(i / chunks)];
        const std::int64_t first = i % chunks * grain;
        kernels::qconv(part.conv, kernels::conv_channels(c, part.first), first, std::min(first + grain, pixels), run.scratch_of(thread));
      }
    });
  });
}

void add_depthwise_step(PlanBuilder& plan, const Node& node, kernels::ConvCall call, kernels::PackedDepthwise packed, const Rows& src) {
  const Rows dst = plan.write_rows(node, node.output(0), Layout::kChannelsLast);
  call.ld_src = src.ld;
  call.ld_dst = dst.ld;
  const std::int64_t rows = call.batch * call.out_h;
  const std::int64_t products = packed.shape.kernel_h * packed.shape.kernel_w * packed.shape.out_channels;
  plan.need_scratch(kernels::depthwise_scratch_bytes(packed, call.in_w, call.out_w));
  const std::string kernel = kernels::depthwise_kernel_name(packed);
  constexpr double kNsAProduct = 0.012;  // of vector kernels
  const std::int64_t grain = plan.grain(rows, static_cast<double>(products * call.out_w) * kNsAProduct);
  const auto shared = plan.own(std::move(packed));
  plan.add_step(node, kernel, rows * call.out_w * products, [=](const RunContext& run) {
    kernels::ConvCall c = call;
    c.src = run.in(src.ref);
    c.dst = run.ptr(dst.ref);
    run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end, int thread) {
      kernels::qconv_depthwise(*shared, c, begin, end, run.scratch_of(thread));
    });
  });
}

// Three spatial axes: nested loops on the ONNX layout. A transposed convolution gathers, too: output position o takes from input position i
// by tap t where i stride = o + pad - t dilation.
void add_plain_conv_step(PlanBuilder& plan, const Node& node, const Shape& x, const Shape& y, const Window& window) {
  const bool transposed = node.op_type == "ConvTranspose";
  const PreparedPlainConv* prepared = plan.prepared<PreparedPlainConv>();
  const Ref src = plan.read(node, node.input(0), Layout::kPlain);
  const Ref dst = plan.write(node, node.output(0), Layout::kPlain);
  const std::int64_t groups = node.get_int("group", 1);
  const std::int32_t zero_point = stored_grid(plan.params(node.input(0))).zero_point;
  const std::int64_t group_in = x[1] / groups;
  const std::int64_t group_out = y[1] / groups;
  const std::int64_t in_plane = element_count(window.input);
  const std::int64_t out_plane = element_count(window.output);
  const std::int64_t taps = element_count(window.kernel);
  const std::int64_t planes = y[0] * y[1];
  const auto shared = plan.own(Window(window));
  plan.add_step(node, "qconv_plain", planes * out_plane * taps * group_in, [=](const RunContext& run) {
    const Window& w = *shared;
    const std::uint8_t* in = run.in(src);
    std::uint8_t* out = run.ptr(dst);
    run.pool->parallel_for(planes, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t plane = begin; plane < end; ++plane) {
        const std::int64_t o = plane % y[1];
        const std::int64_t first = (plane / y[1]) * x[1] + o / group_out * group_in;
        for (std::int64_t p = 0; p < out_plane; ++p) {
          std::int32_t acc = prepared->bias[static_cast<std::size_t>(o)];
          for (std::int64_t t = 0; t < taps; ++t) {
            std::int64_t flat = 0;
            std::int64_t rest_p = p;
            std::int64_t rest_t = t;
            std::int64_t step = 1;
            bool inside = true;
            for (std::size_t d = w.kernel.size(); d-- > 0;) {
              const std::int64_t o_d = rest_p % w.output[d];
              const std::int64_t t_d = rest_t % w.kernel[d] * w.dilation[d];
              rest_p /= w.output[d];
              rest_t /= w.kernel[d];
              std::int64_t i = transposed ? o_d + w.pad_begin[d] - t_d : o_d * w.stride[d] + t_d - w.pad_begin[d];
              if (transposed) {
                inside = inside && i % w.stride[d] == 0;
                i /= w.stride[d];
              }
              inside = inside && i >= 0 && i < w.input[d];
              flat += i * step;
              step *= w.input[d];
            }
            if (!inside) continue;
            for (std::int64_t c = 0; c < group_in; ++c) {
              const std::int64_t row = transposed ? (o / group_out * group_in + c) * group_out + o % group_out : o * group_in + c;
              acc += (in[(first + c) * in_plane + flat] - zero_point) * prepared->weights[static_cast<std::size_t>(row * taps + t)];
            }
          }
          out[plane * out_plane + p] = prepared->requantize(acc, o);
        }
      }
    });
  });
}

kernels::ConvCall conv_call(const Window2d& w, const Shape& x, const kernels::Requantize& requantize) {
  kernels::ConvCall call;
  call.batch = x[0];
  call.in_h = w.in_h;
  call.in_w = w.in_w;
  call.out_h = w.out_h;
  call.out_w = w.out_w;
  call.requantize = requantize;
  return call;
}

}  // namespace

void lower_conv(PlanBuilder& plan, const Node& node) {
  const Shape x = plan.shape(node, node.input(0));
  const Shape y = plan.shape(node, node.output(0));
  const Window window = conv_window(node, x, plan.model().graph.value(node.input(1)).constant->shape());
  if (plan.prepared<PreparedPlainConv>() != nullptr) return add_plain_conv_step(plan, node, x, y, window);
  const Window2d w = window_2d(window);
  const Rows src = plan.read_rows(node, node.input(0), Layout::kChannelsLast);
  if (const auto* depthwise = plan.prepared<PreparedDepthwise>()) {
    kernels::PackedDepthwise packed = depthwise->packed;
    packed.shape.pad_top = w.pad_top;
    packed.shape.pad_left = w.pad_left;
    return add_depthwise_step(plan, node, conv_call(w, x, depthwise->requantize.view()), std::move(packed), src);
  }
  const auto* conv = plan.prepared<PreparedConv>();
  kernels::PackedConv packed = conv->packed;
  packed.shape.pad_top = w.pad_top;
  packed.shape.pad_left = w.pad_left;
  add_conv_step(plan, node, conv_call(w, x, conv->requantize.view()), std::move(packed), src);
}

void lower_conv_transpose(PlanBuilder& plan, const Node& node) {
  const Shape x = plan.shape(node, node.input(0));
  const Shape y = plan.shape(node, node.output(0));
  const Window window = conv_transpose_window(node, x, plan.model().graph.value(node.input(1)).constant->shape());
  if (plan.prepared<PreparedPlainConv>() != nullptr) return add_plain_conv_step(plan, node, x, y, window);
  const Window2d w = window_2d(window);  // in: of x; out: of y
  const std::size_t rank = window.input.size();
  const std::int64_t stride_w = window.stride[rank - 1];
  const std::int64_t stride_h = rank == 2 ? window.stride[0] : 1;
  const std::int64_t reach_w = (window.kernel[rank - 1] - 1) * window.dilation[rank - 1];
  const std::int64_t reach_h = rank == 2 ? (window.kernel[0] - 1) * window.dilation[0] : 0;

  // The spread input, with all of its padding: output pixel o reads spread pixels o .. o + reach.
  const std::int64_t spread_h = w.out_h + reach_h;
  const std::int64_t spread_w = w.out_w + reach_w;
  const std::int64_t first_h = reach_h - w.pad_top;
  const std::int64_t first_w = reach_w - w.pad_left;
  const std::int64_t channels = x[1];
  const std::uint8_t zero = static_cast<std::uint8_t>(stored_grid(plan.params(node.input(0))).zero_point);
  const Rows src = plan.read_rows(node, node.input(0), Layout::kChannelsLast);
  // Pads may cancel what dilations spread out, so that the output is small and this is not.
  const Ref spread = plan.temporary(element_count(Shape{x[0], spread_h, spread_w, channels}));
  const std::int64_t batch = x[0];
  plan.add_step(node, "spread", 0, [=](const RunContext& run) {
    const std::uint8_t* in = run.in(src.ref);
    std::uint8_t* out = run.ptr(spread);
    std::fill_n(out, batch * spread_h * spread_w * channels, zero);
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t i = 0; i < w.in_h; ++i) {
        const std::int64_t row = first_h + i * stride_h;
        if (row < 0 || row >= spread_h) continue;
        for (std::int64_t j = 0; j < w.in_w; ++j) {
          const std::int64_t column = first_w + j * stride_w;
          if (column < 0 || column >= spread_w) continue;
          std::copy_n(in + ((b * w.in_h + i) * w.in_w + j) * src.ld, channels, out + ((b * spread_h + row) * spread_w + column) * channels);
        }
      }
    }
  });
  plan.keep(spread);
  const Rows from{.ref = spread, .ld = channels};
  Window2d over{.in_h = spread_h, .in_w = spread_w, .out_h = w.out_h, .out_w = w.out_w, .pad_top = 0, .pad_left = 0};
  if (const auto* depthwise = plan.prepared<PreparedDepthwise>())
    return add_depthwise_step(plan, node, conv_call(over, x, depthwise->requantize.view()), depthwise->packed, from);
  const auto* conv = plan.prepared<PreparedConv>();
  add_conv_step(plan, node, conv_call(over, x, conv->requantize.view()), conv->packed, from);
}

}  // namespace nibble
