#include "train/quantizers/rounding.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "train/quantizers/support.h"

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

class SignSte : public torch::autograd::Function<SignSte> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x, double cut) {
    context->save_for_backward({x.abs() <= cut});
    return sign_of(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    return {gradients[0] * context->get_saved_variables()[0], torch::Tensor()};
  }
};

class RoundSoft : public torch::autograd::Function<RoundSoft> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x, double sharpness) {
    context->save_for_backward({x});
    context->saved_data["sharpness"] = sharpness;
    return x.round();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const double k = context->saved_data["sharpness"].toDouble();
    const torch::Tensor x = context->get_saved_variables()[0];
    const torch::Tensor stair = ((x - x.floor() - 0.5) * k).tanh();
    return {gradients[0] * (1 - stair.square()) * (k / (2 * std::tanh(k / 2))), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor round_ste(const torch::Tensor& x) { return RoundSte::apply(x); }
torch::Tensor scale_gradient(const torch::Tensor& x, double factor) { return ScaleGradient::apply(x, factor); }
torch::Tensor sign_ste(const torch::Tensor& x, double cut) { return SignSte::apply(x, cut); }
torch::Tensor with_gradient_of(const torch::Tensor& value, const torch::Tensor& path) { return value.detach() + (path - path.detach()); }

Estimator estimator_of(const MethodOptions& options) {
  Estimator estimator;
  estimator.soft = option(options, "estimator_dsq", 0) != 0;
  estimator.alpha_start = std::clamp(option(options, "dsq_alpha_start", estimator.alpha_start), 1e-3, 0.99);
  estimator.alpha_end = std::clamp(option(options, "dsq_alpha_end", estimator.alpha_end), 1e-3, 0.99);
  return estimator;
}

double stair_sharpness(const Estimator& estimator, const StepInfo& step) {
  const double steps = static_cast<double>(std::max<std::int64_t>(1, step.epochs * step.steps_per_epoch));
  const double progress = std::clamp(static_cast<double>(step.step) / steps, 0.0, 1.0);
  const double alpha = estimator.alpha_start * std::pow(estimator.alpha_end / estimator.alpha_start, progress);
  return 2 * std::atanh(1 - alpha);
}

torch::Tensor round_by(const torch::Tensor& x, const Estimator& estimator, const StepInfo& step) {
  return estimator.soft && step.training ? RoundSoft::apply(x, stair_sharpness(estimator, step)) : round_ste(x);
}

}  // namespace nibble::train
