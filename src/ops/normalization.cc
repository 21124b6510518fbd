// BatchNormalization, InstanceNormalization, LayerNormalization, GroupNormalization, MeanVarianceNormalization, LpNormalization, LRN.
// Means and variances are summed in double: they are long sums, and the order then hardly matters.
#include <algorithm>
#include <cmath>

#include "ops/nn_common.h"

namespace nibble::nn {
namespace {

struct Moments {
  double mean = 0.0;
  double variance = 0.0;  // of the population
};

template <typename T, typename At>
Moments moments(std::int64_t count, const At& value) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(value(i));
  const double mean = sum / static_cast<double>(count);
  double squares = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double d = static_cast<double>(value(i)) - mean;
    squares += d * d;
  }
  return {mean, squares / static_cast<double>(count)};
}

template <typename T>
std::span<const T> channel_parameter(const EvalContext& ctx, std::size_t i, std::int64_t channels, std::string_view what) {
  const auto data = ctx.input(i).data<T>();
  if (std::ssize(data) != channels) fail_node(ctx.node, "{} has shape {}, expected [{}]", what, to_string(ctx.input(i).shape()), channels);
  return data;
}

// --- BatchNormalization ---

void infer_batch(InferContext& ctx) {
  infer_same(ctx);
  for (std::size_t i = 1; i < ctx.outputs.size() && i < 3; ++i) ctx.outputs[i] = *ctx.inputs[i + 2];
}

template <typename T>
std::vector<Tensor> batch(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& x = ctx.input(0);
  require_rank(node, x, 2, "the input");
  if (ctx.opset < 9 && node.get_int("spatial", 1) == 0)
    fail(ErrorCode::kUnsupported, "node '{}' ({}): spatial=0 is not supported", node.name, node.op_type);
  const std::int64_t channels = x.shape()[1], pixels = product(x.shape(), 2, x.shape().size());
  const auto scale = channel_parameter<T>(ctx, 1, channels, "the scale");
  const auto bias = channel_parameter<T>(ctx, 2, channels, "the bias");
  // Statistics may be of another floating point type than the data (opset 14 on).
  const auto given_mean = to_doubles(ctx.input(3)), given_variance = to_doubles(ctx.input(4));
  if (std::ssize(given_mean) != channels || std::ssize(given_variance) != channels)
    fail_node(node, "mean and variance have shapes {} and {}, expected [{}]", to_string(ctx.input(3).shape()),
              to_string(ctx.input(4).shape()), channels);
  const float epsilon = node.get_float("epsilon", 1e-5F), momentum = node.get_float("momentum", 0.9F);
  const bool training = node.get_int("training_mode", 0) != 0;

  Tensor y(x.type(), x.shape());
  const T* in = x.data<T>().data();
  T* out = y.mutable_data<T>().data();
  std::vector<double> running_mean(at(channels)), running_variance(at(channels));
  for (std::int64_t c = 0; c < channels; ++c) {
    double mean = given_mean[at(c)], variance = given_variance[at(c)];
    if (training) {
      const Moments m =
          moments<T>(x.shape()[0] * pixels, [&](std::int64_t i) { return in[(i / pixels * channels + c) * pixels + i % pixels]; });
      running_mean[at(c)] = mean * static_cast<double>(momentum) + m.mean * (1.0 - static_cast<double>(momentum));
      running_variance[at(c)] = variance * static_cast<double>(momentum) + m.variance * (1.0 - static_cast<double>(momentum));
      mean = m.mean;
      variance = m.variance;
    }
    const T factor = scale[at(c)] / std::sqrt(static_cast<T>(variance) + static_cast<T>(epsilon));
    const T center = static_cast<T>(mean), offset = bias[at(c)];
    for (std::int64_t n = 0; n < x.shape()[0]; ++n) {
      const std::int64_t first = (n * channels + c) * pixels;
      for (std::int64_t p = 0; p < pixels; ++p) out[first + p] = (in[first + p] - center) * factor + offset;
    }
  }
  if (!training) return {std::move(y)};
  const auto statistic = [&](const std::vector<double>& v, std::size_t like) {
    return cast(Tensor::from<double>({channels}, std::span<const double>(v)), ctx.input(like).type());
  };
  return {std::move(y), statistic(running_mean, 3), statistic(running_variance, 4)};
}

