// The wide sums of the simulation: convolutions, matrix products and averages on exact integers.
#pragma once

#include <cstdint>
#include <vector>

#include "nibble/quantize.h"

namespace nibble {

// Accumulators of a compute node, in the ONNX layout of its output. The output channel of element i is i / inner % channels.
struct Accumulators {
  Shape shape;
  std::int64_t channels = 1;
  std::int64_t inner = 1;
  std::vector<std::int64_t> values;
};
// acc = sum (qx - zx)(qw - zw) + bias (Eq. 12). `x` holds codes. Every product and sum is an integer below 2^53, so double is exact.
Accumulators simulate_conv(const QuantizedGraph& model, const Node& node, const Tensor& x);
Accumulators simulate_conv_transpose(const QuantizedGraph& model, const Node& node, const Tensor& x);
// Gemm, and MatMul with NumPy's broadcasting.
Accumulators simulate_matmul(const QuantizedGraph& model, const Node& node, const Tensor& a, const Tensor& b);

// sum (qx - zx) of each window and how many elements it has (Eq. 23).
struct Averages {
  Shape shape;
  std::vector<std::int64_t> sums;
  std::vector<std::int64_t> counts;
};
Averages simulate_average(const QuantizedGraph& model, const Node& node, const Tensor& x);

}  // namespace nibble
