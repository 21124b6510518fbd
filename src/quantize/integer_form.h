// Which nodes can be computed on integers, and which of their operands are activations, weights and biases.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nibble/graph.h"
#include "nibble/quantize.h"
#include "ops/op.h"

namespace nibble {

// Positions among a node's inputs.
struct Operands {
  std::vector<std::size_t> activations;
  std::optional<std::size_t> weights;
  std::optional<std::size_t> bias;
};
// (The weights and the bias of a BaseProducts node are several: base_operands().)
// The real operands of a node whose rule is kCompute, kArithmetic, kTied or kUnaryTable. `is_constant(value)` tells initializers.
Operands operands_of(const Graph& graph, const Node& node);

// Why `node` cannot be an integer node, judged by its op, attributes, constants and `types` (by ValueId) alone; nullopt if it can.
std::optional<std::string> why_not_integer(const Graph& graph, const Node& node, std::span<const TensorType> types);

// Axis of the output channels of a compute node's weights; nullopt where per-channel grids make no sense (batched constants, grouped ConvTranspose).
std::optional<std::int64_t> weight_channel_axis(const Node& node, const Shape& weight_shape);

// Axis of the input channels of a compute node's weights, along which blocks lie; nullopt where weight_channel_axis() gives none.
std::optional<std::int64_t> weight_input_axis(const Node& node, const Shape& weight_shape);

// True for operators whose output shares the grid of their inputs (kTied; resizing, whose integer form is the nearest neighbour).
bool is_tied(const Node& node);

// Min or Max, whose integer form bounds a value by a constant (docs/arithmetic.md, Eq. 27): element by element, for each channel, anyhow.
bool is_bound(const Node& node);
// The constant one of its two inputs; nullopt where it is no such node, or none or both are constant.
std::optional<std::size_t> bound_operand(const Graph& graph, const Node& node);

}  // namespace nibble
