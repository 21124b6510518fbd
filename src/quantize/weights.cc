#include "quantize/weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "numeric/qparams.h"
#include "numeric/quantize.h"
#include "numeric/requantize.h"
#include "numeric/rounding.h"
#include "quantize/codebook.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "quantize/pinned_weights.h"
#include "quantize/weight_blocks.h"

namespace nibble {
namespace {

// Half of the 32-bit range for the bias; the products have the other half.
constexpr double kBiasLimit = 1073741824.0;  // 2^30

struct ChannelRange {
  double lo = 0, hi = 0;
};

void check_finite(const Node& node, std::span<const float> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]))
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): its weights hold {} (element {}); repair the model", node.name, node.op_type, values[i], i);
  }
}

// What the scheme means for this layer: where blocks or channels make no sense, something coarser, said in a note.
TensorScheme settled(const Node& node, const Shape& shape, TensorScheme scheme, bool integer_layer, std::vector<std::string>& notes) {
  if (scheme.codebook != Codebook::kNone) {
    scheme.type = {.bit_width = 8, .is_signed = true, .narrow_range = true};
    scheme.symmetric = true;
  }
  if (scheme.block_size > 0) {
    std::string why = why_no_blocks(node, shape, scheme.block_size);
    if (why.empty() && integer_layer && largest_block_factor(scheme) < 2)
      why = fmt::format("blocks of {}-bit weights leave no room for a factor in 8 bits", scheme.type.bit_width);
    if (!why.empty()) {
      scheme.block_size = 0;
      scheme.per_channel = true;
      // First layers and depthwise ones hold few weights, and few bits without blocks cost them most.
      const bool keep_more = !integer_layer && scheme.codebook == Codebook::kNone && scheme.type.bit_width < 8;
      if (keep_more) scheme.type.bit_width = 8;
      notes.push_back(fmt::format("weights per channel{}: {}", keep_more ? " in 8 bits" : "", why));
    }
  }
  if (scheme.block_size == 0 && scheme.per_channel && !weight_channel_axis(node, shape)) {
    scheme.per_channel = false;
    notes.push_back("weights per tensor: its output channels do not lie along one axis");
  }
  return scheme;
}

// Per tensor or per channel: the range of each scale's weights.
std::vector<ChannelRange> ranges_of(std::span<const float> values, const WeightLayout& layout, bool per_channel) {
  std::vector<ChannelRange> ranges(per_channel ? static_cast<std::size_t>(layout.channels) : 1);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ChannelRange& r = ranges[per_channel ? static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i))) : 0];
    r.lo = std::min(r.lo, static_cast<double>(values[i]));
    r.hi = std::max(r.hi, static_cast<double>(values[i]));
  }
  return ranges;
}

// A channel without weights has no scale of its own: it takes the widest of the others, so that its bias keeps the layer's resolution.
void fill_dead_channels(std::vector<ChannelRange>& ranges, std::vector<std::string>& notes) {
  ChannelRange widest;
  for (const ChannelRange& r : ranges) {
    if (r.hi - r.lo > widest.hi - widest.lo) widest = r;
  }
  std::int64_t dead = 0;
  for (ChannelRange& r : ranges) {
    if (r.hi - r.lo > 0) continue;
    r = widest;
    ++dead;
  }
  if (dead > 0) notes.push_back(fmt::format("{} of {} output channels have no weights", dead, ranges.size()));
}

// The grid of weights in [lo, hi]. For powers of two the largest weight stands for the largest power.
ScaleZeroPoint weight_grid(double lo, double hi, const TensorScheme& scheme, RequantizeLaw law) {
  ScaleZeroPoint q = choose_qparams(lo, hi, scheme.type, scheme.symmetric, scales_of(law));
  const double largest = std::max(-lo, hi);
  if (scheme.codebook == Codebook::kPowersOfTwo && law != RequantizeLaw::kShift && largest > 0) {
    // Weights from 3/4 of a power up go to it, so the largest may lie beyond the largest power by as much as others lie beyond theirs.
    q.scale = std::max(static_cast<float>(largest / kLargestPower * 0.875), std::numeric_limits<float>::min());
  } else if (scheme.codebook == Codebook::kPowersOfTwo) {
    q.scale *= 2;
  }
  return q;
}

