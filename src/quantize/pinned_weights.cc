#include "quantize/pinned_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "numeric/quantize.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

// Half of the 32-bit range for the bias; the products have the other half.
constexpr double kBiasLimit = 1073741824.0;  // 2^30
constexpr float kFinestBiasStep = 1.0F / 64;
constexpr std::int64_t kLargestCode = 127;

// By scale: the largest distance of a code from its zero point.
std::vector<std::int64_t> largest_codes(const Node& node, const Tensor& weights, const QuantParams& params) {
  const WeightLayout layout = weight_layout(node, weights.shape());
  const auto values = weights.data<float>();
  std::vector<std::int64_t> largest(params.scale.size(), 0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t o = params.scale.size() == 1 ? 0 : static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i)));
    const std::int64_t q = quantize(values[i], params.scale[o], params.zero_point[o], params.qmin(), params.qmax());
    largest[o] = std::max(largest[o], std::abs(q - params.zero_point[o]));
  }
  return largest;
}

// Channels of zeros say nothing about their scale; their bias keeps the layer's resolution.
void fill_zero_channels(std::vector<float>& scale, const std::vector<std::int64_t>& largest, std::vector<std::string>& notes) {
  float widest = 0;
  for (std::size_t o = 0; o < scale.size(); ++o) widest = std::max(widest, largest[o] > 0 ? scale[o] : 0.0F);
  if (widest == 0) return;
  std::int64_t zeros = 0;
  for (std::size_t o = 0; o < scale.size(); ++o) {
    if (largest[o] > 0) continue;
    scale[o] = widest;
    ++zeros;
  }
  if (zeros > 0) notes.push_back(fmt::format("{} of {} output channels have no weights", zeros, scale.size()));
}

void widen(std::vector<float>& scale, const LayerNeeds& needs, std::vector<std::string>& notes) {
  const double least = needs.law == RequantizeLaw::kFixedPoint
                           ? std::ldexp(1.0, -31) * static_cast<double>(needs.dst_scale) / static_cast<double>(needs.src_scale)
                           : 0.0;
  std::int64_t widened = 0;
  for (std::size_t o = 0; o < scale.size(); ++o) {
    double bias = 0;
    for (std::size_t c = 0; c < needs.bias.size(); ++c) bias = scale.size() == 1 || c == o ? std::max(bias, std::abs(needs.bias[c])) : bias;
    const double needed = std::max(least, bias / (static_cast<double>(needs.src_scale) * kBiasLimit));
    if (static_cast<double>(scale[o]) >= needed) continue;
    while (static_cast<double>(scale[o]) < needed && scale[o] < std::numeric_limits<float>::max() / 2) scale[o] *= 2;
    ++widened;
  }
  if (widened > 0)
    notes.push_back(fmt::format("widened the pinned weight scale of {} of {} channels: their bias or their multiplier would have been too large or too small",
                                widened, scale.size()));
}

// 2^k by which codes may grow and scales shrink.
int bias_refinement(const QuantParams& params, const std::vector<std::int64_t>& largest, const LayerNeeds& needs) {
  if (!params.symmetric() || params.type.bit_width > 8) return 0;
  float widest = 0;
  float narrowest = std::numeric_limits<float>::max();
  std::int64_t code = 0;
  for (std::size_t o = 0; o < params.scale.size(); ++o) {
    widest = std::max(widest, params.scale[o]);
    narrowest = std::min(narrowest, params.scale[o]);
    code = std::max(code, largest[o]);
  }
  int k = 0;
  while (code << (k + 1) <= kLargestCode && k < 7 && std::ldexp(widest, -k) * needs.src_scale / needs.dst_scale > kFinestBiasStep &&
         std::ldexp(narrowest, -k - 1) >= std::numeric_limits<float>::min())
    ++k;
  return k;
}

}  // namespace

QuantParams settle_pinned(const Node& node, const Tensor& weights, const QuantParams& pinned, const LayerNeeds& needs, std::vector<std::string>& notes) {
  QuantParams params = pinned;
  if (std::holds_alternative<PerBlock>(params.granularity)) return params;
  const std::vector<std::int64_t> largest = largest_codes(node, weights, params);
  if (!params.per_tensor()) fill_zero_channels(params.scale, largest, notes);
  widen(params.scale, needs, notes);
  const bool has_bias = std::any_of(needs.bias.begin(), needs.bias.end(), [](double b) { return b != 0; });
  if (const int k = needs.fine_bias && has_bias ? bias_refinement(params, largest, needs) : 0; k > 0) {
    for (float& scale : params.scale) scale = std::ldexp(scale, -k);
    params.type.bit_width = 8;
    params.type.narrow_range = params.type.is_signed;
    notes.push_back(fmt::format("codes of the weights times {}, scale divided by it: the bias has finer steps", 1 << k));
  }
  return params;
}

}  // namespace nibble
