// ABC-Net: a weight is a sum of M signs, W ~ sum a_i B_i with B_i = sign(W - mean W + u_i std W), u_i evenly from -1 to 1, and a by least
// squares; an activation is a sum of N signs, x ~ sum b_j A_j, A_j = +1 where clip(x + v_j, 0, 1) >= 1/2, else -1, with learned v and b.
// The weight's gradient is g sum a_i (eq. 6: each B_i straight through); a sign's gradient passes where 0 <= x + v_j <= 1 (eq. 9).
//
// Where we depart: sum a_i is about the size of the weights, so that SGD would hardly move them: the gradient is divided by sum |a_i|
// unless gradient_scale=1. The sums for v and b are scaled by 1 / sqrt(features of one sample).
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"

namespace nibble::train {
namespace {

std::int64_t bases_of(const MethodOptions& options, std::string_view name) {
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(option(options, name, 3)), 1, 8);
}

// Evenly from -1 to 1; one alone: 0.
double shift_of(std::int64_t i, std::int64_t count) {
  return count == 1 ? 0 : -1 + 2 * static_cast<double>(i) / static_cast<double>(count - 1);
}

class AbcWeight : public WeightQuantizer {
 public:
  AbcWeight(const WeightSite& site, const MethodOptions& options)
      : site_(site), count_(bases_of(options, "weight_bases")), gradient_scale_(option(options, "gradient_scale", 0)) {}

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    torch::Tensor value, sum;
    {
      torch::NoGradGuard guard;
      const Sum parts = parts_of(weight);
      for (std::int64_t i = 0; i < count_; ++i) {
        const torch::Tensor part = parts.signs[at(i)] * parts.scale[at(i)];
        value = i == 0 ? part : value + part;
        sum = i == 0 ? parts.scale[at(i)] * parts.direction[at(i)] : sum + parts.scale[at(i)] * parts.direction[at(i)];
      }
    }
    if (gradient_scale_ <= 0) return with_gradient_of(value, weight);
    return with_gradient_of(value, weight * (sum * gradient_scale_));
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    const Sum parts = parts_of(weight);
    std::vector<WeightBase> bases;
    for (std::int64_t i = 0; i < count_; ++i) {
      bases.push_back({parts.signs[at(i)].to(torch::kInt32), to_vector(parts.scale[at(i)]), 2});
    }
    return bases;
  }

 private:
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

  // sum a_i B_i with a_i = direction_i scale_i and signs_i = direction_i B_i: scales are above 0.
  struct Sum {
    std::vector<torch::Tensor> signs, scale, direction;
  };
  Sum parts_of(const torch::Tensor& weight) const {
    const std::int64_t channels = site_.per_channel ? weight.size(0) : 1;
    const torch::Tensor rows = weight.reshape({channels, -1}).to(torch::kFloat64);
    const torch::Tensor centered = rows - rows.mean(1, true);
    const torch::Tensor deviation = rows.std(1, /*unbiased=*/false, /*keepdim=*/true);
    std::vector<torch::Tensor> signs;
    for (std::int64_t i = 0; i < count_; ++i) signs.push_back(sign_of(centered + shift_of(i, count_) * deviation));
    const torch::Tensor stacked = torch::stack(signs, 1);  // [channels, M, elements]
    const torch::Tensor gram = torch::matmul(stacked, stacked.transpose(1, 2)), right = torch::matmul(stacked, rows.unsqueeze(2));
    torch::Tensor a = torch::empty({count_, channels}, torch::kFloat64);
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::vector<double> solved = least_squares(to_vector(gram[c]), to_vector(right[c]));
      for (std::int64_t i = 0; i < count_; ++i) a[i][c] = solved[at(i)];
    }
    std::vector<std::int64_t> shape(static_cast<std::size_t>(weight.dim()), 1);
    shape[0] = channels;
    Sum sum;
    for (std::int64_t i = 0; i < count_; ++i) {
      const torch::Tensor direction = sign_of(a[i]).view({channels, 1});
      sum.signs.push_back((signs[at(i)] * direction).view(weight.sizes()).to(weight.scalar_type()));
      sum.scale.push_back(a[i].abs().clamp_min(kSmallestScale).view(shape).to(weight.scalar_type()));
      sum.direction.push_back(direction.view(shape).to(weight.scalar_type()));
    }
    return sum;
  }

  WeightSite site_;
  std::int64_t count_;
  double gradient_scale_;
};

