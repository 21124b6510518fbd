// Simulated quantization with observed ranges: weights by their own minimum and maximum at every step, after batch normalization was folded
// into them; activations by moving averages of the batches' ends, on an affine grid where 0 is exact. Nothing is learned but the weights.
// Also what every other method uses on the edges that its paper leaves alone.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "numeric/qparams.h"
#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"
#include "train/quantizers/uniform.h"

namespace nibble::train {
namespace {

class EmaWeight : public WeightQuantizer {
 public:
  EmaWeight(const WeightSite& site, const MethodOptions& options)
      : site_(site),
        levels_(narrow_levels(site.bits)),
        estimator_(estimator_of(options)),
        delay_(static_cast<std::int64_t>(option(options, "weight_delay", 0))) {}

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize || (step.training && step.step < delay_)) return weight;
    const torch::Tensor s = scale(weight);
    return on_grid(weight, s, levels_, estimator_, step);
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    const torch::Tensor s = scale(weight);
    return {{(weight / s).clamp(levels_.lowest, levels_.highest).round().to(torch::kInt32), to_vector(s), site_.bits}};
  }

 private:
  // max |w| / (2^(n-1) - 1); the gradient takes it for a constant.
  torch::Tensor scale(const torch::Tensor& weight) const {
    return (max_abs(weight.detach(), site_.per_channel) / levels_.highest).clamp_min(kSmallestScale);
  }

  WeightSite site_;
  Levels levels_;
  Estimator estimator_;
  std::int64_t delay_;
};

class EmaActivation : public ActivationQuantizer {
 public:
  EmaActivation(const ActivationSite& site, const MethodOptions& options)
      : site_(site),
        estimator_(estimator_of(options)),
        decay_(std::clamp(option(options, "decay", 0.99), 0.0, 1.0)),
        delay_(static_cast<std::int64_t>(option(options, "delay", 0))) {}

  void initialize(const torch::Tensor& x, const StepInfo& step) override { observe(x, step); }

  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override {
    if (step.training && !step.freeze_statistics) observe(x, step);
    if (!step.quantize || (step.training && step.step < delay_)) return x;
    const QuantParams params = *grid().uniform;
    const torch::Tensor s = torch::full({1}, static_cast<double>(params.scale[0]), x.options());
    // The zero point is an integer: rne(x / s) + z clamped to the codes is rne of x / s clamped to the codes less z.
    const double zero = params.zero_point[0];
    const Levels levels{static_cast<double>(params.qmin()) - zero, static_cast<double>(params.qmax()) - zero};
    return on_grid(x, s, levels, estimator_, step);
  }

  ActivationGrid grid() const override {
    QuantParams params;
    params.type = {.bit_width = site_.bits, .is_signed = false};
    const double* ends = range_.data_ptr<double>();
    const ScaleZeroPoint affine = choose_qparams_affine(ends[0], ends[1], params.type);
    params.scale = {affine.scale};
    params.zero_point = {affine.zero_point};
    return {.uniform = params};
  }

  std::vector<StateTensor> state() override { return {{"range", range_}, {"observed", observed_}}; }

 private:
  void observe(const torch::Tensor& x, const StepInfo& step) {
    Ends ends = ends_over_ranks(x, *step.reducer);
    if (!std::isfinite(ends.lowest) || !std::isfinite(ends.highest)) return;  // no elements anywhere, or values that the loss will tell of
    ends.lowest = std::min(ends.lowest, 0.0);
    ends.highest = std::max(ends.highest, 0.0);
    double* range = range_.data_ptr<double>();
    const double kept = observed_.item<double>() == 0 ? 0 : decay_;
    range[0] = kept * range[0] + (1 - kept) * ends.lowest;
    range[1] = kept * range[1] + (1 - kept) * ends.highest;
    observed_.add_(1);
  }

  ActivationSite site_;
  Estimator estimator_;
  double decay_;
  std::int64_t delay_;
  torch::Tensor range_ = torch::zeros({2}, torch::kFloat64);
  torch::Tensor observed_ = state_scalar(0);  // batches
};

}  // namespace

const QuantizerRow kEma = {
    .name = "ema",
    .summary = "weights by their minimum and maximum, activations by moving averages of theirs",
    .source = "Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, section 3",
    .options = "decay=0.99,delay=0,weight_delay=0",
    .weight_bits_min = 2,
    .weight_bits_max = 8,
    .activation_bits_min = 2,
    .activation_bits_max = 8,
    .takes_signed = true,
    .folds_batch_norm = true,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      return std::make_unique<EmaWeight>(site, options);
    },
    .make_activation = [](const ActivationSite& site, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      return std::make_unique<EmaActivation>(site, options);
    }};

}  // namespace nibble::train
