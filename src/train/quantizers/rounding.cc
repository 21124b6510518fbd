#include "train/quantizers/rounding.h"

#include <torch/torch.h>

namespace nibble::train {
namespace {

class RoundSte : public torch::autograd::Function<RoundSte> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext*, const torch::Tensor& x) { return x.round(); }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list gradients) {
    return {gradients[0]};
  }
};

class ScaleGradient : public torch::autograd::Function<ScaleGradient> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x, double factor) {
    context->saved_data["factor"] = factor;
    return x.view_as(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    return {gradients[0] * context->saved_data["factor"].toDouble(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor round_ste(const torch::Tensor& x) { return RoundSte::apply(x); }
torch::Tensor scale_gradient(const torch::Tensor& x, double factor) { return ScaleGradient::apply(x, factor); }
torch::Tensor with_gradient_of(const torch::Tensor& value, const torch::Tensor& path) { return value.detach() + (path - path.detach()); }

}  // namespace nibble::train
