// Trained quantization thresholds: every scale is a power of two, s = 2^ceil(log2 t) / 2^(b-1) (unsigned: / 2^b) with learned log2 t; the
// ceiling passes the gradient. The gradient of log2 t is s ln 2 times LSQ's gradient of the step. The paper normalizes it and uses Adam;
// here it is scaled like LSQ's, in relative terms: by 1 / (s^2 sqrt(N Qp)).
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"
#include "train/quantizers/uniform.h"

namespace nibble::train {
namespace {

constexpr double kLowest = -18, kHighest = 60;  // log2 of thresholds: 8 bits below, scales are above kSmallestScale

// `shift`: log2 of the levels that the threshold spans.
torch::Tensor scale_of(const torch::Tensor& log_threshold, double shift) { return (log_threshold.ceil() - shift).exp2(); }

torch::Tensor quantize(const torch::Tensor& x, const torch::Tensor& log_threshold, const Levels& levels, double shift, double elements,
                       const Estimator& estimator, const StepInfo& step) {
  const torch::Tensor exponent = log_threshold.to(x.scalar_type());
  const torch::Tensor fixed = scale_of(exponent.detach(), shift);
  const torch::Tensor path = exponent * (1 / (fixed.square() * std::sqrt(elements * levels.highest)));
  const torch::Tensor s = (with_gradient_of(exponent.ceil(), path) - shift).exp2();
  return on_grid(x, s, levels, estimator, step);
}

void keep_within(torch::Tensor& log_threshold) {
  torch::NoGradGuard guard;
  log_threshold.clamp_(kLowest, kHighest);
}

class TqtWeight : public WeightQuantizer {
 public:
  TqtWeight(const WeightSite& site, const MethodOptions& options)
      : site_(site), levels_(full_levels(site.bits)), estimator_(estimator_of(options)) {}

  // The paper's start for weights: 3 deviations.
  void initialize(const torch::Tensor& weight) override {
    torch::NoGradGuard guard;
    const torch::Tensor deviation = mean_abs(weight.square(), site_.per_channel).sqrt();
    assign(log_threshold_, (3 * deviation).clamp_min(std::exp2(kLowest)).log2());
  }
  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    const double elements = static_cast<double>(weight.numel()) / static_cast<double>(log_threshold_.numel());
    return quantize(weight, log_threshold_, levels_, site_.bits - 1, elements, estimator_, step);
  }
  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    const torch::Tensor s = scale_of(log_threshold_, site_.bits - 1);
    return {{(weight / s).round().clamp(levels_.lowest, levels_.highest).to(torch::kInt32), to_vector(s), site_.bits}};
  }
  std::vector<LearnedTensor> learned() override { return {{"log_threshold", log_threshold_}}; }
  void after_update(torch::Tensor&, const StepInfo&) override { keep_within(log_threshold_); }

 private:
  WeightSite site_;
  Levels levels_;
  Estimator estimator_;
  torch::Tensor log_threshold_ = learned_scalar(0);
};

class TqtActivation : public ActivationQuantizer {
 public:
  TqtActivation(const ActivationSite& site, const MethodOptions& options)
      : site_(site),
        levels_(activation_levels(site)),
        shift_(site.is_signed ? site.bits - 1 : site.bits),
        estimator_(estimator_of(options)) {}

  void initialize(const torch::Tensor& x, const StepInfo& step) override {
    const double clip = clip_of_least_error(x, levels_, *step.reducer);
    assign(log_threshold_, torch::full({1}, std::max(kLowest, std::log2(clip)), x.options()));
  }
  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override {
    return step.quantize ? quantize(x, log_threshold_, levels_, shift_, features_of_sample(x), estimator_, step) : x;
  }
  ActivationGrid grid() const override {
    torch::NoGradGuard guard;
    return uniform_grid(site_, scale_of(log_threshold_, shift_).item<double>());
  }
  std::vector<LearnedTensor> learned() override { return {{"log_threshold", log_threshold_}}; }
  void after_update(const StepInfo&) override { keep_within(log_threshold_); }

 private:
  ActivationSite site_;
  Levels levels_;
  double shift_;
  Estimator estimator_;
  torch::Tensor log_threshold_ = learned_scalar(0);
};

}  // namespace

const QuantizerRow kTqt = {
    .name = "tqt",
    .summary = "scales are learned powers of two",
    .source = "Jain et al. 2019, Trained Quantization Thresholds, eq. 4-8",
    .options = "",
    .weight_bits_min = 2,
    .weight_bits_max = 8,
    .activation_bits_min = 1,
    .activation_bits_max = 8,
    .takes_signed = true,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      return std::make_unique<TqtWeight>(site, options);
    },
    .make_activation = [](const ActivationSite& site, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      return std::make_unique<TqtActivation>(site, options);
    }};

}  // namespace nibble::train
