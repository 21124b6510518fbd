// Weights with a scale for each block of input channels, and how integer layers compute with them.
//
// A layer's accumulator holds whole multiples of one scale a channel. So the scales of a channel's blocks are m u: a unit u and a whole factor m for each
// block (the two levels of VS-Quant, Dai et al. 2021, Eq. 7). Codes times their block's factor are at most 127 in size: int8 weights with one scale a
// channel, which every kernel takes. In the file stands the product m u, exact in float32, as ONNX's blocked DequantizeLinear wants it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nibble/quantize.h"
#include "quantize/weights.h"

namespace nibble {

// The largest integer weight that blocks make.
inline constexpr std::int32_t kLargestBlockWeight = 127;

struct BlockUnits {
  std::vector<float> unit;           // by output channel
  std::vector<std::int32_t> factor;  // by index into QuantParams::scale
};
// Of parameters per block: the largest unit that makes every factor whole. nullopt where there is none with factors up to kLargestBlockWeight.
std::optional<BlockUnits> block_units(const Node& node, const Shape& weight_shape, const QuantParams& params);

// Why the weights of `node` cannot lie in blocks of `block_size`; empty if they can. Blocks need an axis of input channels with at least 16 of them
// (or one whole block): shorter ones would spend more bits on scales than on weights.
std::string why_no_blocks(const Node& node, const Shape& weight_shape, std::int64_t block_size);

// The largest factor that codes of a grid leave room for; below 2 blocks are of no use to an integer layer.
std::int32_t largest_block_factor(const TensorScheme& scheme);

// Parameters per block. `whole_factors`: for an integer layer; then `least_unit` has for each output channel what its unit may not fall below (empty: no
// bound).
QuantParams choose_block_params(const Node& node, const Tensor& weights, const TensorScheme& scheme, RequantizeLaw law, bool whole_factors,
                                const std::vector<double>& least_unit);

}  // namespace nibble
