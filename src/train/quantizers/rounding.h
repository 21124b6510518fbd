// Rounding whose gradient is another function's: the building blocks of the straight-through estimators.
#pragma once

#include <torch/types.h>

namespace nibble::train {

// Round half to even; the gradient passes unchanged.
torch::Tensor round_ste(const torch::Tensor& x);
// x in the forward pass; in the backward pass the gradient is multiplied by `factor`.
torch::Tensor scale_gradient(const torch::Tensor& x, double factor);
// `value` in the forward pass, the gradient of `path`: value + (path - path.detach()).
torch::Tensor with_gradient_of(const torch::Tensor& value, const torch::Tensor& path);

}  // namespace nibble::train