// float32 weights -> codes: the nearest of the grid, or of the codebook.
Tensor weight_codes(const Tensor& weights, const QuantParams& params, const TensorScheme& scheme, std::vector<std::string>& notes) {
  if (scheme.codebook == Codebook::kNone) return quantize_tensor(weights, params);
  const auto values = weights.data<float>();
  std::vector<float> x(values.size());
  std::vector<float> importance(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float scale = params.scale[scale_index(params, weights.shape(), static_cast<std::int64_t>(i))];
    x[i] = values[i] / scale;
    importance[i] = scale * scale;
  }
  const std::vector<std::int8_t> book = make_codebook(scheme.codebook, scheme.type.bit_width, x, importance);
  std::vector<std::int8_t> codes(values.size());
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = nearest_entry(book, x[i]);
  notes.push_back(fmt::format("weights take {} values", book.size()));
  return Tensor::from<std::int8_t>(weights.shape(), codes);
}

// Pinned parameters must fit the weights.
void check_pinned(const Node& node, const Shape& shape, const WeightLayout& layout, const QuantParams& pinned, bool integer_layer) {
  const auto axis = weight_channel_axis(node, shape);
  if (const auto* block = std::get_if<PerBlock>(&pinned.granularity)) {
    if (block->axis != weight_input_axis(node, shape) || block->block_size < 1 ||
        scale_count(pinned.granularity, shape) != static_cast<std::int64_t>(pinned.scale.size()) || pinned.zero_point.size() != pinned.scale.size())
      fail(ErrorCode::kInvalidData, "node '{}' ({}): the pinned block scales of its weights {} do not lie along its input channels", node.name,
           node.op_type, to_string(shape));
    if (integer_layer && !block_units(node, shape, pinned))
      fail(ErrorCode::kInvalidData, "node '{}' ({}): the pinned block scales of its weights have no common unit with codes within +-{}", node.name,
           node.op_type, kLargestBlockWeight);
    return;
  }
  const auto* channel = std::get_if<PerChannel>(&pinned.granularity);
  const std::int64_t expected = channel != nullptr ? layout.channels : 1;
  if ((channel != nullptr && axis != channel->axis) || static_cast<std::int64_t>(pinned.scale.size()) != expected)
    fail(ErrorCode::kInvalidData, "node '{}' ({}): the pinned parameters of its weights {} must have one scale, or one for each of {} output channels{}",
         node.name, node.op_type, to_string(shape), layout.channels, axis ? fmt::format(" (axis {})", *axis) : std::string());
}

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

std::vector<float> channel_scales(const Node& node, const Shape& weight_shape, const QuantParams& params) {
  if (!std::holds_alternative<PerBlock>(params.granularity)) return params.scale;
  const auto units = block_units(node, weight_shape, params);
  if (!units)
    fail(ErrorCode::kInvalidModel, "node '{}' ({}): the scales of its weights' blocks have no common unit with codes within +-{}; leave it in float",
         node.name, node.op_type, kLargestBlockWeight);
  return units->unit;
}

