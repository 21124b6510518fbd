// nibble.BaseProducts: a layer whose activations or weights are sums, y = op(x_1 + ... + x_N, w_1 + ... + w_M) + bias, with each of them on a grid of its
// own. Attributes: those of the layer; "op_type" (Conv, ConvTranspose, Gemm, MatMul), "activations" (N), "weights" (M). Inputs: x_1 .. x_N, w_1 .. w_M, and
// the bias where there is one.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "ops/op.h"

namespace nibble {

inline bool is_base_products(const Node& node) { return node.domain == "nibble" && node.op_type == "BaseProducts"; }

struct BaseOperands {
  std::size_t activations = 1, weights = 1;
  std::optional<std::size_t> bias;  // position among the inputs
  ValueId activation(const Node& node, std::size_t i) const { return node.input(i); }
  ValueId weight(const Node& node, std::size_t j) const { return node.input(activations + j); }
};
// Throws Error{kInvalidModel} where the attributes and the inputs do not fit together.
BaseOperands base_operands(const Node& node);

// The operator that computes: of a BaseProducts node the one it is made from.
std::string layer_op(const Node& node);

// The layer of x_i and w_j alone: without bias, without a fused activation.
Node product_of(const Node& node, std::size_t i, std::size_t j);

std::span<const OpDef> base_products_ops();

}  // namespace nibble
