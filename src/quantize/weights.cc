#include "quantize/weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "numeric/qparams.h"
#include "numeric/quantize.h"
#include "numeric/requantize.h"
#include "numeric/rounding.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"

namespace nibble {
namespace {

// Half of the 32-bit range for the bias; the products have the other half.
constexpr double kBiasLimit = 1073741824.0;  // 2^30

struct ChannelRange {
  double lo = 0, hi = 0;
};

}  // namespace

WeightLayout weight_layout(const Node& node, const Shape& shape) {
  WeightLayout layout;
  const std::int64_t size = element_count(shape);
  const auto product = [&](std::size_t from) {
    std::int64_t p = 1;
    for (std::size_t i = from; i < shape.size(); ++i) p *= shape[i];
    return p;
  };
  if (node.op_type == "Conv" || (node.op_type == "Gemm" && node.get_int("transB", 0) != 0)) {
    layout = {.channels = shape[0], .outer = 1, .extent = shape[0], .inner = product(1), .groups = 1, .reduction = product(1)};
  } else if (node.op_type == "ConvTranspose") {
    const std::int64_t groups = std::max<std::int64_t>(1, node.get_int("group", 1));
    layout = {.channels = shape[1] * groups, .outer = shape[0], .extent = shape[1], .inner = product(2), .groups = groups, .reduction = 0};
    layout.reduction = shape[0] / groups * layout.inner;
  } else {
    // Gemm without transB, MatMul: [..., K, N].
    const std::size_t last = shape.size() - 1;
    layout = {.channels = shape[last], .outer = size / std::max<std::int64_t>(1, shape[last]), .extent = shape[last], .inner = 1, .groups = 1,
              .reduction = shape[last - 1]};
  }
  return layout;
}

Tensor quantize_tensor(const Tensor& values, const QuantParams& params) {
  const auto in = values.data<float>();
  std::vector<std::int32_t> codes(in.size());
  quantize(in, values.shape(), params, codes);
  return cast(Tensor::from<std::int32_t>(values.shape(), codes), storage_type(params.type));
}

std::vector<std::int32_t> codes_of(const Tensor& tensor) {
  const Tensor wide = cast(tensor, DataType::kInt32);
  const auto data = wide.data<std::int32_t>();
  return {data.begin(), data.end()};
}

QuantizedWeights quantize_weights(const Node& node, const Tensor& weights, const Tensor* bias, const TensorScheme& scheme, const QuantParams* pinned,
                                  float src_scale, float dst_scale, RequantizeLaw law) {
  const auto values = weights.data<float>();
  const WeightLayout layout = weight_layout(node, weights.shape());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]))
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): its weights hold {} (element {}); repair the model", node.name, node.op_type, values[i], i);
  }
  std::vector<double> biases(static_cast<std::size_t>(layout.channels), 0.0);
  if (bias != nullptr) {
    const auto b = bias->data<float>();
    if (b.size() != 1 && static_cast<std::int64_t>(b.size()) != layout.channels)
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): its bias has {} elements for {} output channels", node.name, node.op_type, b.size(), layout.channels);
    for (std::size_t o = 0; o < biases.size(); ++o) {
      biases[o] = static_cast<double>(b[b.size() == 1 ? 0 : o]);
      if (!std::isfinite(biases[o]))
        fail(ErrorCode::kInvalidModel, "node '{}' ({}): its bias holds {} (channel {}); repair the model", node.name, node.op_type, biases[o], o);
    }
  }

  QuantizedWeights result;
  const auto axis = weight_channel_axis(node, weights.shape());
  if (pinned != nullptr) {
    const auto* channel = std::get_if<PerChannel>(&pinned->granularity);
    const std::int64_t expected = channel != nullptr ? layout.channels : 1;
    if ((channel != nullptr && axis != channel->axis) || std::holds_alternative<PerBlock>(pinned->granularity) ||
        static_cast<std::int64_t>(pinned->scale.size()) != expected)
      fail(ErrorCode::kInvalidData, "node '{}' ({}): the pinned parameters of its weights {} must have one scale, or one for each of {} output channels{}",
           node.name, node.op_type, to_string(weights.shape()), layout.channels, axis ? fmt::format(" (axis {})", *axis) : std::string());
    result.params = *pinned;
  } else {
    result.params.type = scheme.type;
    const bool per_channel = scheme.per_channel && axis.has_value();
    if (scheme.per_channel && !axis) result.notes.push_back("weights per tensor: its output channels do not lie along one axis");
    result.params.granularity = per_channel ? Granularity(PerChannel{*axis}) : Granularity(PerTensor{});
    const std::size_t count = per_channel ? static_cast<std::size_t>(layout.channels) : 1;
    std::vector<ChannelRange> ranges(count);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ChannelRange& r = ranges[per_channel ? static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i))) : 0];
      r.lo = std::min(r.lo, static_cast<double>(values[i]));
      r.hi = std::max(r.hi, static_cast<double>(values[i]));
    }
    // A channel without weights has no scale of its own: it takes the widest of the others, so that its bias keeps the layer's resolution.
    ChannelRange widest;
    for (const ChannelRange& r : ranges) {
      if (r.hi - r.lo > widest.hi - widest.lo) widest = r;
    }
    std::int64_t dead = 0;
    result.params.scale.resize(count);
    result.params.zero_point.resize(count);
    for (std::size_t o = 0; o < count; ++o) {
      const bool empty = ranges[o].hi - ranges[o].lo <= 0;
      dead += empty ? 1 : 0;
      const ChannelRange& r = empty ? widest : ranges[o];
      const ScaleZeroPoint q = choose_qparams(r.lo, r.hi, scheme.type, scheme.symmetric, scales_of(law));
      result.params.scale[o] = q.scale;
      result.params.zero_point[o] = q.zero_point;
    }
    if (dead > 0) result.notes.push_back(fmt::format("{} of {} output channels have no weights", dead, count));

    // Widen what would overflow the bias or leave the law.
    std::int64_t widened_bias = 0;
    std::int64_t widened_law = 0;
    for (std::size_t o = 0; o < count; ++o) {
      double largest = 0;
      if (per_channel) {
        largest = std::abs(biases[o]);
      } else {
        for (const double b : biases) largest = std::max(largest, std::abs(b));
      }
      const double needed = largest / (static_cast<double>(src_scale) * kBiasLimit);
      const auto widen_to = [&](double scale) {
        // The zero point of an affine grid moves with the scale.
        const double factor = scale / static_cast<double>(result.params.scale[o]);
        const ChannelRange& r = ranges[per_channel ? o : 0];
        const ScaleZeroPoint q = choose_qparams(r.lo * factor, r.hi * factor, scheme.type, scheme.symmetric, scales_of(law));
        result.params.scale[o] = std::max(q.scale, static_cast<float>(scale));
        if (law == RequantizeLaw::kShift) result.params.scale[o] = power_of_two_scale(result.params.scale[o]);
        result.params.zero_point[o] = q.zero_point;
      };
      if (needed > static_cast<double>(result.params.scale[o])) {
        widen_to(needed * 1.0000002);
        ++widened_bias;
      }
      if (law == RequantizeLaw::kFixedPoint) {
        const double smallest = std::ldexp(1.0, -31) * static_cast<double>(dst_scale) / static_cast<double>(src_scale);
        if (static_cast<double>(result.params.scale[o]) < smallest) {
          widen_to(smallest * 1.0000002);
          ++widened_law;
        }
      }
    }
    if (widened_bias > 0)
      result.notes.push_back(fmt::format("widened the weight scale of {} of {} channels: their int32 bias would have overflowed", widened_bias, count));
    if (widened_law > 0)
      result.notes.push_back(fmt::format("widened the weight scale of {} of {} channels: law fixed_point cannot hold their multiplier", widened_law, count));
  }
  result.codes = quantize_tensor(weights, result.params);

  if (bias != nullptr) {
    const bool per_channel = !result.params.per_tensor();
    result.bias_params.type = {.bit_width = 32, .is_signed = true, .narrow_range = false};
    result.bias_params.granularity = per_channel ? Granularity(PerChannel{0}) : Granularity(PerTensor{});
    result.bias_params.scale.clear();
    for (const float scale : result.params.scale) result.bias_params.scale.push_back(src_scale * scale);
    result.bias_params.zero_point.assign(result.params.scale.size(), 0);
    std::vector<std::int32_t> codes(biases.size());
    std::int64_t clipped = 0;
    for (std::size_t o = 0; o < biases.size(); ++o) {
      const double scale = static_cast<double>(result.bias_params.scale[per_channel ? o : 0]);
      const double q = rne(biases[o] / scale);
      clipped += std::abs(q) > 2 * kBiasLimit - 1 ? 1 : 0;
      codes[o] = static_cast<std::int32_t>(std::clamp(q, -2 * kBiasLimit, 2 * kBiasLimit - 1));
    }
    if (clipped > 0) result.notes.push_back(fmt::format("{} biases do not fit into 32 bits on the pinned scales and were clipped", clipped));
    result.bias = Tensor::from<std::int32_t>({layout.channels}, codes);
  }
  return result;
}

}  // namespace nibble
