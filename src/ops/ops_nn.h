// The operators of neural networks proper: convolutions, matrix products, pools, normalisations, resizing, softmax, quantization.
#pragma once

#include <span>

#include "ops/op.h"

namespace nibble {
std::span<const OpDef* const> nn_ops();
}  // namespace nibble