// Inference on [N,H,W,C]: the channels of a pixel lie side by side.
std::vector<Tensor> batch_nhwc(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& x = ctx.input(0);
  const std::int64_t channels = x.shape()[3];
  const auto scale = channel_parameter<float>(ctx, 1, channels, "the scale");
  const auto bias = channel_parameter<float>(ctx, 2, channels, "the bias");
  const Tensor means = cast(ctx.input(3), DataType::kFloat32), variances = cast(ctx.input(4), DataType::kFloat32);
  if (means.size() != channels || variances.size() != channels) fail_node(node, "mean and variance do not have {} elements", channels);
  const float epsilon = node.get_float("epsilon", 1e-5F);
  std::vector<float> factor(at(channels));
  const float* mean = means.data<float>().data();
  for (std::size_t c = 0; c < factor.size(); ++c) factor[c] = scale[c] / std::sqrt(variances.data<float>()[c] + epsilon);
  Tensor y(x.type(), x.shape());
  const float* in = x.data<float>().data();
  float* out = y.mutable_data<float>().data();
  parallel_for(ctx.pool, x.size() / std::max<std::int64_t>(channels, 1), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin * channels; p < end * channels; p += channels) {
      for (std::int64_t c = 0; c < channels; ++c) out[p + c] = (in[p + c] - mean[c]) * factor[at(c)] + bias[at(c)];
    }
  });
  return {std::move(y)};
}

// --- InstanceNormalization, GroupNormalization ---

// [blocks, count] blocks normalised each by itself, then scaled by scale(block, i), bias(block, i).
template <typename T, typename Scale, typename Bias>
Tensor normalize_blocks(const EvalContext& ctx, std::int64_t blocks, std::int64_t count, const Scale& scale, const Bias& bias) {
  const Tensor& x = ctx.input(0);
  const auto epsilon = static_cast<double>(ctx.node.get_float("epsilon", 1e-5F));
  Tensor y(x.type(), x.shape());
  const T* in = x.data<T>().data();
  T* out = y.mutable_data<T>().data();
  parallel_for(ctx.pool, blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const T* src = in + b * count;
      const Moments m = moments<T>(count, [&](std::int64_t i) { return src[i]; });
      const T mean = static_cast<T>(m.mean), inv_deviation = static_cast<T>(1.0 / std::sqrt(m.variance + epsilon));
      for (std::int64_t i = 0; i < count; ++i) out[b * count + i] = (src[i] - mean) * inv_deviation * scale(b, i) + bias(b, i);
    }
  });
  return y;
}

template <typename T>
std::vector<Tensor> instance(const EvalContext& ctx) {
  const Shape& x = ctx.input(0).shape();
  require_rank(ctx.node, ctx.input(0), 2, "the input");
  const std::int64_t channels = x[1];
  const auto scale = channel_parameter<T>(ctx, 1, channels, "the scale");
  const auto bias = channel_parameter<T>(ctx, 2, channels, "the bias");
  return {normalize_blocks<T>(
      ctx, x[0] * channels, product(x, 2, x.size()), [&](std::int64_t b, std::int64_t) { return scale[at(b % channels)]; },
      [&](std::int64_t b, std::int64_t) { return bias[at(b % channels)]; })};
}

