// Rounding whose gradient is another function's: the building blocks of the straight-through estimators.
#pragma once

#include <torch/types.h>

#include "nibble/methods.h"
#include "train/quantizer.h"

namespace nibble::train {

// Round half to even; the gradient passes unchanged.
torch::Tensor round_ste(const torch::Tensor& x);
// x in the forward pass; in the backward pass the gradient is multiplied by `factor`.
torch::Tensor scale_gradient(const torch::Tensor& x, double factor);
// `value` in the forward pass, the gradient of `path`: value + (path - path.detach()).
torch::Tensor with_gradient_of(const torch::Tensor& value, const torch::Tensor& path);

// +1 where x >= 0, else -1; the gradient passes where |x| <= cut.
torch::Tensor sign_ste(const torch::Tensor& x, double cut);

// What the backward pass takes for the derivative of rounding. The forward pass rounds half to even under all of them.
// Straight-through: 1. Soft staircase (Gong et al. 2019, DSQ, eq. 4-8), for codes (interval d = 1): between two codes, with u = x -
// floor(x)
// - 1/2, the stair (tanh(k u) / tanh(k / 2) + 1) / 2 and so the derivative k (1 - tanh^2(k u)) / (2 tanh(k / 2)). The paper's hardness
// a = 1 - tanh(k / 2) falls geometrically from `alpha_start` to `alpha_end` over the run: the stair sharpens.
struct Estimator {
  bool soft = false;
  double alpha_start = 0.4, alpha_end = 0.1;
};
// Options estimator_dsq=1, dsq_alpha_start, dsq_alpha_end.
Estimator estimator_of(const MethodOptions& options);
// k of the soft staircase at this step.
double stair_sharpness(const Estimator& estimator, const StepInfo& step);
torch::Tensor round_by(const torch::Tensor& x, const Estimator& estimator, const StepInfo& step);

}  // namespace nibble::train
