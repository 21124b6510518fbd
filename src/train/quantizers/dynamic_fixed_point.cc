// Dynamic fixed point: the weights, the activations and the gradients of a layer share a power-of-two scale each. The scale is doubled when
// more than `overflow` (.01 %) of the values lie beyond the codes, and halved when at half the scale still no more would. Values are
// rounded half to even and saturate. The updates go to the float weights: they are kept wider than the weights that a layer computes with.
//
// A value overflows when its rounded code lies beyond the codes. Scales are looked at every `every` steps, activations and gradients over
// all that came in between, on all processes.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"
#include "train/quantizers/uniform.h"

namespace nibble::train {
namespace {

struct Rule {
  double overflow = 1e-4;
  std::int64_t every = 10;
};
Rule rule_of(const MethodOptions& options) {
  return {std::max(0.0, option(options, "overflow", 1e-4)),
          std::max<std::int64_t>(1, static_cast<std::int64_t>(option(options, "every", 10)))};
}

// How many values lie beyond the codes at this scale.
double overflows(const torch::Tensor& x, const Levels& levels, double scale) {
  if (x.numel() == 0) return 0;
  const double below = levels.lowest < 0 ? (levels.lowest - 0.5) * scale
                                         : -std::numeric_limits<double>::infinity();  // a code that is cut at 0 is cut by intent
  return static_cast<double>(((x > (levels.highest + 0.5) * scale) | (x < below)).sum().item<std::int64_t>());
}

// The scale 2^exponent of one group and what was counted since it was last looked at.
class SharedScale {
 public:
  SharedScale(const Levels& levels, const Rule& rule, int lowest_exponent)
      : levels_(levels), rule_(rule), lowest_exponent_(lowest_exponent) {}

  double scale() const { return std::exp2(exponent_.item<double>()); }
  bool ready() const { return ready_.item<double>() != 0; }

  // The least scale that lets no more than the rule's share overflow. A collective.
  void start(const torch::Tensor& x, Reducer& reducer) {
    torch::NoGradGuard guard;
    constexpr int kCandidates = 24;
    const Ends ends = ends_over_ranks(x, reducer);
    const double largest = std::max(levels_.lowest < 0 ? -ends.lowest : 0.0, ends.highest);
    const bool measured = std::isfinite(largest) && largest > 0;
    const double top = measured ? std::ceil(std::log2(largest / levels_.highest)) : 0;
    torch::Tensor counts = torch::zeros({kCandidates + 1}, torch::kFloat64);
    for (int i = 0; measured && i < kCandidates; ++i) counts[i] = overflows(x, levels_, std::exp2(top - i));
    counts[kCandidates] = static_cast<double>(x.numel());
    reducer.sum(counts);
    if (!measured) return;
    const double allowed = rule_.overflow * counts[kCandidates].item<double>();
    int best = 0;
    while (best + 1 < kCandidates && counts[best + 1].item<double>() <= allowed) ++best;
    set(top - best);
    ready_.fill_(1);
  }

  // A collective.
  void count(const torch::Tensor& x, Reducer& reducer) {
    torch::NoGradGuard guard;
    torch::Tensor counts = torch::zeros({4}, torch::kFloat64);
    counts[0] = overflows(x, levels_, scale());
    counts[1] = overflows(x, levels_, scale() / 2);
    counts[2] = static_cast<double>(x.numel());
    counts[3] = static_cast<double>(x.count_nonzero().item<std::int64_t>());
    reducer.sum(counts);
    counts_.add_(counts);
  }

  void adapt() {
    const double* counts = counts_.data_ptr<double>();
    const double allowed = rule_.overflow * counts[2];
    if (counts[0] > allowed) {
      set(exponent_.item<double>() + 1);
    } else if (counts[3] > 0 && counts[1] <= allowed) {  // nothing but zeros tells nothing
      set(exponent_.item<double>() - 1);
    }
    counts_.zero_();
  }
  bool due(const StepInfo& step) const { return (step.step + 1) % rule_.every == 0; }

  torch::Tensor round(const torch::Tensor& x) const { return (x / scale()).round_().clamp_(levels_.lowest, levels_.highest).mul_(scale()); }
  std::vector<StateTensor> state() { return {{"exponent", exponent_}, {"counts", counts_}, {"ready", ready_}}; }

 private:
  void set(double exponent) { exponent_.fill_(std::clamp(exponent, static_cast<double>(lowest_exponent_), 60.0)); }

