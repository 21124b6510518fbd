#include "quantize/weight_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "base/fail.h"
#include "numeric/qparams.h"
#include "numeric/quantize.h"
#include "quantize/integer_form.h"

namespace nibble {
namespace {

constexpr std::int64_t kFewestInputs = 16;
// Units are rounded to so many bits that a unit times a factor of up to 7 bits is exact in float32.
constexpr int kUnitBits = 16;

Shape scale_shape(const Shape& weight_shape, const PerBlock& block) {
  Shape shape = weight_shape;
  std::int64_t& extent = shape[static_cast<std::size_t>(block.axis)];
  extent = (extent + block.block_size - 1) / block.block_size;
  return shape;
}

// x as mantissa 2^exponent with an odd mantissa.
struct Dyadic {
  std::int64_t mantissa = 0;
  int exponent = 0;
};
Dyadic dyadic(float x) {
  int exponent = 0;
  auto mantissa = static_cast<std::int64_t>(std::ldexp(std::frexp(x, &exponent), 24));
  exponent -= 24;
  while (mantissa != 0 && mantissa % 2 == 0) {
    mantissa /= 2;
    ++exponent;
  }
  return {mantissa, exponent};
}

struct Extremes {
  double lo = 0, hi = 0;
};

// The range of a block's weights, drawn in where that makes the squared error of the codes smaller: a few bits are spent better on the many than on the
// one at the end. Up to 5 bits; more have no need of it.
Extremes best_range(std::span<const float> x, const TensorScheme& scheme, Scales scales) {
  Extremes whole;
  for (const float v : x) {
    whole.lo = std::min(whole.lo, static_cast<double>(v));
    whole.hi = std::max(whole.hi, static_cast<double>(v));
  }
  constexpr int kMostBits = 5;
  constexpr int kSteps = 11;
  constexpr double kStep = 0.05;
  if (scheme.type.bit_width > kMostBits || whole.hi - whole.lo <= 0 || scheme.codebook != Codebook::kNone) return whole;
  const auto qmin = static_cast<float>(scheme.type.qmin());
  const auto qmax = static_cast<float>(scheme.type.qmax());
  Extremes best = whole;
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kSteps; ++i) {
    for (int j = 0; j < (scheme.symmetric ? 1 : kSteps); ++j) {
      const Extremes r{whole.lo * (1 - kStep * (scheme.symmetric ? i : j)), whole.hi * (1 - kStep * i)};
      const ScaleZeroPoint q = choose_qparams(r.lo, r.hi, scheme.type, scheme.symmetric, scales);
      const auto zero = static_cast<float>(q.zero_point);
      const float inv_scale = 1.0F / q.scale;
      double error = 0;
      for (const float v : x) {
        const float code = std::clamp(std::nearbyintf(v * inv_scale) + zero, qmin, qmax);
        const double e = static_cast<double>((code - zero) * q.scale - v);
        error += e * e;
      }
      if (error < least) {
        least = error;
        best = r;
      }
    }
  }
  return best;
}

// Upwards to kUnitBits binary digits.
double round_up(double x) {
  int exponent = 0;
  const double mantissa = std::frexp(x, &exponent);
  return std::ldexp(std::ceil(std::ldexp(mantissa, kUnitBits)), exponent - kUnitBits);
}

}  // namespace

std::optional<BlockUnits> block_units(const Node& node, const Shape& weight_shape, const QuantParams& params) {
  const auto& block = std::get<PerBlock>(params.granularity);
  if (weight_input_axis(node, weight_shape) != block.axis) return std::nullopt;
  const Shape shape = scale_shape(weight_shape, block);
  const WeightLayout layout = weight_layout(node, shape);
  std::vector<std::vector<std::size_t>> blocks(static_cast<std::size_t>(layout.channels));
  for (std::size_t i = 0; i < params.scale.size(); ++i)
    blocks[static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i)))].push_back(i);

  BlockUnits result;
  result.factor.resize(params.scale.size());
  for (const auto& channel : blocks) {
    // All scales of the channel as integers times one power of two; their greatest common divisor is the unit.
    int lowest = 0;
    bool first = true;
    for (const std::size_t i : channel) {
      const Dyadic d = dyadic(params.scale[i]);
      lowest = first ? d.exponent : std::min(lowest, d.exponent);
      first = false;
    }
    std::int64_t divisor = 0;
    std::vector<std::int64_t> whole;
    for (const std::size_t i : channel) {
      const Dyadic d = dyadic(params.scale[i]);
      if (d.exponent - lowest > 38) return std::nullopt;
      whole.push_back(d.mantissa << (d.exponent - lowest));
      divisor = std::gcd(divisor, whole.back());
    }
    if (divisor == 0) return std::nullopt;
    const double unit = std::ldexp(static_cast<double>(divisor), lowest);
    result.unit.push_back(static_cast<float>(unit));
    if (static_cast<double>(result.unit.back()) != unit) return std::nullopt;
    for (std::size_t k = 0; k < channel.size(); ++k) {
      const std::size_t i = channel[k];
      const std::int64_t factor = whole[k] / divisor;
      if (factor > kLargestBlockWeight) return std::nullopt;
      result.factor[i] = static_cast<std::int32_t>(factor);
    }
  }
  return result;
}

