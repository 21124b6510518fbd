// Incremental network quantization: weights become 0 or powers of two from 2^n2 to 2^n1, part by part. The largest weights of a part are
// put on the grid and stay there; the others are trained on, in float, and make good for it; at the last part all are on the grid. n1 =
// floor(log2(4 max |W| / 3)), n2 = n1 + 1 - 2^(b-1) / 2, with W as it was before the first part. |w| goes to 2^p where 3/4 2^p <= |w| < 3/2
// 2^p: p = floor(log2(4 |w| / 3)); below half of 2^n2 to 0; what lies between that and 2^n2 to 2^n2. Codes are 2^(p - n2) with scale 2^n2.
//
// Parts freeze at steps spread evenly over the run from the first quantized epoch on; with four parts the last quarter has every weight
// frozen, and biases and batch normalization learn alone.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "train/quantizer_list.h"
#include "train/quantizers/support.h"

namespace nibble::train {
namespace {

class InqWeight : public WeightQuantizer {
 public:
  InqWeight(const WeightSite& site, const MethodOptions& options)
      : site_(site),
        magnitudes_(1 << std::max(0, site.bits - 2)),
        parts_(std::clamp<std::int64_t>(static_cast<std::int64_t>(option(options, "parts", 4)), 1, 16)) {}

  void initialize(const torch::Tensor& weight) override {
    torch::NoGradGuard guard;
    const torch::Tensor largest = max_abs(weight, site_.per_channel).to(torch::kFloat64).clamp_min(kSmallestScale);
    assign(n1_, (largest * 4 / 3).log2().floor());
    assign(frozen_, torch::zeros(weight.sizes(), weight.options()));
    assign(values_, torch::zeros(weight.sizes(), weight.options()));
  }

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    if (!step.training) return on_grid(weight);
    return torch::where(frozen_ > 0, values_, weight);  // no gradient for what is frozen
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    const int bits = magnitudes_ == 1 ? 2 : magnitudes_ < 8 ? magnitudes_ + 1 : 16;  // codes up to 2^(magnitudes - 1)
    return {{codes(weight).to(torch::kInt32), to_vector(smallest()), bits}};
  }

  std::vector<StateTensor> state() override {
    return {{"n1", n1_}, {"frozen", frozen_}, {"values", values_}, {"done", done_}, {"first_epoch", first_epoch_}};
  }

  void begin_epoch(torch::Tensor& weight, const StepInfo& step) override { freeze_what_is_due(weight, step); }
  // Momentum and weight decay move frozen weights as well: they are put back.
  void after_update(torch::Tensor& weight, const StepInfo& step) override {
    freeze_what_is_due(weight, step);
    torch::NoGradGuard guard;
    weight.copy_(torch::where(frozen_ > 0, values_, weight));
  }

 private:
  torch::Tensor smallest() const { return (n1_ + (1 - magnitudes_)).exp2(); }  // 2^n2

  // Signed powers of two relative to 2^n2, in the weight's type; frozen weights keep theirs.
  torch::Tensor codes(const torch::Tensor& weight) const {
    const torch::Tensor unit = smallest().to(weight.scalar_type());
    const torch::Tensor size = torch::where(frozen_ > 0, values_, weight).abs() / unit;
    const torch::Tensor power = (size * 4 / 3).clamp_min(1).log2().floor().clamp_max(magnitudes_ - 1);
    const torch::Tensor sign = torch::where(frozen_ > 0, values_, weight).sign();
    return torch::where(size >= 0.5, power.exp2(), torch::zeros_like(size)) * sign;
  }
  torch::Tensor on_grid(const torch::Tensor& weight) const {
    torch::NoGradGuard guard;
    return codes(weight) * smallest().to(weight.scalar_type());
  }

  // 50 %, 75 %, 87.5 % ... and all at the last part.
  std::int64_t elements_of(std::int64_t part, std::int64_t elements) const {
    if (part >= parts_) return elements;
    return std::llround(static_cast<double>(elements) * (1 - std::ldexp(1.0, -static_cast<int>(part))));
  }

  void freeze_what_is_due(torch::Tensor& weight, const StepInfo& step) {
    if (!step.quantize) return;
    double* first = first_epoch_.data_ptr<double>();
    if (*first < 0) *first = static_cast<double>(step.epoch);
    const std::int64_t start = static_cast<std::int64_t>(*first) * step.steps_per_epoch;
    const std::int64_t steps = std::max<std::int64_t>(1, step.epochs * step.steps_per_epoch - start);
    const auto done = static_cast<std::int64_t>(done_.item<double>());
    std::int64_t due = 0;
    while (due < parts_ && due * steps / parts_ <= step.step - start) ++due;
    if (due > done) freeze(weight, due);
  }

  void freeze(torch::Tensor& weight, std::int64_t part) {
    torch::NoGradGuard guard;
    const torch::Tensor flat = frozen_.view({-1});
    // The largest first; those that are frozen already come before all others.
    const torch::Tensor key = torch::where(frozen_ > 0, torch::full_like(weight, INFINITY), weight.abs()).reshape({-1});
    const torch::Tensor order = std::get<1>(key.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
    const torch::Tensor chosen = torch::zeros_like(flat);
    chosen.index_fill_(0, order.slice(0, 0, elements_of(part, flat.numel())), 1);
    values_.copy_(on_grid(weight) * chosen.view(weight.sizes()));
    flat.copy_(chosen);
    weight.copy_(torch::where(frozen_ > 0, values_, weight));
    done_.fill_(static_cast<double>(part));
  }

  WeightSite site_;
  int magnitudes_;  // powers of two: 2^(b-1) / 2
  std::int64_t parts_;
  torch::Tensor n1_ = state_scalar(0), frozen_ = state_scalar(0), values_ = state_scalar(0);
  torch::Tensor done_ = state_scalar(0), first_epoch_ = state_scalar(-1);
};

}  // namespace

const QuantizerRow kInq = {.name = "inq",
                           .summary = "weights become powers of two, the largest first, while the others learn on",
                           .source = "Zhou A. et al. 2017, Incremental Network Quantization, eq. 1-8",
                           .options = "parts=4",
                           .weight_bits_min = 2,
                           .weight_bits_max = 5,
                           .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
                             return std::make_unique<InqWeight>(site, options);
                           }};

}  // namespace nibble::train
