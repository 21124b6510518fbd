// Learned step size quantization. The step is a parameter like any other; its gradient follows from round(x / s) s with a straight-through
// round: -x/s + rne(x/s) inside the range, -Qn or Qp outside, scaled by 1 / sqrt(N Qp) so that steps and weights move alike.
#include <torch/torch.h>

#include <cmath>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"

namespace nibble::train {
namespace {

struct Levels {
  double lowest, highest;
};

// clamp(rne(x / s), -Qn, Qp) s: autograd gives Esser's equations 3 and 5 through the straight-through round.
torch::Tensor quantize_with_step(const torch::Tensor& x, const torch::Tensor& step, const Levels& levels, double gradient_scale) {
  const torch::Tensor s = scale_gradient(step, gradient_scale);
  return round_ste((x / s).clamp(levels.lowest, levels.highest)) * s;
}

// A step may not reach 0: the update is undone down to a floor.
void keep_positive(torch::Tensor& step) {
  torch::NoGradGuard guard;
  step.clamp_min_(1e-8);
}

std::vector<double> to_vector(const torch::Tensor& tensor) {
  const torch::Tensor values = tensor.detach().to(torch::kFloat64).contiguous().view({-1});
  return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
}

class LsqWeight : public WeightQuantizer {
 public:
  LsqWeight(const WeightSite& site, const MethodOptions&)
      : site_(site), levels_{-std::ldexp(1.0, site.bits - 1), std::ldexp(1.0, site.bits - 1) - 1} {}

  void initialize(const torch::Tensor& weight) override {
    torch::NoGradGuard guard;
    std::vector<std::int64_t> shape(static_cast<std::size_t>(weight.dim()), 1);
    torch::Tensor mean = weight.abs().mean().view(shape);
    if (site_.per_channel) {
      shape[0] = weight.size(0);
      mean = weight.abs().view({weight.size(0), -1}).mean(1).view(shape);
    }
    step_ = (2 * mean / std::sqrt(levels_.highest)).clamp_min(1e-8).clone().set_requires_grad(true);
  }

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    const double elements = static_cast<double>(weight.numel()) / static_cast<double>(step_.numel());
    return quantize_with_step(weight, step_, levels_, 1 / std::sqrt(elements * levels_.highest));
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    return {{(weight / step_).clamp(levels_.lowest, levels_.highest).round().to(torch::kInt32), to_vector(step_), site_.bits}};
  }

  std::vector<LearnedTensor> learned() override { return {{"step", step_}}; }
  void after_update(torch::Tensor&, const StepInfo&) override { keep_positive(step_); }

 private:
  WeightSite site_;
  Levels levels_;
  torch::Tensor step_;
};

class LsqActivation : public ActivationQuantizer {
 public:
  LsqActivation(const ActivationSite& site, const MethodOptions&)
      : site_(site),
        levels_{site.is_signed ? -std::ldexp(1.0, site.bits - 1) : 0.0,
                site.is_signed ? std::ldexp(1.0, site.bits - 1) - 1 : std::ldexp(1.0, site.bits) - 1} {}

  void initialize(const torch::Tensor& x, const StepInfo& step) override {
    torch::NoGradGuard guard;
    torch::Tensor sums = torch::stack({x.abs().sum(), torch::full({}, static_cast<double>(x.numel()), x.options())}).to(torch::kFloat64);
    step.reducer->sum(sums);
    const double mean = sums[0].item<double>() / std::max(1.0, sums[1].item<double>());
    step_ = torch::full({1}, std::max(1e-8, 2 * mean / std::sqrt(levels_.highest)), x.options()).set_requires_grad(true);
  }

  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override {
    if (!step.quantize) return x;
    // N: the features of one sample, so that the scale does not change with the batch.
    const double features = static_cast<double>(x.numel()) / static_cast<double>(std::max<std::int64_t>(1, x.size(0)));
    return quantize_with_step(x, step_, levels_, 1 / std::sqrt(features * levels_.highest));
  }

  ActivationGrid grid() const override {
    QuantParams params;
    params.type = {.bit_width = site_.bits, .is_signed = site_.is_signed};
    params.scale = {static_cast<float>(step_.item<double>())};
    return {.uniform = params};
  }

  std::vector<LearnedTensor> learned() override { return {{"step", step_}}; }
  void after_update(const StepInfo&) override { keep_positive(step_); }

 private:
  ActivationSite site_;
  Levels levels_;
  torch::Tensor step_;
};

}  // namespace

const QuantizerRow kLsq = {
    .name = "lsq",
    .summary = "the step of every grid is learned",
    .source = "Esser et al. 2019, Learned Step Size Quantization, eq. 1-5",
    .options = "",
    .weight_bits_min = 2,
    .weight_bits_max = 8,
    .activation_bits_min = 1,
    .activation_bits_max = 8,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      return std::make_unique<LsqWeight>(site, options);
    },
    .make_activation = [](const ActivationSite& site, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      return std::make_unique<LsqActivation>(site, options);
    }};

}  // namespace nibble::train
