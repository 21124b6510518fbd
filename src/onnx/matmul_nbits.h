// com.microsoft's MatMulNBits: y = A dequantize(B) (+ bias), B [N, K] in blocks along K.
//   inputs A, B uint8 [N, blocks, block_size / 2] (two codes a byte, the first in the low half), scales [N blocks], zero points uint8 [N, ceil(blocks / 2)]
//   packed likewise (8 where absent), g_idx, bias [N]; attributes K, N, bits, block_size
#pragma once

#include <optional>

#include "nibble/graph.h"
#include "nibble/quant_params.h"

namespace nibble {

// What the operator takes: 4 bits, blocks along the rows of a [K, N] matrix (transposed: the columns of [N, K]) of a power of two from 16 up.
bool fits_matmul_nbits(const Tensor& codes, const QuantParams& params, bool transposed);

struct NBitsOperands {
  Tensor b, scales;
  std::optional<Tensor> zero_points;
  std::int64_t k = 0, n = 0, block_size = 32;
};
NBitsOperands to_matmul_nbits(const Tensor& codes, const QuantParams& params, bool transposed);

// Every MatMulNBits of 4 bits with constant weights as DequantizeLinear in blocks and MatMul, or Gemm where it has a bias and a matrix comes in. Others
// stay. Throws Error{kInvalidModel} naming a node whose operands do not fit its attributes.
void expand_matmul_nbits(Graph& graph);

}  // namespace nibble
