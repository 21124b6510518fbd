// Per-channel bit allocation (Banner et al. 2018, "Post training 4-bit quantization of convolutional networks for rapid-deployment" (ACIQ),
// section 4): with the layer's mean bits fixed, the error is least where channel c with range alpha_c has
//     2^b_c = alpha_c^(2/3) / sum alpha^(2/3) * n * 2^M
// levels, n channels, M bits in the mean. Bits are whole numbers from 2 to 8 here; where rounding them exceeds the mean, the channel that
// is farthest above its ideal gives one up.
//
// In integers a channel with fewer bits is one whose codes reach less far: all channels share one storage type, each has its scale.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "methods/layerwise.h"
#include "methods/method_list.h"
#include "numeric/quantize.h"

namespace nibble {
namespace {

constexpr int kFewest = 2, kMost = 8;

}  // namespace

std::vector<int> allocate_bits(std::span<const double> ranges, int mean_bits) {
  double sum = 0;
  for (const double r : ranges) sum += std::cbrt(r * r);
  std::vector<double> ideal(ranges.size(), static_cast<double>(mean_bits));
  std::vector<int> bits(ranges.size(), mean_bits);
  if (!(sum > 0)) return bits;
  const double levels = static_cast<double>(ranges.size()) * std::ldexp(1.0, mean_bits);
  std::int64_t total = 0;
  for (std::size_t c = 0; c < ranges.size(); ++c) {
    ideal[c] = ranges[c] > 0 ? std::log2(std::cbrt(ranges[c] * ranges[c]) / sum * levels) : static_cast<double>(kFewest);
    bits[c] = static_cast<int>(std::clamp(std::nearbyint(ideal[c]), static_cast<double>(kFewest), static_cast<double>(kMost)));
    total += bits[c];
  }
  while (total > static_cast<std::int64_t>(ranges.size()) * mean_bits) {
    std::size_t giver = ranges.size();
    for (std::size_t c = 0; c < ranges.size(); ++c) {
      if (bits[c] <= kFewest) continue;
      if (giver == ranges.size() || bits[c] - ideal[c] > bits[giver] - ideal[giver]) giver = c;
    }
    if (giver == ranges.size()) break;
    --bits[giver];
    --total;
  }
  return bits;
}

void allocate_channel_bits(MethodState& state, const MethodInputs& inputs, const MethodOptions&) {
  std::vector<std::string> notes;
  for_each_layer_without_data(state, inputs, "bit allocation", [&](const LayerTurn& turn, ThreadPool&) {
    LayerEdit edit;
    const QuantParams& base = turn.quantized.params;
    if (!std::holds_alternative<PerChannel>(base.granularity) || !base.symmetric() || !base.type.is_signed ||
        base.type.bit_width >= kMost) {
      notes.push_back(fmt::format("aciq_bits: '{}' is left alone: it needs symmetric weights per channel of fewer than {} bits",
                                  turn.node.name, kMost));
      return edit;
    }
    std::vector<double> ranges(base.scale.size(), 0.0);
    const auto w = turn.weights().data<float>();
    for (std::size_t i = 0; i < w.size(); ++i) {
      double& r = ranges[scale_index(base, turn.weights().shape(), static_cast<std::int64_t>(i))];
      r = std::max(r, std::abs(static_cast<double>(w[i])));
    }
    const std::vector<int> bits = allocate_bits(ranges, base.type.bit_width);
    QuantParams grid = base;
    grid.type.bit_width = *std::max_element(bits.begin(), bits.end());
    double mean = 0;
    for (std::size_t c = 0; c < bits.size(); ++c) {
      const double reach = std::ldexp(1.0, bits[c] - 1) - 1;
      // A scale that quantize() widened for its bias stays at least that.
      const double widened = static_cast<double>(base.scale[c]) * static_cast<double>(base.qmax()) > ranges[c] * 1.001
                                 ? static_cast<double>(base.scale[c])
                                 : 0.0;
      if (ranges[c] > 0) grid.scale[c] = static_cast<float>(std::max(ranges[c] / reach, widened));
      mean += static_cast<double>(bits[c]) / static_cast<double>(bits.size());
    }
    notes.push_back(
        fmt::format("aciq_bits: '{}' has {:.2f} bits a weight in the mean, {} at most", turn.node.name, mean, grid.type.bit_width));
    edit.grid = std::move(grid);
    return edit;
  });
  state.notes.insert(state.notes.end(), notes.begin(), notes.end());
}

}  // namespace nibble
