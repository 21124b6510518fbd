// MaxPool, AveragePool, LpPool over 1-D to N-D windows, and their global forms. Elements in padding take no part, except that AveragePool's
// count_include_pad counts them (but never what ceil_mode adds past the padding).
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "ops/nn_common.h"
#include "ops/window.h"
#include "tensor/dispatch.h"

namespace nibble::nn {
namespace {

void infer_pool(InferContext& ctx) {
  const TensorType& x = *ctx.inputs[0];
  require_rank(ctx.node, x, 3, "the input");
  for (std::size_t i = 0; i < ctx.outputs.size(); ++i) {
    TensorType& y = ctx.outputs[i];
    y.dtype = i == 0 ? x.dtype : DataType::kInt64;
    if (!x.has_rank) continue;
    y.has_rank = true;
    y.dims.assign(x.dims.size(), Dim{});
    y.dims[0] = x.dims[0];
    y.dims[1] = x.dims[1];
    const auto axes = resolve_window(ctx.node, read_window(ctx.node, x.dims.size() - 2, {}), spatial_sizes(x));
    for (std::size_t d = 0; d < axes.size(); ++d) y.dims[d + 2].size = axes[d].out;
  }
}

void infer_global(InferContext& ctx) {
  const TensorType& x = *ctx.inputs[0];
  require_rank(ctx.node, x, 2, "the input");
  ctx.outputs[0] = x;
  for (std::size_t d = 2; d < x.dims.size(); ++d) ctx.outputs[0].dims[d] = Dim{.size = 1, .symbol = {}};
}

// The part of a window that lies inside the input, for one output position of one axis.
struct Taps {
  std::int64_t first = 0;   // input index of the first tap inside
  std::int64_t count = 0;   // taps inside
  std::int64_t padded = 0;  // taps inside the input and its padding
};
std::vector<Taps> axis_taps(const WindowAxis& axis) {
  std::vector<Taps> result(at(axis.out));
  for (std::int64_t o = 0; o < axis.out; ++o) {
    const std::int64_t start = o * axis.stride - axis.pad_begin;
    const std::int64_t skip = start < 0 ? std::min((-start + axis.dilation - 1) / axis.dilation, axis.kernel) : 0;
    const auto taps_before = [&](std::int64_t end) {
      return end <= start ? std::int64_t{0} : std::min(axis.kernel, (end - start + axis.dilation - 1) / axis.dilation);
    };
    result[at(o)] = {.first = start + skip * axis.dilation,
                     .count = std::max<std::int64_t>(taps_before(axis.in) - skip, 0),
                     .padded = taps_before(axis.in + axis.pad_end)};
  }
  return result;
}

// Calls body(plane, output index in the plane, window), window(tap): tap(input index in the plane), in row-major order of the taps.
class PoolLoops {
 public:
  explicit PoolLoops(std::vector<WindowAxis> axes) : axes_(std::move(axes)) {
    for (const WindowAxis& axis : axes_) {
      taps_.push_back(axis_taps(axis));
      in_ *= axis.in;
      out_ *= axis.out;
    }
  }
  std::int64_t in_pixels() const { return in_; }
  std::int64_t out_pixels() const { return out_; }
  const std::vector<WindowAxis>& axes() const { return axes_; }

  // visit(input index) for each tap of output `o` that lies inside; returns the number of taps inside the padded input.
  template <typename Visit>
  std::int64_t window(std::int64_t o, const Visit& visit) const {
    constexpr std::size_t kMaxRank = 8;
    const std::size_t rank = axes_.size();
    const Taps* taps[kMaxRank];
    std::int64_t padded = 1;
    for (std::size_t d = rank; d-- > 0;) {
      taps[d] = &taps_[d][at(o % axes_[d].out)];
      o /= axes_[d].out;
      padded *= taps[d]->padded;
    }
    walk(taps, 0, 0, visit);
    return padded;
  }