class AbcActivation : public ActivationQuantizer {
 public:
  AbcActivation(const ActivationSite& site, const MethodOptions& options)
      : site_(site),
        count_(bases_of(options, "activation_bases")),
        shifts_(torch::zeros({count_}, torch::kFloat32).set_requires_grad(true)),
        scales_(torch::ones({count_}, torch::kFloat32).set_requires_grad(true)) {}

  // Thresholds at the mean and evenly around it, one deviation to either side; scales by least squares. What cannot fall below 0 has its
  // first threshold there, where the sign is always +1: the others start from it.
  void initialize(const torch::Tensor& x, const StepInfo& step) override {
    torch::NoGradGuard guard;
    const torch::Tensor values = x.reshape({-1}).to(torch::kFloat64);
    torch::Tensor sums =
        torch::stack({values.sum(), values.square().sum(), torch::full({}, static_cast<double>(x.numel()), torch::kFloat64)});
    step.reducer->sum(sums);
    const double count = std::max(1.0, sums[2].item<double>());
    const double mean = sums[0].item<double>() / count;
    const double deviation = std::sqrt(std::max(0.0, sums[1].item<double>() / count - mean * mean));
    std::vector<torch::Tensor> signs;
    torch::Tensor shifts = torch::empty({count_}, torch::kFloat64);
    for (std::int64_t j = 0; j < count_; ++j) {
      const double threshold = site_.is_signed || count_ == 1
                                   ? mean + shift_of(j, count_) * deviation
                                   : (mean + 2 * deviation) * static_cast<double>(j) / static_cast<double>(count_);
      shifts[j] = 0.5 - threshold;
      signs.push_back(sign_of(values - threshold));
    }
    const torch::Tensor stacked = torch::stack(signs, 0);  // [N, elements]
    torch::Tensor products = torch::cat({torch::matmul(stacked, stacked.t()), torch::mv(stacked, values).unsqueeze(1)}, 1);
    step.reducer->sum(products);
    const std::vector<double> solved = least_squares(to_vector(products.slice(1, 0, count_)), to_vector(products.slice(1, count_)));
    assign(shifts_, shifts.to(x.scalar_type()));
    assign(scales_, torch::tensor(solved, torch::kFloat64).clamp_min(kSmallestScale).to(x.scalar_type()));
  }

  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override {
    if (!step.quantize) return x;
    const double gradient_scale = 1 / std::sqrt(features_of_sample(x));
    const torch::Tensor shifts = scale_gradient(shifts_, gradient_scale).to(x.scalar_type());
    const torch::Tensor scales = scale_gradient(scales_, gradient_scale).to(x.scalar_type());
    torch::Tensor sum;
    for (std::int64_t j = 0; j < count_; ++j) {
      // x >= threshold, as the grid says it: the same comparison in the same precision.
      const torch::Tensor part = sign_ste(x - (0.5 - shifts[j]), 0.5) * scales[j];
      sum = j == 0 ? part : sum + part;
    }
    return sum;
  }

  ActivationGrid grid() const override {
    ActivationGrid grid;
    const std::vector<double> scales = to_vector(scales_);
    const std::vector<double> thresholds = to_vector(0.5 - shifts_.detach());
    for (std::size_t j = 0; j < scales.size(); ++j) grid.signs.push_back({.threshold = thresholds[j], .scale = scales[j]});
    return grid;
  }

  std::vector<LearnedTensor> learned() override { return {{"shifts", shifts_}, {"scales", scales_}}; }
  void after_update(const StepInfo&) override { keep_at_least(scales_, kSmallestScale); }

 private:
  ActivationSite site_;
  std::int64_t count_;
  torch::Tensor shifts_, scales_;
};

}  // namespace

const QuantizerRow kAbc = {
    .name = "abc",
    .summary = "weights and activations are sums of a few signs",
    .source = "Lin et al. 2017, Towards Accurate Binary Convolutional Neural Network, eq. 1-9",
    .options = "weight_bases=3,activation_bases=3,gradient_scale=0",
    .weight_bits_min = 1,
    .weight_bits_max = 1,
    .activation_bits_min = 1,
    .activation_bits_max = 1,
    .takes_signed = true,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      return std::make_unique<AbcWeight>(site, options);
    },
    .make_activation = [](const ActivationSite& site, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      return std::make_unique<AbcActivation>(site, options);
    }};

}  // namespace nibble::train
