// Trained ternary quantization: w becomes Wp where w > D, -Wn where w < -D, else 0, with D = t max |w| and learned Wp, Wn, one pair a
// layer. Wp and Wn get the sums of the gradients over their sets; the float weight gets Wp, 1 or Wn times the ternary one's.
//
// The sums grow with the layer: they are scaled by 1 / sqrt(elements), as LSQ's steps are, so that the weights' learning rate fits.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"

namespace nibble::train {
namespace {

class TernaryFunction : public torch::autograd::Function<TernaryFunction> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& weight, const torch::Tensor& wp,
                               const torch::Tensor& wn, double threshold) {
    const torch::Tensor above = weight > threshold, below = weight < -threshold;
    context->save_for_backward({above, below, wp, wn});
    return above * wp - below * wn;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const torch::Tensor g = gradients[0];
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const torch::Tensor above = saved[0], below = saved[1], wp = saved[2], wn = saved[3];
    const torch::Tensor to_weight = torch::where(above, g * wp, torch::where(below, g * wn, g));
    return {to_weight, (g * above).sum().view({1}), -(g * below).sum().view({1}), torch::Tensor()};
  }
};

class TtqWeight : public WeightQuantizer {
 public:
  TtqWeight(const WeightSite& site, const MethodOptions& options)
      : threshold_(option(options, "threshold", 0.05)), gradient_scale_(option(options, "gradient_scale", 0)) {
    (void)site;
  }

  // The means of the two sets: what the trained weights already say.
  void initialize(const torch::Tensor& weight) override {
    torch::NoGradGuard guard;
    const double limit = limit_of(weight);
    const auto mean = [&](const torch::Tensor& set) {
      return (weight.abs() * set).sum().div(set.sum().clamp_min(1)).clamp_min(kSmallestScale).view({1}).to(weight.scalar_type());
    };
    assign(wp_, mean(weight > limit));
    assign(wn_, mean(weight < -limit));
  }

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    const double scale =
        gradient_scale_ > 0 ? gradient_scale_ : 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(1, weight.numel())));
    return TernaryFunction::apply(weight, scale_gradient(wp_, scale).to(weight.scalar_type()),
                                  scale_gradient(wn_, scale).to(weight.scalar_type()), limit_of(weight));
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    const double limit = limit_of(weight);
    return {{(weight > limit).to(torch::kInt32), to_vector(wp_), 2}, {-(weight < -limit).to(torch::kInt32), to_vector(wn_), 2}};
  }

  std::vector<LearnedTensor> learned() override { return {{"wp", wp_}, {"wn", wn_}}; }
  void after_update(torch::Tensor&, const StepInfo&) override {
    keep_at_least(wp_, kSmallestScale);
    keep_at_least(wn_, kSmallestScale);
  }

 private:
  double limit_of(const torch::Tensor& weight) const { return threshold_ * weight.detach().abs().max().item<double>(); }

  double threshold_, gradient_scale_;
  torch::Tensor wp_ = learned_scalar(1), wn_ = learned_scalar(1);
};

}  // namespace

const QuantizerRow kTtq = {.name = "ttq",
                           .summary = "ternary weights with two learned scales: -Wn, 0, Wp",
                           .source = "Zhu et al. 2016, Trained Ternary Quantization, eq. 6-9",
                           .options = "threshold=0.05,gradient_scale=0",
                           .weight_bits_min = 2,
                           .weight_bits_max = 2,
                           .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
                             return std::make_unique<TtqWeight>(site, options);
                           }};

}  // namespace nibble::train