std::vector<std::int32_t> centred_codes(const Node& node, const Tensor& codes, const QuantParams& params) {
  std::vector<std::int32_t> values = codes_of(codes);
  if (const auto* block = std::get_if<PerBlock>(&params.granularity)) {
    const auto units = block_units(node, codes.shape(), params);
    if (!units) channel_scales(node, codes.shape(), params);  // throws
    // Row-major over the axes before the block's, the axis itself, and what lies behind.
    const Shape& shape = codes.shape();
    std::int64_t inner = 1;
    for (std::size_t d = static_cast<std::size_t>(block->axis) + 1; d < shape.size(); ++d) inner *= shape[d];
    const std::int64_t extent = shape[static_cast<std::size_t>(block->axis)];
    const std::int64_t blocks = (extent + block->block_size - 1) / block->block_size;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto flat = static_cast<std::int64_t>(i);
      const std::int64_t at = flat / inner % extent / block->block_size;
      const auto k = static_cast<std::size_t>((flat / inner / extent * blocks + at) * inner + flat % inner);
      values[i] = (values[i] - params.zero_point[k]) * units->factor[k];
      if (std::abs(values[i]) > kLargestBlockWeight)
        fail(ErrorCode::kInvalidModel, "node '{}' ({}): the scales of its weights' blocks make a weight of {} units, beyond +-{}; leave it in float", node.name,
             node.op_type, values[i], kLargestBlockWeight);
    }
    return values;
  }
  const WeightLayout layout = weight_layout(node, codes.shape());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t o = params.per_tensor() ? 0 : static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i)));
    values[i] -= params.zero_point[o % params.zero_point.size()];
  }
  return values;
}

QuantizedWeights quantize_weights_alone(const Node& node, const Tensor& weights, const TensorScheme& scheme, const QuantParams* pinned) {
  const auto values = weights.data<float>();
  check_finite(node, values);
  QuantizedWeights result;
  const WeightLayout layout = weight_layout(node, weights.shape());
  if (pinned != nullptr) {
    check_pinned(node, weights.shape(), layout, *pinned, false);
    result.params = *pinned;
    result.codes = quantize_tensor(weights, result.params);
    return result;
  }
  const TensorScheme s = settled(node, weights.shape(), scheme, false, result.notes);
  if (s.block_size > 0) {
    result.params = choose_block_params(node, weights, s, RequantizeLaw::kFloat32, false, {});
  } else {
    std::vector<ChannelRange> ranges = ranges_of(values, layout, s.per_channel);
    fill_dead_channels(ranges, result.notes);
    result.params = {.type = s.type, .granularity = PerTensor{}, .scale = {}, .zero_point = {}};
    if (s.per_channel) result.params.granularity = PerChannel{weight_channel_axis(node, weights.shape()).value()};
    for (const ChannelRange& r : ranges) {
      const ScaleZeroPoint q = weight_grid(r.lo, r.hi, s, RequantizeLaw::kFloat32);
      result.params.scale.push_back(q.scale);
      result.params.zero_point.push_back(q.zero_point);
    }
  }
  TensorScheme codes = s;
  codes.type.bit_width = scheme.type.bit_width;
  result.codes = weight_codes(weights, result.params, codes, result.notes);
  return result;
}