  Levels levels_;
  Rule rule_;
  int lowest_exponent_;
  torch::Tensor exponent_ = state_scalar(0), ready_ = state_scalar(0);
  torch::Tensor counts_ = torch::zeros({4}, torch::kFloat64);  // overflows, overflows at half the scale, values, values that are not 0
};

constexpr int kLowestExponent = -26;           // 2^-26 is above kSmallestScale
constexpr int kLowestGradientExponent = -100;  // gradients of a mean loss are small; float32 goes to 2^-126

torch::Tensor rounded(const torch::Tensor& x, const SharedScale& shared, const Levels& levels, const StepInfo& step) {
  return on_grid(x, torch::full({1}, shared.scale(), x.options().requires_grad(false)), levels, {}, step);
}

class FixedPointWeight : public WeightQuantizer {
 public:
  FixedPointWeight(const WeightSite& site, const MethodOptions& options)
      : site_(site), levels_(full_levels(site.bits)), shared_(levels_, rule_of(options), kLowestExponent) {}

  void initialize(const torch::Tensor& weight) override { shared_.start(weight, single_process()); }
  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    return step.quantize ? rounded(weight, shared_, levels_, step) : weight;
  }
  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    const torch::Tensor codes = (weight / shared_.scale()).round().clamp(levels_.lowest, levels_.highest).to(torch::kInt32);
    return {{codes, {shared_.scale()}, site_.bits}};
  }
  void after_update(torch::Tensor& weight, const StepInfo& step) override {
    if (!shared_.due(step)) return;
    shared_.count(weight, single_process());  // equal on all processes
    shared_.adapt();
  }
  std::vector<StateTensor> state() override { return shared_.state(); }

 private:
  WeightSite site_;
  Levels levels_;
  SharedScale shared_;
};

class FixedPointActivation : public ActivationQuantizer {
 public:
  FixedPointActivation(const ActivationSite& site, const MethodOptions& options)
      : site_(site), levels_(activation_levels(site)), shared_(levels_, rule_of(options), kLowestExponent) {}

  void initialize(const torch::Tensor& x, const StepInfo& step) override { shared_.start(x, *step.reducer); }
  torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) override {
    if (step.training && !step.freeze_statistics) {
      if (!shared_.ready()) shared_.start(x.detach(), *step.reducer);
      shared_.count(x.detach(), *step.reducer);
      if (shared_.due(step)) shared_.adapt();
    }
    return step.quantize ? rounded(x, shared_, levels_, step) : x;
  }
  ActivationGrid grid() const override { return uniform_grid(site_, shared_.scale()); }
  std::vector<StateTensor> state() override { return shared_.state(); }

 private:
  ActivationSite site_;
  Levels levels_;
  SharedScale shared_;
};

// The counts are added over the processes during the backward pass, which all of them go through in the same order.
class FixedPointGradient : public GradientQuantizer {
 public:
  FixedPointGradient(const GradientSite& site, const MethodOptions& options)
      : shared_(full_levels(site.bits), rule_of(options), kLowestGradientExponent) {}

  torch::Tensor forward(const torch::Tensor& y, const StepInfo& step) override {
    if (!step.quantize || !step.training || !y.requires_grad()) return y;
    const torch::Tensor out = y.view_as(y);
    Reducer* reducer = step.reducer;
    const bool due = shared_.due(step), frozen = step.freeze_statistics;
    out.register_hook([this, reducer, due, frozen](torch::Tensor gradient) {
      torch::NoGradGuard guard;
      if (!shared_.ready()) shared_.start(gradient, *reducer);
      if (!frozen) {
        shared_.count(gradient, *reducer);
        if (due) shared_.adapt();
      }
      return shared_.ready() ? shared_.round(gradient) : gradient;
    });
    return out;
  }
  std::vector<StateTensor> state() override { return shared_.state(); }

 private:
  SharedScale shared_;
};

}  // namespace

const QuantizerRow kDynamicFixedPoint = {
    .name = "dynamic_fixed_point",
    .summary = "weights, activations and gradients of a layer share a power of two each, moved by how many overflow",
    .source = "Courbariaux et al. 2014, Training deep neural networks with low precision multiplications, section 5",
    .options = "overflow=0.0001,every=10",
    .weight_bits_min = 2,
    .weight_bits_max = 8,
    .activation_bits_min = 1,
    .activation_bits_max = 8,
    .takes_signed = true,
    .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
      return std::make_unique<FixedPointWeight>(site, options);
    },
    .make_activation = [](const ActivationSite& site, const MethodOptions& options) -> std::unique_ptr<ActivationQuantizer> {
      return std::make_unique<FixedPointActivation>(site, options);
    },
    .make_gradient = [](const GradientSite& site, const MethodOptions& options) -> std::unique_ptr<GradientQuantizer> {
      return std::make_unique<FixedPointGradient>(site, options);
    }};

}  // namespace nibble::train
