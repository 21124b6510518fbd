// Learned step size quantization. The step is a parameter like any other; its gradient follows from round(x / s) s with a straight-through
// round: -x/s + rne(x/s) inside the range, -Qn or Qp outside, scaled by 1 / sqrt(N Qp) so that steps and weights move alike.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"
#include "train/quantizers/uniform.h"

namespace nibble::train {
namespace {

// clamp(rne(x / s), -Qn, Qp) s with Esser's equations 3 and 5 for gradients.
torch::Tensor quantize_with_step(const torch::Tensor& x, const torch::Tensor& step_size, const Levels& levels, double gradient_scale,
                                 const Estimator& estimator, const StepInfo& step) {
  return on_grid(x, scale_gradient(step_size.to(x.scalar_type()), gradient_scale), levels, estimator, step);
}

class LsqWeight : public WeightQuantizer {
 public:
  LsqWeight(const WeightSite& site, const MethodOptions& options)
      : site_(site),
        levels_(full_levels(site.bits)),
        estimator_(estimator_of(options)),
        by_deviation_(option(options, "start_by_deviation", 0) != 0) {}

  void initialize(const torch::Tensor& weight) override {
    torch::NoGradGuard guard;
    torch::Tensor start = 2 * mean_abs(weight, site_.per_channel) / std::sqrt(levels_.highest);
    if (by_deviation_) {  // LSQ+, eq. 8: the farther of mean - 3 deviations, mean + 3 deviations over 2^(b-1)
      const torch::Tensor rows = weight.reshape({site_.per_channel ? weight.size(0) : 1, -1});
      const torch::Tensor farther = rows.mean(1).abs() + 3 * rows.std(1, /*unbiased=*/false);
      start = (farther / -levels_.lowest).view(start.sizes());
    }
    assign(step_, start.clamp_min(kSmallestScale));
  }

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    const double elements = static_cast<double>(weight.numel()) / static_cast<double>(step_.numel());
    return quantize_with_step(weight, step_, levels_, 1 / std::sqrt(elements * levels_.highest), estimator_, step);
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    return {{(weight / step_).clamp(levels_.lowest, levels_.highest).round().to(torch::kInt32), to_vector(step_), site_.bits}};
  }

  std::vector<LearnedTensor> learned() override { return {{"step", step_}}; }
  void after_update(torch::Tensor&, const StepInfo&) override { keep_at_least(step_, kSmallestScale); }

 private:
  WeightSite site_;
  Levels levels_;
  Estimator estimator_;
  bool by_deviation_;
  torch::Tensor step_ = learned_scalar(1);
};

class LsqActivation : public ActivationQuantizer {
 public:
  LsqActivation(const ActivationSite& site, const MethodOptions& options)
      : site_(site), levels_(activation_levels(site)), estimator_(estimator_of(options)) {}

  void initialize(const torch::Tensor& x, const StepInfo& step) override {
    const double start = 2 * mean_abs_over_ranks(x, *step.reducer) / std::sqrt(levels_.highest);
    assign(step_, torch::full({1}, std::max(kSmallestScale, start), x.options()));
  }

  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override {
    if (!step.quantize) return x;
    // N: the features of one sample, so that the scale does not change with the batch.
    return quantize_with_step(x, step_, levels_, 1 / std::sqrt(features_of_sample(x) * levels_.highest), estimator_, step);
  }

  ActivationGrid grid() const override { return uniform_grid(site_, step_.item<double>()); }

  std::vector<LearnedTensor> learned() override { return {{"step", step_}}; }
  void after_update(const StepInfo&) override { keep_at_least(step_, kSmallestScale); }

 private:
  ActivationSite site_;
  Levels levels_;
  Estimator estimator_;
  torch::Tensor step_ = learned_scalar(1);
};

}  // namespace

const QuantizerRow kLsq = {
    .name = "lsq",
    .summary = "the step of every grid is learned",
    .source = "Esser et al. 2019, Learned Step Size Quantization, eq. 1-5",
    .options = "start_by_deviation=0",
    .weight_bits_min = 2,
    .weight_bits_max = 8,
    .activation_bits_min = 1,
    .activation_bits_max = 8,
    .takes_signed = true,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      return std::make_unique<LsqWeight>(site, options);
    },
    .make_activation = [](const ActivationSite& site, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      return std::make_unique<LsqActivation>(site, options);
    }};

}  // namespace nibble::train