// Opset 18 has one scale a group, opset 21 one a channel.
template <typename T>
std::vector<Tensor> group(const EvalContext& ctx) {
  const Shape& x = ctx.input(0).shape();
  require_rank(ctx.node, ctx.input(0), 2, "the input");
  const std::int64_t groups = ctx.node.get_int("num_groups", 0), channels = x[1];
  if (groups < 1 || channels % groups != 0) fail_node(ctx.node, "num_groups is {}, which does not divide {} channels", groups, channels);
  const std::int64_t parameters = ctx.opset >= 21 ? channels : groups;
  const auto scale = channel_parameter<T>(ctx, 1, parameters, "the scale");
  const auto bias = channel_parameter<T>(ctx, 2, parameters, "the bias");
  const std::int64_t pixels = product(x, 2, x.size()), group_channels = channels / groups;
  const auto parameter = [&](std::int64_t b, std::int64_t i) {
    return at(parameters == channels ? b % groups * group_channels + i / pixels : b % groups);
  };
  return {normalize_blocks<T>(
      ctx, x[0] * groups, group_channels * pixels, [&](std::int64_t b, std::int64_t i) { return scale[parameter(b, i)]; },
      [&](std::int64_t b, std::int64_t i) { return bias[parameter(b, i)]; })};
}

// --- LayerNormalization ---

void infer_layer(InferContext& ctx) {
  infer_same(ctx);
  const TensorType& x = *ctx.inputs[0];
  for (std::size_t i = 1; i < ctx.outputs.size(); ++i) {
    ctx.outputs[i] = x;
    ctx.outputs[i].dtype = DataType::kFloat32;
    if (!x.has_rank) continue;
    const std::int64_t axis = checked_axis(ctx.node, ctx.node.get_int("axis", -1), std::ssize(x.dims));
    for (std::size_t d = at(axis); d < x.dims.size(); ++d) ctx.outputs[i].dims[d] = Dim{.size = 1, .symbol = {}};
  }
}

// Reads a tensor that broadcasts to `shape` (the normalised axes) as a flat array of that shape.
template <typename T>
std::vector<T> broadcast_to(const Node& node, const Tensor& tensor, const Shape& shape) {
  const auto data = tensor.data<T>();
  if (tensor.shape() == shape) return {data.begin(), data.end()};
  Shape source = tensor.shape();
  while (source.size() > shape.size() && source[0] == 1) source.erase(source.begin());
  bool fits = source.size() <= shape.size();
  if (fits) source.insert(source.begin(), shape.size() - source.size(), 1);
  for (std::size_t d = 0; fits && d < shape.size(); ++d) fits = source[d] == 1 || source[d] == shape[d];
  if (!fits) fail_node(node, "a parameter of shape {} does not broadcast to {}", to_string(tensor.shape()), to_string(shape));
  std::vector<T> result(at(element_count(shape)));
  for (std::size_t e = 0; e < result.size(); ++e) {
    std::int64_t rest = static_cast<std::int64_t>(e), offset = 0, scale = 1;
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (source[d] != 1) offset += rest % shape[d] * scale;
      rest /= shape[d];
      scale *= source[d];
    }
    result[e] = data[at(offset)];
  }
  return result;
}

template <typename T>
std::vector<Tensor> layer(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& x = ctx.input(0);
  const std::int64_t axis = checked_axis(node, node.get_int("axis", -1), x.rank());
  const Shape inner(x.shape().begin() + axis, x.shape().end());
  const std::int64_t count = element_count(inner), rows = product(x.shape(), 0, at(axis));
  const std::vector<T> scale = broadcast_to<T>(node, ctx.input(1), inner);
  const std::vector<T> bias = ctx.has_input(2) ? broadcast_to<T>(node, ctx.input(2), inner) : std::vector<T>(at(count), T{});
  const auto epsilon = static_cast<double>(node.get_float("epsilon", 1e-5F));
  Shape reduced = x.shape();
  std::fill(reduced.begin() + axis, reduced.end(), 1);
  Tensor y(x.type(), x.shape()), means(DataType::kFloat32, reduced), inv_deviations(DataType::kFloat32, reduced);
  const T* in = x.data<T>().data();
  T* out = y.mutable_data<T>().data();
  const auto mean_out = means.mutable_data<float>();
  const auto inv_out = inv_deviations.mutable_data<float>();
  parallel_for(ctx.pool, rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* src = in + r * count;
      T* dst = out + r * count;
      const Moments m = moments<T>(count, [&](std::int64_t i) { return src[i]; });
      const double inv_deviation = 1.0 / std::sqrt(m.variance + epsilon);
      mean_out[at(r)] = static_cast<float>(m.mean);
      inv_out[at(r)] = static_cast<float>(inv_deviation);
      const T mean = static_cast<T>(m.mean), factor = static_cast<T>(inv_deviation);
      for (std::int64_t i = 0; i < count; ++i) dst[i] = (src[i] - mean) * factor * scale[at(i)] + bias[at(i)];
    }
  });
  return {std::move(y), std::move(means), std::move(inv_deviations)};
}