 private:
  template <typename Visit>
  void walk(const Taps* const* taps, std::size_t d, std::int64_t base, const Visit& visit) const {
    const WindowAxis& axis = axes_[d];
    std::int64_t index = base * axis.in + taps[d]->first;
    for (std::int64_t i = 0; i < taps[d]->count; ++i, index += axis.dilation) {
      if (d + 1 == axes_.size())
        visit(index);
      else
        walk(taps, d + 1, index, visit);
    }
  }
  std::vector<WindowAxis> axes_;
  std::vector<std::vector<Taps>> taps_;
  std::int64_t in_ = 1, out_ = 1;
};

PoolLoops pool_loops(const EvalContext& ctx) {
  const Shape& x = ctx.input(0).shape();
  if (x.size() < 3 || x.size() > 10) fail_node(ctx.node, "the input has shape {}, expected [batch, channels, ...]", to_string(x));
  return PoolLoops(resolve_window(ctx.node, read_window(ctx.node, x.size() - 2, {}), spatial_sizes(x)));
}

Shape pooled_shape(const Shape& x, const PoolLoops& loops) {
  Shape y{x[0], x[1]};
  for (const WindowAxis& axis : loops.axes()) y.push_back(axis.out);
  return y;
}

// The row-major index of a pixel as storage_order 1 counts it: the first spatial axis fastest.
std::int64_t column_major(std::int64_t index, const std::vector<WindowAxis>& axes) {
  std::int64_t result = 0;
  for (std::size_t d = axes.size(); d-- > 0;) {
    result = result * axes[d].in + index % axes[d].in;
    index /= axes[d].in;
  }
  return result;
}

template <typename T>
std::vector<Tensor> max_pool(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const PoolLoops loops = pool_loops(ctx);
  const Shape shape = pooled_shape(x.shape(), loops);
  const bool wants_indices = ctx.node.output(1) != kNoValue;
  const bool column_order = ctx.node.get_int("storage_order", 0) != 0;
  Tensor y(x.type(), shape);
  Tensor indices = wants_indices ? Tensor(DataType::kInt64, shape) : Tensor();
  const T* in = x.data<T>().data();
  T* out = y.mutable_data<T>().data();
  std::int64_t* chosen = wants_indices ? indices.mutable_data<std::int64_t>().data() : nullptr;
  parallel_for(ctx.pool, shape[0] * shape[1], 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const T* src = in + plane * loops.in_pixels();
      for (std::int64_t o = 0; o < loops.out_pixels(); ++o) {
        T best = std::numeric_limits<T>::lowest();
        std::int64_t where = -1;
        loops.window(o, [&](std::int64_t i) {
          if (src[i] > best || where < 0 || src[i] != src[i]) {
            best = src[i];
            where = i;
          }
        });
        out[plane * loops.out_pixels() + o] = best;
        if (chosen == nullptr) continue;
        const std::int64_t pixel = where < 0 ? 0 : column_order ? column_major(where, loops.axes()) : where;
        chosen[plane * loops.out_pixels() + o] = plane * loops.in_pixels() + pixel;
      }
    }
  });
  return {std::move(y), std::move(indices)};
}

std::vector<Tensor> evaluate_max(const EvalContext& ctx) {
  switch (ctx.input(0).type()) {
    case DataType::kInt8: return max_pool<std::int8_t>(ctx);
    case DataType::kUInt8: return max_pool<std::uint8_t>(ctx);
    default: return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return max_pool<T>(c); });
  }
}

// y[o] = finish(sum over the window of term(x), taps counted)
template <typename T, typename Term, typename Finish>
std::vector<Tensor> sum_pool(const EvalContext& ctx, const Term& term, const Finish& finish) {
  const Tensor& x = ctx.input(0);
  const PoolLoops loops = pool_loops(ctx);
  const bool include_pad = ctx.node.get_int("count_include_pad", 0) != 0;
  Tensor y(x.type(), pooled_shape(x.shape(), loops));
  const T* in = x.data<T>().data();
  T* out = y.mutable_data<T>().data();
  parallel_for(ctx.pool, x.shape()[0] * x.shape()[1], 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t plane = begin; plane < end; ++plane) {
      const T* src = in + plane * loops.in_pixels();
      for (std::int64_t o = 0; o < loops.out_pixels(); ++o) {
        T sum{};
        std::int64_t inside = 0;
        const std::int64_t padded = loops.window(o, [&](std::int64_t i) {
          sum += term(src[i]);
          ++inside;
        });
        out[plane * loops.out_pixels() + o] = finish(sum, include_pad ? padded : inside);
      }
    }
  });
  return {std::move(y)};
}

