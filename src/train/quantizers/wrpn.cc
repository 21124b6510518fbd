// WRPN: weights are cut to [-1, 1] and have k - 1 bits beside the sign, w_q = rne(w (2^(k-1) - 1)) / (2^(k-1) - 1); activations are cut to
// [0, 1] with 2^k - 1 steps. The network makes good for the few bits by being wider (--widen).
//
// Where we depart: at 4 bits the paper's step of 1/7 is wider than most weights of a trained network are large. Weights and activations are
// in units of a constant, the clip of least squared error, measured once at the start; unit=1, activation_unit=1 are the paper's.
#include <torch/torch.h>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"
#include "train/quantizers/uniform.h"

namespace nibble::train {
namespace {

class WrpnWeight : public WeightQuantizer {
 public:
  WrpnWeight(const WeightSite& site, const MethodOptions& options)
      : site_(site), levels_(narrow_levels(site.bits)), estimator_(estimator_of(options)), unit_option_(option(options, "unit", 0)) {}

  void initialize(const torch::Tensor& weight) override {
    torch::NoGradGuard guard;
    std::vector<std::int64_t> shape(static_cast<std::size_t>(weight.dim()), 1);
    if (site_.per_channel) shape[0] = weight.size(0);
    torch::Tensor units = torch::full(shape, unit_option_, torch::kFloat64);
    if (unit_option_ <= 0) {
      const torch::Tensor rows = weight.reshape({shape[0], -1});
      for (std::int64_t i = 0; i < shape[0]; ++i) units.view({-1})[i] = clip_of_least_error(rows[i], levels_, single_process());
    }
    assign(unit_, units.clamp_min(levels_.highest * kSmallestScale));
  }

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    const torch::Tensor s = scale(weight);
    return on_grid(weight, s, levels_, estimator_, step);
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    const torch::Tensor s = scale(weight);
    return {{(weight / s).clamp(levels_.lowest, levels_.highest).round().to(torch::kInt32), to_vector(s), site_.bits}};
  }

  std::vector<StateTensor> state() override { return {{"unit", unit_}}; }

 private:
  torch::Tensor scale(const torch::Tensor& weight) const { return (unit_ / levels_.highest).to(weight.scalar_type()); }

  WeightSite site_;
  Levels levels_;
  Estimator estimator_;
  double unit_option_;
  torch::Tensor unit_ = state_scalar(1);
};

}  // namespace

const QuantizerRow kWrpn = {
    .name = "wrpn",
    .summary = "weights and activations cut to fixed ranges, for networks that are widened",
    .source = "Mishra et al. 2018, WRPN: Wide Reduced-Precision Networks, section 3",
    .options = "unit=0,activation_unit=0",
    .weight_bits_min = 2,
    .weight_bits_max = 8,
    .activation_bits_min = 1,
    .activation_bits_max = 8,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      return std::make_unique<WrpnWeight>(site, options);
    },
    // The same function as DoReFa's: rne(clip(x, 0, 1) (2^k - 1)) / (2^k - 1).
    .make_activation = [](const ActivationSite& site, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      return kDorefa.make_activation(site, options);
    }};

}  // namespace nibble::train
