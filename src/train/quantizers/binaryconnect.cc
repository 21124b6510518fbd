// BinaryConnect: weights are -1 or +1 in the forward and backward pass; the float weight behind gets their gradient and is cut to [-1, 1]
// after every update. Deterministic: the sign. Stochastic: +1 with probability (w + 1) / 2 in training, the sign in evaluation and export.
//
// Weights of size 1 get gradients that are smaller, and have further to go, than weights of Glorot's size c = sqrt(1.5 / (fan in + fan
// out)): the paper divides the learning rate by c under Adam and by c^2 under SGD. Here the learning rate is divided by c and so is the
// gradient, which Adam does not see.
//
// A trained network's weights are small against 1: they are stretched, layer by layer, to a mean |w| of `stretch` and cut, when
// quantization begins. No sign changes; the stochastic draws are then about the weights that are near 0. 0: off, as in the paper.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"

namespace nibble::train {
namespace {

class BinaryWeight : public WeightQuantizer {
 public:
  BinaryWeight(const WeightSite& site, const MethodOptions& options)
      : site_(site),
        glorot_(std::sqrt(1.5 / static_cast<double>(std::max<std::int64_t>(1, site.fan_in + site.fan_out)))),
        stochastic_(option(options, "stochastic", 0) != 0),
        scaled_(option(options, "glorot", 1) != 0),
        stretch_(option(options, "stretch", 0.5)) {}

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    const torch::Tensor path = scale_gradient(weight, scaled_ ? 1 / glorot_ : 1);
    if (!stochastic_ || !step.training) return sign_ste(path, 1);
    const torch::Tensor draws = uniform_draws(step.seed, step.step, site_.site, weight.sizes());
    const torch::Tensor above = draws < ((weight.detach() + 1) / 2).clamp(0, 1);
    return with_gradient_of(above.to(weight.scalar_type()) * 2 - 1, path);
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    return {{sign_of(weight.detach()).to(torch::kInt32), {1.0}, 2}};
  }

  void begin_epoch(torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize || stretched_.item<double>() != 0) return;
    torch::NoGradGuard guard;
    stretched_.fill_(1);
    if (stretch_ > 0) weight.mul_(stretch_ / std::max(kSmallestScale, weight.abs().mean().item<double>()));
    weight.clamp_(-1, 1);
  }
  void after_update(torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return;
    torch::NoGradGuard guard;
    weight.clamp_(-1, 1);
  }

  // Float epochs have the learning rate of a float network.
  double learning_rate_scale() const override { return scaled_ && stretched_.item<double>() != 0 ? 1 / glorot_ : 1; }
  std::vector<StateTensor> state() override { return {{"stretched", stretched_}}; }

 private:
  WeightSite site_;
  double glorot_;
  bool stochastic_, scaled_;
  double stretch_;
  torch::Tensor stretched_ = state_scalar(0);
};

}  // namespace

const QuantizerRow kBinaryConnect = {
    .name = "binaryconnect",
    .summary = "weights of one bit: -1, 1",
    .source = "Courbariaux et al. 2015, BinaryConnect, algorithm 1, sections 2.3 to 2.6",
    .options = "stochastic=0,stretch=0.5,glorot=1",
    .weight_bits_min = 1,
    .weight_bits_max = 1,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      return std::make_unique<BinaryWeight>(site, options);
    }};

}  // namespace nibble::train
