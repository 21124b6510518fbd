// DoReFa-Net: weights pass tanh and are scaled to [-1, 1], activations are cut to [0, 1], gradients are scaled by each sample's largest and
// get noise before they are rounded; all three by Q_k(x) = rne(x (2^k - 1)) / (2^k - 1) on [0, 1]. One bit: sign(w) E|w|.
//
// Where we depart: the paper trains fresh networks, whose weights and activations grow into [-1, 1] and [0, 1]. Ours mostly start trained,
// so both are in units of a constant that is measured once, at the start; batch normalization takes such a constant up. unit=1 is the
// paper's.
#include <torch/torch.h>

#include <algorithm>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"
#include "train/quantizers/uniform.h"

namespace nibble::train {
namespace {

class DorefaWeight : public WeightQuantizer {
 public:
  DorefaWeight(const WeightSite& site, const MethodOptions& options)
      : site_(site),
        steps_(unsigned_levels(site.bits).highest),
        estimator_(estimator_of(options)),
        unit_option_(option(options, "unit", 0)) {}

  // The unit that makes the first quantized weight the best picture of the weight: <w, q> / <q, q>.
  void initialize(const torch::Tensor& weight) override {
    torch::NoGradGuard guard;
    const torch::Tensor q = (2 * position(weight).round() - steps_) / steps_;
    const torch::Tensor inner = channel_sum(weight * q, site_.per_channel) / channel_sum(q.square(), site_.per_channel);
    assign(unit_, (unit_option_ > 0 ? torch::full_like(inner, unit_option_) : inner).clamp_min(steps_ * kSmallestScale));
  }

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    if (site_.bits == 1) return with_gradient_of(sign_of(weight) * mean(weight), weight);
    return (2 * round_by(position(weight), estimator_, step) - steps_) * (unit_.to(weight.scalar_type()) / steps_);
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    if (site_.bits == 1) return {{sign_of(weight).to(torch::kInt32), to_vector(mean(weight)), 2}};
    const torch::Tensor codes = (2 * position(weight).round() - steps_).to(torch::kInt32);
    return {{codes, to_vector(unit_ / steps_), odd_code_bits(site_.bits)}};
  }

  std::vector<StateTensor> state() override { return {{"unit", unit_}}; }

 private:
  torch::Tensor mean(const torch::Tensor& weight) const { return mean_abs(weight.detach(), site_.per_channel).clamp_min(kSmallestScale); }
  // (tanh w / (2 max |tanh w|) + 1/2) (2^k - 1), not yet rounded. The gradient flows through the maximum too.
  torch::Tensor position(const torch::Tensor& weight) const {
    const torch::Tensor bent = weight.tanh();
    return (bent / (2 * max_abs(bent, site_.per_channel).clamp_min(kSmallestScale)) + 0.5) * steps_;
  }

  WeightSite site_;
  double steps_;  // 2^k - 1
  Estimator estimator_;
  double unit_option_;
  torch::Tensor unit_ = state_scalar(1);
};

class DorefaActivation : public ActivationQuantizer {
 public:
  DorefaActivation(const ActivationSite& site, const MethodOptions& options)
      : site_(site),
        levels_(unsigned_levels(site.bits)),
        estimator_(estimator_of(options)),
        unit_option_(option(options, "activation_unit", 0)) {}

  void initialize(const torch::Tensor& x, const StepInfo& step) override {
    const double clip = clip_of_least_error(x, levels_, *step.reducer);
    unit_.fill_(unit_option_ > 0 ? unit_option_ : clip);
  }

  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override {
    if (!step.quantize) return x;
    return on_grid(x, unit_.to(x.scalar_type()) / levels_.highest, levels_, estimator_, step);
  }

  ActivationGrid grid() const override { return uniform_grid(site_, unit_.item<double>() / levels_.highest); }
  std::vector<StateTensor> state() override { return {{"unit", unit_}}; }

 private:
  ActivationSite site_;
  Levels levels_;
  Estimator estimator_;
  double unit_option_;
  torch::Tensor unit_ = state_scalar(1);
};

// Eq. 12: 2 m (Q_k(g / (2 m) + 1/2 + sigma / (2^k - 1)) - 1/2), m = the sample's max |g|, sigma uniform in [-1/2, 1/2).
class RoundGradient : public torch::autograd::Function<RoundGradient> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& y, double steps, std::int64_t seed,
                               std::int64_t step, std::int64_t site, const torch::Tensor& sample_ids) {
    context->saved_data["steps"] = steps;
    context->saved_data["seed"] = seed;
    context->saved_data["step"] = step;
    context->saved_data["site"] = site;
    context->saved_data["sample_ids"] = sample_ids;
    return y.view_as(y);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    torch::Tensor g = gradients[0];
    if (g.numel() > 0) {
      const double steps = context->saved_data["steps"].toDouble();
      const torch::Tensor rows = g.reshape({g.size(0), -1});
      const torch::Tensor largest = rows.abs().amax(1, true);
      const torch::Tensor draws =
          uniform_draws_by_sample(static_cast<std::uint64_t>(context->saved_data["seed"].toInt()), context->saved_data["step"].toInt(),
                                  context->saved_data["site"].toInt(), context->saved_data["sample_ids"].toTensor(), rows.sizes());
      // A sample without a gradient (largest 0) would divide by it: any divisor will do.
      const torch::Tensor divisor = torch::where(largest > 0, 2 * largest, torch::ones_like(largest));
      const torch::Tensor position = (rows / divisor + 0.5) * steps + (draws - 0.5).to(g.scalar_type());
      const torch::Tensor rounded = position.round().clamp(0, steps) / steps - 0.5;
      g = (2 * largest * rounded).view(g.sizes());
    }
    return {g, torch::Tensor(), torch::Tensor(), torch::Tensor(), torch::Tensor(), torch::Tensor()};
  }
};

class DorefaGradient : public GradientQuantizer {
 public:
  DorefaGradient(const GradientSite& site, const MethodOptions&) : site_(site) {}

  torch::Tensor forward(const torch::Tensor& y, const StepInfo& step) override {
    if (!step.quantize || !step.training) return y;
    // Other draws than those of a weight with the same number.
    constexpr std::int64_t kGradients = std::int64_t{1} << 32;
    return RoundGradient::apply(y, unsigned_levels(site_.bits).highest, static_cast<std::int64_t>(step.seed), step.step,
                                site_.site + kGradients, step.sample_ids);
  }

 private:
  GradientSite site_;
};

}  // namespace

const QuantizerRow kDorefa = {
    .name = "dorefa",
    .summary = "weights through tanh, activations cut to a fixed range, gradients rounded with noise",
    .source = "Zhou S. et al. 2016, DoReFa-Net, eq. 7-12",
    .options = "unit=0,activation_unit=0",
    .weight_bits_min = 1,
    .weight_bits_max = 8,
    .activation_bits_min = 1,
    .activation_bits_max = 8,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      return std::make_unique<DorefaWeight>(site, options);
    },
    .make_activation = [](const ActivationSite& site, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      if (auto ema = ema_for_signed(site, options)) return ema;
      return std::make_unique<DorefaActivation>(site, options);
    },
    .make_gradient = [](const GradientSite& site, const MethodOptions& options) -> std::unique_ptr<GradientQuantizer> {
      return std::make_unique<DorefaGradient>(site, options);
    }};

}  // namespace nibble::train
