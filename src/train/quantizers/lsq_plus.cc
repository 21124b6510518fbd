// LSQ+: beside the step of an activation its offset is learned, x ~ clamp(rne(x / s) + z, 0, 2^k - 1) - z times s, for activations that
// have a side below 0 (swish, residual edges). Weights: LSQ's, started from mean and deviation.
//
// Where we depart: the paper's offset b is any real number; ours enters as the integer zero point z = rne(-b / s), straight through, so
// that 0 stays exact and the grid is one that QuantizeLinear has.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"

namespace nibble::train {
namespace {

class LsqPlusActivation : public ActivationQuantizer {
 public:
  LsqPlusActivation(const ActivationSite& site, const MethodOptions& options)
      : site_(site), steps_(unsigned_levels(site.bits).highest), estimator_(estimator_of(options)) {}

  // The range of least squared error among shrunk copies of [min, max].
  void initialize(const torch::Tensor& x, const StepInfo& step) override {
    torch::NoGradGuard guard;
    constexpr int kCandidates = 40;
    const Ends ends = ends_over_ranks(x, *step.reducer);
    const double lowest = std::min(0.0, ends.lowest), width = std::max(0.0, ends.highest) - lowest;
    const bool measured = std::isfinite(width) && width > 0;
    torch::Tensor errors = torch::zeros({kCandidates}, torch::kFloat64);
    for (int i = 0; measured && i < kCandidates; ++i) {
      const double share = static_cast<double>(i + 1) / kCandidates, s = share * width / steps_;
      const double zero = std::clamp(std::nearbyint(-share * lowest / s), 0.0, steps_);
      errors[i] = (x - (x / s).round_().clamp_(-zero, steps_ - zero).mul_(s)).square_().sum(torch::kFloat64);
    }
    step.reducer->sum(errors);
    if (!measured) return;
    const double share = static_cast<double>(errors.argmin().item<std::int64_t>() + 1) / kCandidates;
    assign(step_, torch::full({1}, std::max(kSmallestScale, share * width / steps_), x.options()));
    assign(offset_, torch::full({1}, share * lowest, x.options()));
  }

  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override {
    if (!step.quantize) return x;
    const double gradient_scale = 1 / std::sqrt(features_of_sample(x) * steps_);
    const torch::Tensor s = scale_gradient(step_, gradient_scale).to(x.scalar_type());
    const torch::Tensor offset = scale_gradient(offset_, gradient_scale).to(x.scalar_type());
    const torch::Tensor lowest = -round_ste(-offset / s).clamp(0, steps_), highest = lowest + steps_;  // codes less the zero point
    const torch::Tensor position = x / s;
    const torch::Tensor inside = round_by(position, estimator_, step);
    return torch::where(position < lowest, lowest, torch::where(position > highest, highest, inside)) * s;
  }

  ActivationGrid grid() const override {
    torch::NoGradGuard guard;
    ActivationGrid grid = uniform_grid(site_, step_.item<double>());
    grid.uniform->type.is_signed = false;
    grid.uniform->zero_point = {static_cast<std::int32_t>((-offset_ / step_).round().clamp(0, steps_).item<double>())};
    return grid;
  }

  std::vector<LearnedTensor> learned() override { return {{"step", step_}, {"offset", offset_}}; }
  void after_update(const StepInfo&) override { keep_at_least(step_, kSmallestScale); }

 private:
  ActivationSite site_;
  double steps_;  // 2^k - 1
  Estimator estimator_;
  torch::Tensor step_ = learned_scalar(1), offset_ = learned_scalar(0);
};

}  // namespace

const QuantizerRow kLsqPlus = {
    .name = "lsq_plus",
    .summary = "steps and activations' offsets are learned",
    .source = "Bhalgat et al. 2020, LSQ+, eq. 4-7",
    .options = "",
    .weight_bits_min = 2,
    .weight_bits_max = 8,
    .activation_bits_min = 1,
    .activation_bits_max = 8,
    .takes_signed = true,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      MethodOptions plus = options;
      plus["start_by_deviation"] = 1;
      return kLsq.make_weight(site, plus);
    },
    .make_activation = [](const ActivationSite& site, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      return std::make_unique<LsqPlusActivation>(site, options);
    }};

}  // namespace nibble::train