std::vector<Tensor> evaluate_average(const EvalContext& ctx) {
  return evaluate_real(ctx, []<typename T>(const EvalContext& c) {
    return sum_pool<T>(
        c, [](T v) { return v; }, [](T sum, std::int64_t count) { return count > 0 ? sum / static_cast<T>(count) : T{}; });
  });
}

std::int64_t norm_order(const Node& node) {
  const std::int64_t p = node.get_int("p", 2);
  if (p < 1) fail_node(node, "p is {}, expected at least 1", p);
  return p;
}

template <typename T>
T power(T value, std::int64_t p) {
  const T magnitude = std::abs(value);
  return p == 1 ? magnitude : p == 2 ? magnitude * magnitude : std::pow(magnitude, static_cast<T>(p));
}
template <typename T>
T root(T sum, std::int64_t p) {
  return p == 1 ? sum : p == 2 ? std::sqrt(sum) : std::pow(sum, T{1} / static_cast<T>(p));
}

std::vector<Tensor> evaluate_lp(const EvalContext& ctx) {
  const std::int64_t p = norm_order(ctx.node);
  return evaluate_real(ctx, [p]<typename T>(const EvalContext& c) {
    return sum_pool<T>(
        c, [p](T v) { return power(v, p); }, [p](T sum, std::int64_t) { return root(sum, p); });
  });
}

// One number a plane.
template <typename T, typename Reduce>
std::vector<Tensor> global_pool(const EvalContext& ctx, const Reduce& reduce) {
  const Tensor& x = ctx.input(0);
  require_rank(ctx.node, x, 2, "the input");
  Shape shape = x.shape();
  const std::int64_t pixels = product(shape, 2, shape.size());
  std::fill(shape.begin() + 2, shape.end(), 1);
  Tensor y(x.type(), shape);
  const T* in = x.data<T>().data();
  const auto out = y.mutable_data<T>();
  if (pixels == 0 && !out.empty()) fail_node(ctx.node, "the input has shape {}: there is nothing to pool", to_string(x.shape()));
  for (std::int64_t plane = 0; plane < std::ssize(out); ++plane) out[at(plane)] = reduce(in + plane * pixels, pixels);
  return {std::move(y)};
}

std::vector<Tensor> evaluate_global_max(const EvalContext& ctx) {
  const auto largest = []<typename T>(const EvalContext& c) {
    return global_pool<T>(c, [](const T* v, std::int64_t n) { return *std::max_element(v, v + n); });
  };
  switch (ctx.input(0).type()) {
    case DataType::kInt8: return largest.template operator()<std::int8_t>(ctx);
    case DataType::kUInt8: return largest.template operator()<std::uint8_t>(ctx);
    default: return evaluate_real(ctx, largest);
  }
}

std::vector<Tensor> evaluate_global_average(const EvalContext& ctx) {
  return evaluate_real(ctx, []<typename T>(const EvalContext& c) {
    return global_pool<T>(c, [](const T* v, std::int64_t n) {
      double sum = 0.0;  // a plane may hold very many elements
      for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(v[i]);
      return static_cast<T>(sum / static_cast<double>(n));
    });
  });
}

std::vector<Tensor> evaluate_global_lp(const EvalContext& ctx) {
  const std::int64_t p = norm_order(ctx.node);
  return evaluate_real(ctx, [p]<typename T>(const EvalContext& c) {
    return global_pool<T>(c, [p](const T* v, std::int64_t n) {
      T sum{};
      for (std::int64_t i = 0; i < n; ++i) sum += power(v[i], p);
      return root(sum, p);
    });
  });
}

// --- channels last: x [N,H,W,C], the channels of a pixel side by side, so that the innermost loops run along them ---

