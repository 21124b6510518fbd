// The numbers that integer nodes are computed with: multipliers, grids, tables. The simulation and the runtime both start from these, so that
// what differs between them is the computation alone.
#pragma once

#include <cstdint>
#include <vector>

#include "nibble/quantize.h"
#include "numeric/requantize.h"

namespace nibble {

// The output grid of an integer node, tightened by its fused activation (Eq. 20).
OutputGrid output_grid(const QuantParams& params, const Node& node);

// Multipliers of a compute node (Conv, ConvTranspose, Gemm, MatMul): one, or one an output channel. Throws Error{kUnsupported} naming the node
// where the law cannot hold one.
std::vector<Requantizer> compute_requantizers(const QuantizedGraph& model, const Node& node);

// Add, Sub.
Adder node_adder(const QuantizedGraph& model, const Node& node);
// Mul.
Requantizer mul_requantizer(const QuantizedGraph& model, const Node& node);
// Average over `count` elements: M = f32(sx / f32(sy count)) under float32, sx / (sy count) exactly under the others (Eq. 23).
Requantizer average_requantizer(const QuantizedGraph& model, const Node& node, std::int64_t count);

// The table of a unary node, or of a Requantize node: entry i is the output for the input code qmin + i (Eq. 24: Q(f(DQ(q)))).
std::vector<std::int32_t> unary_table(const QuantizedGraph& model, const Node& node);

// The code of a real constant on a grid (Pad's value).
std::int32_t quantize_scalar(float x, const QuantParams& params);

// The widest activations and weights that the kernels take; nodes with wider ones are computed in plain loops, in 64 bits where they must be.
inline constexpr int kKernelBits = 8;
bool is_wide(const QuantizedGraph& model, const Node& node);

// Storage type of codes on a grid: int8/uint8 up to 8 bits, int16/uint16 up to 16, int32 beyond.
DataType storage_type(const QuantType& type);

}  // namespace nibble
