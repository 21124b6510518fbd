// XNOR-Net: each filter is a sign times its mean absolute weight, W ~ a B, a = E|W|; activations are signs, and with k=1 the layer's
// outputs are multiplied by K, the box-filtered mean of |x| over the channels (the layer does it: ActivationGrid::scales_by_magnitude). The
// gradient is the derivative of a(W) sign(W), the sign's cut at |w| <= 1: sign(w_i) / n sum_j g_j sign(w_j) + g_i a 1[|w_i| <= 1].
//
// a is small, so the second part is: the gradient is divided by the layer's mean a, that SGD moves weights as it would float ones (the
// paper's own programs multiply it by n under Adam, which does not see it). gradient_scale=1 is the formula.
#include <torch/torch.h>

#include <algorithm>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"

namespace nibble::train {
namespace {

class XnorWeight : public WeightQuantizer {
 public:
  XnorWeight(const WeightSite&, const MethodOptions& options) : gradient_scale_(option(options, "gradient_scale", 0)) {}

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    const double mean = std::max(kSmallestScale, weight.detach().abs().mean().item<double>());
    const torch::Tensor path = scale_gradient(weight, gradient_scale_ > 0 ? gradient_scale_ : 1 / mean);
    return sign_ste(path, 1) * scale(path);
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    return {{sign_of(weight).to(torch::kInt32), to_vector(scale(weight)), 2}};
  }

 private:
  static torch::Tensor scale(const torch::Tensor& weight) { return mean_abs(weight, true).clamp_min(kSmallestScale); }

  double gradient_scale_;
};

class XnorActivation : public ActivationQuantizer {
 public:
  explicit XnorActivation(const MethodOptions& options) : scales_(option(options, "k", 0) != 0) {}

  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override { return step.quantize ? sign_ste(x, 1) : x; }
  ActivationGrid grid() const override { return {.uniform = {}, .signs = {{.threshold = 0, .scale = 1}}, .scales_by_magnitude = scales_}; }

 private:
  bool scales_;
};

}  // namespace

const QuantizerRow kXnor = {
    .name = "xnor",
    .summary = "weights of one bit with a scale a filter, activations of one bit; k=1 scales by the input's magnitude",
    .source = "Rastegari et al. 2016, XNOR-Net, sections 3.1 and 3.2",
    .options = "k=0,gradient_scale=0",
    .weight_bits_min = 1,
    .weight_bits_max = 1,
    .activation_bits_min = 1,
    .activation_bits_max = 1,
    .takes_signed = true,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      return std::make_unique<XnorWeight>(site, options);
    },
    .make_activation = [](const ActivationSite&, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      return std::make_unique<XnorActivation>(options);
    }};

}  // namespace nibble::train