// start(y, C), add(y, x, C) for each tap, finish(y, C, taps counted)
template <typename Start, typename Add, typename Finish>
std::vector<Tensor> pool_nhwc(const EvalContext& ctx, const Start& start, const Add& add, const Finish& finish) {
  const Shape& s = ctx.input(0).shape();
  const std::int64_t sizes[] = {s[1], s[2]};
  const PoolLoops loops(resolve_window(ctx.node, read_window(ctx.node, 2, {}), sizes));
  const bool include_pad = ctx.node.get_int("count_include_pad", 0) != 0;
  const std::int64_t channels = s[3];
  Tensor y(DataType::kFloat32, {s[0], loops.axes()[0].out, loops.axes()[1].out, channels});
  const float* in = ctx.input(0).data<float>().data();
  float* out = y.mutable_data<float>().data();
  parallel_for(ctx.pool, s[0] * loops.out_pixels(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float* src = in + i / loops.out_pixels() * loops.in_pixels() * channels;
      float* dst = out + i * channels;
      start(dst, channels);
      std::int64_t inside = 0;
      const std::int64_t padded = loops.window(i % loops.out_pixels(), [&](std::int64_t p) {
        add(dst, src + p * channels, channels);
        ++inside;
      });
      finish(dst, channels, include_pad ? padded : inside);
    }
  });
  return {std::move(y)};
}

std::vector<Tensor> max_nhwc(const EvalContext& ctx) {
  return pool_nhwc(
      ctx, [](float* y, std::int64_t n) { std::fill(y, y + n, std::numeric_limits<float>::lowest()); },
      [](float* __restrict y, const float* __restrict x, std::int64_t n) {
        // !(x <= y): a NaN wins, as in the plain loops.
        for (std::int64_t c = 0; c < n; ++c) y[c] = x[c] <= y[c] ? y[c] : x[c];
      },
      [](float*, std::int64_t, std::int64_t) {});
}

std::vector<Tensor> average_nhwc(const EvalContext& ctx) {
  return pool_nhwc(
      ctx, [](float* y, std::int64_t n) { std::fill(y, y + n, 0.0F); },
      [](float* __restrict y, const float* __restrict x, std::int64_t n) {
        for (std::int64_t c = 0; c < n; ++c) y[c] += x[c];
      },
      [](float* y, std::int64_t n, std::int64_t count) {
        for (std::int64_t c = 0; c < n; ++c) y[c] = count > 0 ? y[c] / static_cast<float>(count) : 0.0F;
      });
}

std::vector<Tensor> global_average_nhwc(const EvalContext& ctx) {
  const Shape& s = ctx.input(0).shape();
  const std::int64_t pixels = s[1] * s[2], channels = s[3];
  if (pixels == 0) fail_node(ctx.node, "there is nothing to pool");
  Tensor y(DataType::kFloat32, {s[0], 1, 1, channels});
  const float* in = ctx.input(0).data<float>().data();
  float* out = y.mutable_data<float>().data();
  std::vector<double> sum(at(channels));
  for (std::int64_t n = 0; n < s[0]; ++n) {
    std::fill(sum.begin(), sum.end(), 0.0);
    for (std::int64_t p = 0; p < pixels; ++p) {
      for (std::int64_t c = 0; c < channels; ++c) sum[at(c)] += static_cast<double>(in[(n * pixels + p) * channels + c]);
    }
    for (std::int64_t c = 0; c < channels; ++c) out[n * channels + c] = static_cast<float>(sum[at(c)] / static_cast<double>(pixels));
  }
  return {std::move(y)};
}

void infer_unpool(InferContext& ctx) {
  const TensorType& x = *ctx.inputs[0];
  TensorType& y = ctx.outputs[0];
  y.dtype = x.dtype;
  require_rank(ctx.node, x, 3, "the input");
  if (!x.has_rank) return;
  y.has_rank = true;
  y.dims.assign(x.dims.size(), Dim{});
  if (ctx.has_input(2)) {
    if (ctx.constants[2] == nullptr) return;
    const auto sizes = to_int64s(*ctx.constants[2]);
    if (sizes.size() != y.dims.size()) fail_node(ctx.node, "output_shape has {} entries, expected {}", sizes.size(), y.dims.size());
    for (std::size_t d = 0; d < sizes.size(); ++d) y.dims[d].size = sizes[d];
    return;
  }
  y.dims[0] = x.dims[0];
  y.dims[1] = x.dims[1];
  const WindowAttributes window = read_window(ctx.node, x.dims.size() - 2, {});
  for (std::size_t d = 2; d < x.dims.size(); ++d) {
    if (x.dims[d].known() && x.dims[d].size < (std::int64_t{1} << 30))
      y.dims[d].size =
          (x.dims[d].size - 1) * window.strides[d - 2] + window.kernel[d - 2] - window.pads[d - 2] - window.pads[d - 4 + x.dims.size()];
  }
}