// --- MeanVarianceNormalization, LpNormalization ---

// Elements that agree on all axes but `axes` form a set; gives each element's set.
std::vector<std::int64_t> reduction_sets(const Shape& shape, const std::vector<bool>& reduced, std::int64_t& sets) {
  sets = 1;
  for (std::size_t d = 0; d < shape.size(); ++d) sets *= reduced[d] ? 1 : shape[d];
  std::vector<std::int64_t> result(at(element_count(shape)));
  for (std::size_t e = 0; e < result.size(); ++e) {
    std::int64_t rest = static_cast<std::int64_t>(e), scale = 1;
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (!reduced[d]) {
        result[e] += rest % shape[d] * scale;
        scale *= shape[d];
      }
      rest /= shape[d];
    }
  }
  return result;
}

template <typename T>
std::vector<Tensor> mean_variance(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  std::vector<bool> reduced(x.shape().size(), false);
  for (const std::int64_t axis : ctx.node.get_ints("axes").value_or(std::vector<std::int64_t>{0, 2, 3}))
    reduced[at(checked_axis(ctx.node, axis, x.rank()))] = true;
  std::int64_t sets = 0;
  const auto set = reduction_sets(x.shape(), reduced, sets);
  std::vector<double> sum(at(sets), 0.0), squares(at(sets), 0.0);
  const auto in = x.data<T>();
  Tensor y(x.type(), x.shape());
  const auto out = y.mutable_data<T>();
  const double count = static_cast<double>(x.size()) / static_cast<double>(std::max<std::int64_t>(sets, 1));
  for (std::size_t e = 0; e < in.size(); ++e) sum[at(set[e])] += static_cast<double>(in[e]);
  for (std::size_t e = 0; e < in.size(); ++e) {
    const double d = static_cast<double>(in[e]) - sum[at(set[e])] / count;
    squares[at(set[e])] += d * d;
  }
  constexpr double kEpsilon = 1e-9;  // of ONNX's definition; added to the deviation, not the variance
  for (std::size_t e = 0; e < in.size(); ++e) {
    const std::size_t s = at(set[e]);
    out[e] = static_cast<T>((static_cast<double>(in[e]) - sum[s] / count) / (std::sqrt(squares[s] / count) + kEpsilon));
  }
  return {std::move(y)};
}

template <typename T>
std::vector<Tensor> lp(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::int64_t axis = checked_axis(ctx.node, ctx.node.get_int("axis", -1), x.rank()), p = ctx.node.get_int("p", 2);
  if (p != 1 && p != 2) fail_node(ctx.node, "p is {}, expected 1 or 2", p);
  const std::int64_t outer = product(x.shape(), 0, at(axis)), size = x.shape()[at(axis)],
                     inner = product(x.shape(), at(axis) + 1, x.shape().size());
  Tensor y(x.type(), x.shape());
  const auto in = x.data<T>();
  const auto out = y.mutable_data<T>();
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = 0; i < inner; ++i) {
      double norm = 0.0;
      const auto element = [&](std::int64_t a) { return at((o * size + a) * inner + i); };
      for (std::int64_t a = 0; a < size; ++a) {
        const auto v = static_cast<double>(in[element(a)]);
        norm += p == 1 ? std::abs(v) : v * v;
      }
      if (p == 2) norm = std::sqrt(norm);
      for (std::int64_t a = 0; a < size; ++a)
        out[element(a)] = norm == 0.0 ? T{} : static_cast<T>(static_cast<double>(in[element(a)]) / norm);
    }
  }
  return {std::move(y)};
}

