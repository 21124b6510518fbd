// Batch normalization over all ranks.
#pragma once

#include <torch/types.h>

#include "train/quantizer.h"

namespace nibble::train {

struct BatchNorm {
  torch::Tensor gamma, beta;  // parameters
  torch::Tensor mean, var;    // running statistics, updated in place
  double momentum = 0.9;      // ONNX: running = momentum * running + (1 - momentum) * batch's
  double epsilon = 1e-5;
};

// y = gamma (x - mean) / sqrt(var + epsilon) + beta; x is [batch, channels, ...].
// `batch_statistics`: mean and (biased) variance of the batch of all ranks, through which gradients flow; the running ones follow where
// `update` (with the unbiased variance, as torch's own). Otherwise the running ones, without a gradient.
torch::Tensor batch_norm(const torch::Tensor& x, BatchNorm& norm, bool batch_statistics, bool update, Reducer& reducer);

}  // namespace nibble::train