QuantizedWeights quantize_weights(const Node& node, const Tensor& weights, const Tensor* bias, const TensorScheme& scheme, const QuantParams* pinned,
                                  float src_scale, float dst_scale, RequantizeLaw law, bool fine_bias) {
  const auto values = weights.data<float>();
  const WeightLayout layout = weight_layout(node, weights.shape());
  check_finite(node, values);
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
  TensorScheme codes_scheme;  // of the codes: pinned parameters have no codebook
  if (pinned != nullptr) {
    check_pinned(node, weights.shape(), layout, *pinned, true);
    const LayerNeeds needs{.bias = biases, .src_scale = src_scale, .dst_scale = dst_scale, .law = law, .fine_bias = fine_bias};
    result.params = settle_pinned(node, weights, *pinned, needs, result.notes);
  } else {
    const TensorScheme s = settled(node, weights.shape(), scheme, true, result.notes);
    codes_scheme = s;
    codes_scheme.type.bit_width = scheme.type.bit_width;
    // What would overflow the bias or leave the law asks for a scale of at least so much.
    const auto needed_for_bias = [&](double largest) { return largest / (static_cast<double>(src_scale) * kBiasLimit); };
    const double needed_by_law =
        law == RequantizeLaw::kFixedPoint ? std::ldexp(1.0, -31) * static_cast<double>(dst_scale) / static_cast<double>(src_scale) : 0.0;
    std::int64_t widened_bias = 0;
    std::int64_t widened_law = 0;
    std::size_t count = 1;
    if (s.block_size > 0) {
      count = biases.size();
      const QuantParams free = choose_block_params(node, weights, s, law, true, {});
      const std::vector<float> unit = channel_scales(node, weights.shape(), free);
      std::vector<double> least(count, 0.0);
      for (std::size_t o = 0; o < count; ++o) {
        const double bias_needs = needed_for_bias(std::abs(biases[o]));
        widened_bias += bias_needs > static_cast<double>(unit[o]) ? 1 : 0;
        widened_law += needed_by_law > static_cast<double>(unit[o]) ? 1 : 0;
        least[o] = std::max(bias_needs, needed_by_law) * 1.0000002;
      }
      result.params = choose_block_params(node, weights, s, law, true, least);
    } else {
      std::vector<ChannelRange> ranges = ranges_of(values, layout, s.per_channel);
      fill_dead_channels(ranges, result.notes);
      count = ranges.size();
      result.params.type = s.type;
      result.params.granularity = s.per_channel ? Granularity(PerChannel{weight_channel_axis(node, weights.shape()).value()}) : Granularity(PerTensor{});
      result.params.scale.resize(count);
      result.params.zero_point.resize(count);
      for (std::size_t o = 0; o < count; ++o) {
        const auto set = [&](const ScaleZeroPoint& q) {
          result.params.scale[o] = q.scale;
          result.params.zero_point[o] = q.zero_point;
        };
        set(weight_grid(ranges[o].lo, ranges[o].hi, s, law));
        const auto widen_to = [&](double scale) {
          // The zero point of an affine grid moves with the scale.
          const double factor = scale / static_cast<double>(result.params.scale[o]);
          ScaleZeroPoint q = weight_grid(ranges[o].lo * factor, ranges[o].hi * factor, s, law);
          q.scale = std::max(q.scale, static_cast<float>(scale));
          if (law == RequantizeLaw::kShift) q.scale = power_of_two_scale(q.scale);
          set(q);
        };
        double largest = 0;
        if (s.per_channel) {
          largest = std::abs(biases[o]);
        } else {
          for (const double b : biases) largest = std::max(largest, std::abs(b));
        }
        if (const double needed = needed_for_bias(largest); needed > static_cast<double>(result.params.scale[o])) {
          widen_to(needed * 1.0000002);
          ++widened_bias;
        }
        if (static_cast<double>(result.params.scale[o]) < needed_by_law) {
          widen_to(needed_by_law * 1.0000002);
          ++widened_law;
        }
      }
    }
    if (widened_bias > 0)
      result.notes.push_back(fmt::format("widened the weight scale of {} of {} channels: their int32 bias would have overflowed", widened_bias, count));
    if (widened_law > 0)
      result.notes.push_back(fmt::format("widened the weight scale of {} of {} channels: law fixed_point cannot hold their multiplier", widened_law, count));
  }
  result.codes = weight_codes(weights, result.params, codes_scheme, result.notes);

  if (bias != nullptr) {
    const bool per_channel = !result.params.per_tensor();
    result.bias_params.type = {.bit_width = 32, .is_signed = true, .narrow_range = false};
    result.bias_params.granularity = per_channel ? Granularity(PerChannel{0}) : Granularity(PerTensor{});
    result.bias_params.scale.clear();
    for (const float scale : channel_scales(node, weights.shape(), result.params)) result.bias_params.scale.push_back(src_scale * scale);
    result.bias_params.zero_point.assign(result.bias_params.scale.size(), 0);
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
