// The float network that a quantized one stands for.
#pragma once

#include "nibble/quantize.h"

namespace nibble {

enum class TwinConstants { kZeros, kDequantized };

// The same nodes and values without grids: QuantizeLinear, DequantizeLinear and Requantize become Identity, constants with parameters
// become reals, or zeros where only shapes matter. Values keep their ids.
Graph float_twin(const QuantizedGraph& model, TwinConstants constants);

}  // namespace nibble
