// Weights on grids that are given: learned in training, or chosen by a method.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "nibble/quantize.h"

namespace nibble {

// What the layer around the weights asks of their scales.
struct LayerNeeds {
  std::span<const double> bias;  // one an output channel, 0 where there is none
  float src_scale = 1, dst_scale = 1;
  RequantizeLaw law = RequantizeLaw::kFloat32;
  bool fine_bias = false;  // QuantScheme::fine_bias
};
// The pinned parameters of an integer layer's weights, with what keeps them safe: channels whose codes are all 0 take the widest scale of the layer, and
// a scale under which the bias would leave 32 bits, or the multiplier the law, is doubled until it does not. With `fine_bias`, codes of few bits become
// multiples of a power of two in 8 bits, and the scale a fraction of it, until a step of the bias is at most 1/64 of a step of the output.
// Blocks come through as they are. `weights` are float32 in the node's layout.
QuantParams settle_pinned(const Node& node, const Tensor& weights, const QuantParams& pinned, const LayerNeeds& needs, std::vector<std::string>& notes);

}  // namespace nibble