std::string why_no_blocks(const Node& node, const Shape& weight_shape, std::int64_t block_size) {
  const auto axis = weight_input_axis(node, weight_shape);
  if (!axis) return "its output channels do not lie along one axis";
  const std::int64_t inputs = weight_shape[static_cast<std::size_t>(*axis)];
  if (inputs < std::min(kFewestInputs, block_size))
    return fmt::format("{} input channel{} {} too few for blocks of {}", inputs, inputs == 1 ? "" : "s", inputs == 1 ? "is" : "are", block_size);
  return {};
}

std::int32_t largest_block_factor(const TensorScheme& scheme) {
  if (scheme.type.bit_width > 7) return 1;
  const QuantType& type = scheme.type;
  const std::int64_t largest = scheme.symmetric && type.is_signed ? std::max(type.qmax(), -type.qmin()) : type.qmax() - type.qmin();
  return static_cast<std::int32_t>(kLargestBlockWeight / std::max<std::int64_t>(1, largest));
}

QuantParams choose_block_params(const Node& node, const Tensor& weights, const TensorScheme& scheme, RequantizeLaw law, bool whole_factors,
                                const std::vector<double>& least_unit) {
  const Shape& weight_shape = weights.shape();
  QuantParams params;
  params.type = scheme.type;
  const PerBlock block{.axis = weight_input_axis(node, weight_shape).value(), .block_size = scheme.block_size};
  params.granularity = block;
  const Shape shape = scale_shape(weight_shape, block);
  const auto count = static_cast<std::size_t>(element_count(shape));
  // The weights of each block, one behind the other.
  const auto values = weights.data<float>();
  std::vector<std::size_t> block_of(values.size());
  std::vector<std::size_t> first(count + 1, 0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    block_of[i] = scale_index(params, weight_shape, static_cast<std::int64_t>(i));
    ++first[block_of[i] + 1];
  }
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<float> sorted(values.size());
  std::vector<std::size_t> next(first.begin(), first.end() - 1);
  for (std::size_t i = 0; i < values.size(); ++i) sorted[next[block_of[i]]++] = values[i];
  std::vector<Extremes> range(count);
  for (std::size_t b = 0; b < count; ++b)
    range[b] = best_range(std::span(sorted).subspan(first[b], first[b + 1] - first[b]), scheme, scales_of(law));
  params.scale.resize(count);
  params.zero_point.assign(count, 0);
  const Scales scales = scales_of(law);
  double widest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    // 0: a block without weights, which takes whatever scale is near.
    params.scale[i] = range[i].hi - range[i].lo > 0 ? choose_qparams(range[i].lo, range[i].hi, scheme.type, scheme.symmetric, scales).scale : 0.0F;
    widest = std::max(widest, static_cast<double>(params.scale[i]));
  }
  if (widest == 0) widest = 1;
  const WeightLayout layout = weight_layout(node, shape);
  std::vector<double> largest(static_cast<std::size_t>(layout.channels), 0.0);
  const auto channel_of = [&](std::size_t i) { return static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i))); };
  for (std::size_t i = 0; i < count; ++i) largest[channel_of(i)] = std::max(largest[channel_of(i)], static_cast<double>(params.scale[i]));
  for (double& l : largest) l = l == 0 ? widest : l;

  if (whole_factors) {
    auto most = static_cast<double>(largest_block_factor(scheme));
    if (scales == Scales::kPowersOfTwo) most = std::exp2(std::floor(std::log2(most)));
    std::vector<double> unit(largest.size());
    for (std::size_t o = 0; o < unit.size(); ++o) {
      unit[o] = std::max(largest[o] / most, least_unit.empty() ? 0.0 : least_unit[o]);
      unit[o] = scales == Scales::kPowersOfTwo ? static_cast<double>(power_of_two_scale(static_cast<float>(unit[o]))) : round_up(unit[o]);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const double u = unit[channel_of(i)];
      const double factor = std::clamp(std::ceil(static_cast<double>(params.scale[i]) / u), 1.0, most);
      params.scale[i] = static_cast<float>(u * factor);
    }
  } else {
    for (std::size_t i = 0; i < count; ++i) params.scale[i] = params.scale[i] == 0.0F ? static_cast<float>(largest[channel_of(i)]) : params.scale[i];
  }
  for (std::size_t i = 0; i < count; ++i) {
    params.zero_point[i] = scheme.symmetric ? choose_qparams_symmetric(range[i].lo, range[i].hi, scheme.type).zero_point
                                            : affine_zero_point(range[i].lo, params.scale[i], scheme.type);
  }
  return params;
}

}  // namespace nibble
