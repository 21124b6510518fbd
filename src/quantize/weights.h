// Weights and biases of one compute node, as integers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nibble/quantize.h"

namespace nibble {

// Output channels of a compute node's weights, and how the flat weight tensor falls into them.
struct WeightLayout {
  std::int64_t channels = 1;   // output channels (all groups)
  std::int64_t outer = 1;      // flat index = (o * channel_extent + c) * inner + i, for ConvTranspose with groups see channel_of()
  std::int64_t extent = 1;
  std::int64_t inner = 1;
  std::int64_t groups = 1;     // ConvTranspose only: channel = group of the input row * extent + c
  std::int64_t reduction = 1;  // products summed for one output

  std::int64_t channel_of(std::int64_t flat) const {
    const std::int64_t c = flat / inner % extent;
    return groups == 1 ? c : flat / (inner * extent) / (outer / groups) * extent + c;
  }
};
WeightLayout weight_layout(const Node& node, const Shape& weight_shape);

// float32 tensor -> codes on a grid, in the grid's storage type.
Tensor quantize_tensor(const Tensor& values, const QuantParams& params);
// Codes -> int32, any storage type.
std::vector<std::int32_t> codes_of(const Tensor& tensor);

// What an integer layer computes with: its weights around 0, minus their zero points and times their block's factor, and the scale of each output channel
// (one for all per tensor) that its multipliers are made of. Throws Error{kInvalidModel} where the blocks' scales have no common unit, or make weights
// beyond +-127 of it.
std::vector<std::int32_t> centred_codes(const Node& node, const Tensor& codes, const QuantParams& params);
std::vector<float> channel_scales(const Node& node, const Shape& weight_shape, const QuantParams& params);

struct QuantizedWeights {
  Tensor codes;
  QuantParams params;
  std::optional<Tensor> bias;  // int32 codes, one a channel
  QuantParams bias_params;     // scale src_scale * weight scale, zero point 0
  std::vector<std::string> notes;
};
// Chooses the weight grid by `scheme` (or takes `pinned`, quantize/pinned_weights.h), quantizes weights and bias. Where a bias would not fit into 32 bits together with the
// accumulator, or a multiplier would leave what the law can hold, that channel's weight scale is widened, with a note: a bias that wraps or saturates
// silently costs other tools whole networks. `bias` may be null; it is broadcast to the channels.
QuantizedWeights quantize_weights(const Node& node, const Tensor& weights, const Tensor* bias, const TensorScheme& scheme, const QuantParams* pinned,
                                  float src_scale, float dst_scale, RequantizeLaw law, bool fine_bias = false);

// The same for weights that are dequantized again: no bias, no law, any scales.
QuantizedWeights quantize_weights_alone(const Node& node, const Tensor& weights, const TensorScheme& scheme, const QuantParams* pinned);

}  // namespace nibble
