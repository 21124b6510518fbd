// PACT: activations are cut at a learned level. y = (|x| - |x - a| + a) / 2 is x cut to [0, a]; it is rounded to the 2^k - 1 steps of [0,
// a]. The level's gradient is that of the cut alone: 1 where x >= a, else 0; weight decay pulls it down against the loss that pushes it up.
#include <torch/torch.h>

#include <algorithm>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"
#include "train/quantizers/uniform.h"

namespace nibble::train {
namespace {

class PactActivation : public ActivationQuantizer {
 public:
  PactActivation(const ActivationSite& site, const MethodOptions& options)
      : site_(site),
        levels_(unsigned_levels(site.bits)),
        estimator_(estimator_of(options)),
        start_(option(options, "alpha", 0)),
        decay_(option(options, "alpha_decay", 2e-4)) {}

  // The paper starts fresh networks at a = 10; a trained one knows better.
  void initialize(const torch::Tensor& x, const StepInfo& step) override {
    const double alpha = clip_of_least_error(x, levels_, *step.reducer);
    assign(alpha_, torch::full({1}, start_ > 0 ? start_ : alpha, x.options()));
  }

  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override {
    if (!step.quantize) return x;
    return on_clipped_grid(x, alpha_.to(x.scalar_type()), levels_.highest, estimator_, step);
  }

  ActivationGrid grid() const override { return uniform_grid(site_, alpha_.item<double>() / levels_.highest); }
  std::vector<LearnedTensor> learned() override { return {{"alpha", alpha_, 1, decay_}}; }
  void after_update(const StepInfo&) override { keep_at_least(alpha_, levels_.highest * kSmallestScale); }

 private:
  ActivationSite site_;
  Levels levels_;
  Estimator estimator_;
  double start_, decay_;
  torch::Tensor alpha_ = learned_scalar(10);
};

}  // namespace

const QuantizerRow kPact = {
    .name = "pact",
    .summary = "activations are cut at a learned level",
    .source = "Choi et al. 2018, PACT: Parameterized Clipping Activation, eq. 1-3",
    .options = "alpha=0,alpha_decay=0.0002",
    .activation_bits_min = 1,
    .activation_bits_max = 8,
    .make_activation = [](const ActivationSite& site, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      if (auto ema = ema_for_signed(site, options)) return ema;
      return std::make_unique<PactActivation>(site, options);
    },
    .pair = "dorefa"};  // whose weights the paper takes; SAWB came a year later

}  // namespace nibble::train
