// Weights whose width has no ONNX type, and weights that take few values: the operator UnpackBits of nibble's own domain (docs/formats.md).
//
//   codes = UnpackBits(data, table?) [bits, signed, shape]
//
// data: uint8, codes of `bits` bits one behind the other (numeric/bit_packing.h); without a table they are the result, int8 or uint8; with one (1-D, int8 or
// uint8, at most 2^bits entries) they are unsigned indices into it. What follows is a standard DequantizeLinear.
#pragma once

#include <optional>

#include "nibble/graph.h"
#include "nibble/quant_params.h"

namespace nibble {

inline constexpr const char* kUnpackBits = "UnpackBits";

struct PackedWeights {
  Tensor data;                  // uint8, 1-D
  std::optional<Tensor> table;  // 1-D, the type of the codes
  int bits = 8;
  bool is_signed = true;
};
// The smallest form of the codes of a tensor of 8-bit codes; nullopt where it is not smaller than ONNX's own types (4 bits up to bit_width 4, 8 beyond).
std::optional<PackedWeights> pack_weights(const Tensor& codes, const QuantType& type);

// The codes that an UnpackBits node stands for. Throws Error{kInvalidModel} naming the node: wrong attributes, data of the wrong size, an index beyond
// the table. nullopt where its inputs are no constants.
std::optional<Tensor> unpack_weights(const Graph& graph, const Node& node);

}  // namespace nibble
