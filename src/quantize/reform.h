// Layers whose weights alone are given another form; the activations around them are float.
#pragma once

#include <string>

#include "nibble/quantize.h"
#include "quantize/weights.h"

namespace nibble {

// For reports: what such a layer computes with, and its weights ("weights int4 in blocks of 32").
const char* form_reason(NodeForm form);
std::string describe(const QuantParams& weights, NodeForm form);

// The scheme of weights that ConvInteger and MatMulInteger take: int8, around 0, per channel or per tensor.
TensorScheme dynamic_weights(TensorScheme scheme);

// Replaces node `n` (Conv, Gemm or MatMul) by what ONNX Runtime's quantize_dynamic writes: DynamicQuantizeLinear, ConvInteger or MatMulInteger, Cast, Mul
// by both scales, Add of the bias. The last of them has the node's name. `weights` are symmetric codes.
void make_dynamic(GraphEditor& editor, NodeId n, const std::string& weight_name, const QuantizedWeights& weights);

}  // namespace nibble
