// Ternary weight networks: D = .7 E|w|; w becomes sign(w) a where |w| > D, else 0, with a = E(|w| : |w| > D). The float weight gets the
// gradient of the ternary one.
#include <torch/torch.h>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"

namespace nibble::train {
namespace {

class TwnWeight : public WeightQuantizer {
 public:
  TwnWeight(const WeightSite& site, const MethodOptions& options) : site_(site), threshold_(option(options, "threshold", 0.7)) {}

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    const Ternary ternary = ternary_of(weight.detach());
    return with_gradient_of(ternary.codes * ternary.scale, weight);
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    const Ternary ternary = ternary_of(weight);
    return {{ternary.codes.to(torch::kInt32), to_vector(ternary.scale), 2}};
  }

 private:
  struct Ternary {
    torch::Tensor codes, scale;
  };
  Ternary ternary_of(const torch::Tensor& weight) const {
    const torch::Tensor size = weight.abs();
    const torch::Tensor kept = (size > threshold_ * mean_abs(weight, site_.per_channel)).to(weight.scalar_type());
    const torch::Tensor count = channel_sum(kept, site_.per_channel).clamp_min(1);
    return {weight.sign() * kept, (channel_sum(size * kept, site_.per_channel) / count).clamp_min(kSmallestScale)};
  }

  WeightSite site_;
  double threshold_;
};

}  // namespace

const QuantizerRow kTwn = {.name = "twn",
                           .summary = "ternary weights: -a, 0, a",
                           .source = "Li et al. 2016, Ternary Weight Networks, eq. 4-6",
                           .options = "threshold=0.7",
                           .weight_bits_min = 2,
                           .weight_bits_max = 2,
                           .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
                             return std::make_unique<TwnWeight>(site, options);
                           }};

}  // namespace nibble::train
