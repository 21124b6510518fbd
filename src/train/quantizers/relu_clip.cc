// Clipped activations alone: a ReLU with an upper end, 1 or 6 or learned. Training sees the cut and nothing else (round=1: the rounding as
// well); the grid of an evaluation, and of the exported model, is the 2^k - 1 steps from 0 to that end.
#include <torch/torch.h>

#include <algorithm>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"
#include "train/quantizers/uniform.h"

namespace nibble::train {
namespace {

enum class Clip { kFixed, kLearned };

class ClippedActivation : public ActivationQuantizer {
 public:
  ClippedActivation(const ActivationSite& site, const MethodOptions& options, double start, Clip clip)
      : site_(site),
        levels_(unsigned_levels(site.bits)),
        estimator_(estimator_of(options)),
        start_(option(options, "clip", start)),
        decay_(option(options, "clip_decay", 2e-4)),
        round_(option(options, "round", 0) != 0),
        learned_(clip == Clip::kLearned) {
    if (!learned_) clip_ = state_scalar(start_);
  }

  void initialize(const torch::Tensor& x, const StepInfo& step) override {
    if (!learned_) return;
    const double clip = clip_of_least_error(x, levels_, *step.reducer);
    assign(clip_, torch::full({1}, start_ > 0 ? start_ : clip, x.options()));
  }

  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override {
    if (!step.quantize) return x;
    const torch::Tensor clip = clip_.to(x.scalar_type());
    if (step.training && !round_) return torch::where(x >= clip, clip, x.clamp_min(0));
    return on_clipped_grid(x, clip, levels_.highest, estimator_, step);
  }

  ActivationGrid grid() const override { return uniform_grid(site_, clip_.item<double>() / levels_.highest); }
  std::vector<LearnedTensor> learned() override {
    if (!learned_) return {};
    return {{"clip", clip_, 1, decay_}};
  }
  void after_update(const StepInfo&) override { keep_at_least(clip_, levels_.highest * kSmallestScale); }

 private:
  ActivationSite site_;
  Levels levels_;
  Estimator estimator_;
  double start_, decay_;
  bool round_, learned_;
  torch::Tensor clip_ = learned_scalar(6);
};

template <int kClip>
std::unique_ptr<ActivationQuantizer> make(const ActivationSite& site, const MethodOptions& options) {
  if (auto ema = ema_for_signed(site, options)) return ema;
  return std::make_unique<ClippedActivation>(site, options, kClip, kClip == 0 ? Clip::kLearned : Clip::kFixed);
}

}  // namespace

const QuantizerRow kRelu1 = {.name = "relu1",
                             .summary = "activations cut at 1",
                             .source = "Krizhevsky 2010, Convolutional Deep Belief Networks on CIFAR-10 (capped units)",
                             .options = "clip=1,round=0",
                             .make_activation = make<1>};
const QuantizerRow kRelu6 = {.name = "relu6",
                             .summary = "activations cut at 6",
                             .source = "Krizhevsky 2010, Convolutional Deep Belief Networks on CIFAR-10 (capped units)",
                             .options = "clip=6,round=0",
                             .make_activation = make<6>};
const QuantizerRow kReluClip = {.name = "relu_clip",
                                .summary = "activations cut at a learned level, without rounding in training",
                                .source = "Choi et al. 2018, PACT: Parameterized Clipping Activation, eq. 1",
                                .options = "clip=0,clip_decay=0.0002,round=0",
                                .make_activation = make<0>};

}  // namespace nibble::train
