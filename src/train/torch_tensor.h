// Tensors of the two worlds.
#pragma once

#include <torch/types.h>

#include "nibble/tensor.h"

namespace nibble::train {

// A copy of a float32 or float64 tensor. Error{kUnsupported} for any other type.
torch::Tensor to_torch(const Tensor& tensor, torch::Dtype dtype);
// A copy in row-major order, rounded once where `type` (float32 or float64) is narrower.
Tensor from_torch(const torch::Tensor& tensor, DataType type = DataType::kFloat32);

}  // namespace nibble::train