// --- LRN ---

template <typename T>
std::vector<Tensor> local_response(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& x = ctx.input(0);
  require_rank(node, x, 2, "the input");
  const std::int64_t size = node.get_int("size", 0), channels = x.shape()[1], pixels = product(x.shape(), 2, x.shape().size());
  if (size < 1) fail_node(node, "size is {}, expected at least 1", size);
  const T alpha = static_cast<T>(node.get_float("alpha", 1e-4F)), beta = static_cast<T>(node.get_float("beta", 0.75F)),
          bias = static_cast<T>(node.get_float("bias", 1.0F));
  const std::int64_t before = (size - 1) / 2, after = size - 1 - before;
  Tensor y(x.type(), x.shape());
  const auto in = x.data<T>();
  const auto out = y.mutable_data<T>();
  for (std::int64_t n = 0; n < x.shape()[0]; ++n) {
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::int64_t first = std::max<std::int64_t>(c - before, 0),
                         last = after >= channels ? channels - 1 : std::min(c + after, channels - 1);
      for (std::int64_t p = 0; p < pixels; ++p) {
        T sum{};
        for (std::int64_t k = first; k <= last; ++k) {
          const T v = in[at((n * channels + k) * pixels + p)];
          sum += v * v;
        }
        const std::size_t e = at((n * channels + c) * pixels + p);
        out[e] = in[e] / std::pow(bias + alpha / static_cast<T>(size) * sum, beta);
      }
    }
  }
  return {std::move(y)};
}

constexpr std::string_view kWhy = "its mean and variance follow the data: they need a division and a root";

}  // namespace

const OpDef kBatchNormalization = {
    .name = "BatchNormalization",
    .min_inputs = 5,
    .max_inputs = 5,
    .max_outputs = 5,
    .infer = infer_batch,
    .evaluate = [](const EvalContext& ctx) { return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return batch<T>(c); }); },
    .rule = QuantRule::kFloat,
    .note = "is folded into a convolution where one stands before it; alone it stays float",
    .evaluate_nhwc = batch_nhwc};
const OpDef kInstanceNormalization = {
    .name = "InstanceNormalization",
    .min_inputs = 3,
    .max_inputs = 3,
    .infer = infer_same,
    .evaluate = [](const EvalContext& ctx) { return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return instance<T>(c); }); },
    .rule = QuantRule::kFloat,
    .note = kWhy};
const OpDef kGroupNormalization = {
    .name = "GroupNormalization",
    .min_inputs = 3,
    .max_inputs = 3,
    .infer = infer_same,
    .evaluate = [](const EvalContext& ctx) { return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return group<T>(c); }); },
    .rule = QuantRule::kFloat,
    .note = kWhy};
const OpDef kLayerNormalization = {
    .name = "LayerNormalization",
    .min_inputs = 2,
    .max_inputs = 3,
    .max_outputs = 3,
    .infer = infer_layer,
    .evaluate = [](const EvalContext& ctx) { return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return layer<T>(c); }); },
    .rule = QuantRule::kFloat,
    .note = kWhy};
const OpDef kMeanVarianceNormalization = {
    .name = "MeanVarianceNormalization",
    .infer = infer_same,
    .evaluate =
        [](const EvalContext& ctx) { return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return mean_variance<T>(c); }); },
    .rule = QuantRule::kFloat,
    .note = kWhy};
const OpDef kLpNormalization = {
    .name = "LpNormalization",
    .infer = infer_same,
    .evaluate = [](const EvalContext& ctx) { return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return lp<T>(c); }); },
    .rule = QuantRule::kFloat,
    .note = "its norm follows the data: it needs a division and a root"};
const OpDef kLrn = {
    .name = "LRN",
    .infer = infer_same,
    .evaluate =
        [](const EvalContext& ctx) { return evaluate_real(ctx, []<typename T>(const EvalContext& c) { return local_response<T>(c); }); },
    .rule = QuantRule::kFloat,
    .note = "divides by a power of a sum of squares"};

}  // namespace nibble::nn