// Indices are those of MaxPool's input as inferred from the window (`natural`); an explicit output_shape places them in a larger tensor.
template <typename T>
std::vector<Tensor> max_unpool(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& x = ctx.input(0);
  require_rank(node, x, 3, "the input");
  const std::size_t spatial = x.shape().size() - 2;
  const WindowAttributes window = read_window(node, spatial, {});
  Shape natural{x.shape()[0], x.shape()[1]};
  for (std::size_t d = 0; d < spatial; ++d) {
    const std::int64_t size = (x.shape()[d + 2] - 1) * window.strides[d] + window.kernel[d] - window.pads[d] - window.pads[d + spatial];
    if (size < 1) fail_node(node, "the pads leave nothing on spatial axis {}", d);
    natural.push_back(size);
  }
  const Shape shape = ctx.has_input(2) ? to_int64s(ctx.input(2)) : natural;
  if (shape.size() != natural.size()) fail_node(node, "output_shape has {} entries, expected {}", shape.size(), natural.size());
  Tensor y = Tensor::zeros(x.type(), shape);
  const auto in = x.data<T>();
  const auto indices = ctx.input(1).data<std::int64_t>();
  if (indices.size() != in.size())
    fail_node(node, "the indices have shape {}, expected {}", to_string(ctx.input(1).shape()), to_string(x.shape()));
  const auto out = y.mutable_data<T>();
  for (std::size_t i = 0; i < in.size(); ++i) {
    std::int64_t rest = indices[i], target = 0, scale = 1;
    bool inside = rest >= 0;
    for (std::size_t d = natural.size(); d-- > 0 && inside;) {
      const std::int64_t coordinate = d == 0 ? rest : rest % natural[d];
      rest /= natural[d];
      inside = coordinate < shape[d];
      target += coordinate * scale;
      scale *= shape[d];
    }
    if (!inside) fail_node(node, "index {} is outside of the output {}", indices[i], to_string(shape));
    out[at(target)] = in[i];
  }
  return {std::move(y)};
}

std::vector<Tensor> evaluate_unpool(const EvalContext& ctx) {
  return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return max_unpool<T>(c); });
}

}  // namespace

const OpDef kMaxPool = {.name = "MaxPool",
                        .max_outputs = 2,
                        .infer = infer_pool,
                        .evaluate = evaluate_max,
                        .rule = QuantRule::kTied,
                        .evaluate_nhwc = max_nhwc};
const OpDef kAveragePool = {.name = "AveragePool",
                            .infer = infer_pool,
                            .evaluate = evaluate_average,
                            .rule = QuantRule::kArithmetic,
                            .evaluate_nhwc = average_nhwc};
const OpDef kLpPool = {
    .name = "LpPool", .infer = infer_pool, .evaluate = evaluate_lp, .rule = QuantRule::kFloat, .note = "needs a root of a sum of powers"};
const OpDef kGlobalMaxPool = {.name = "GlobalMaxPool", .infer = infer_global, .evaluate = evaluate_global_max, .rule = QuantRule::kTied};
const OpDef kGlobalAveragePool = {.name = "GlobalAveragePool",
                                  .infer = infer_global,
                                  .evaluate = evaluate_global_average,
                                  .rule = QuantRule::kArithmetic,
                                  .evaluate_nhwc = global_average_nhwc};
const OpDef kGlobalLpPool = {.name = "GlobalLpPool",
                             .infer = infer_global,
                             .evaluate = evaluate_global_lp,
                             .rule = QuantRule::kFloat,
                             .note = "needs a root of a sum of powers"};
const OpDef kMaxUnpool = {.name = "MaxUnpool",
                          .min_inputs = 2,
                          .max_inputs = 3,
                          .infer = infer_unpool,
                          .evaluate = evaluate_unpool,
                          .rule = QuantRule::kFloat,
                          .note = "scatters by the indices of a MaxPool"};

}  // namespace nibble::nn
