// SAWB: weights on the 2^k values from -a to a, evenly spaced, without 0. The clip a follows at every step from the weights' first two
// absolute moments, a = c1 sqrt(E w^2) - c2 E|w|: the line that comes closest to the clip of least squared error for six densities. Codes
// are the odd numbers -(2^k - 1) .. 2^k - 1 in steps of 2, with scale a / (2^k - 1).
#include <torch/torch.h>

#include <array>

#include "train/quantizer_list.h"
#include "train/quantizers/rounding.h"
#include "train/quantizers/support.h"

namespace nibble::train {
namespace {

struct Line {
  double root_mean_square, mean_abs;
};
// Printed by tools/train/fit_sawb.py, for 1 to 8 bits. The paper's own figures, from samples, for 2 bits: 3.12 and 2.064. From 5 bits on no
// line suits a uniform density, whose clip is kept from 2 E|w| on.
constexpr std::array<Line, 8> kLines = {{
    {-0.0001, -1.0001},  // 1: errors at most 1 times the least; bounded: 1
    {3.1146, 2.0497},    // 2: errors at most 1.01 times the least; bounded: 1.01
    {7.3661, 6.7375},    // 3: errors at most 1.01 times the least; bounded: 1.01
    {12.0953, 12.1620},  // 4: errors at most 1.19 times the least; bounded: 1.17
    {17.0819, 17.9877},  // 5: errors at most 3.03 times the least; bounded: 1.12
    {22.2380, 24.0694},  // 6: errors at most 31.2 times the least; bounded: 1.17
    {27.4807, 30.2858},  // 7: errors at most 348 times the least; bounded: 1.31
    {32.6845, 36.4747},  // 8: errors at most 3.24e+03 times the least; bounded: 1.53
}};
constexpr int kBoundedFrom = 5;

class SawbWeight : public WeightQuantizer {
 public:
  SawbWeight(const WeightSite& site, const MethodOptions& options)
      : site_(site), steps_(unsigned_levels(site.bits).highest), estimator_(estimator_of(options)) {}

  torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) override {
    if (!step.quantize) return weight;
    const torch::Tensor a = clip(weight);
    return (2 * round_by(position(weight, a), estimator_, step) - steps_) * (a / steps_);
  }

  std::vector<WeightBase> bases(const torch::Tensor& weight) const override {
    torch::NoGradGuard guard;
    const torch::Tensor a = clip(weight);
    const torch::Tensor codes = (2 * position(weight, a).round() - steps_).to(torch::kInt32);
    return {{codes, to_vector(a / steps_), odd_code_bits(site_.bits)}};
  }

 private:
  torch::Tensor clip(const torch::Tensor& weight) const {
    torch::NoGradGuard guard;
    const torch::Tensor mean = mean_abs(weight, site_.per_channel), largest = max_abs(weight, site_.per_channel);
    const torch::Tensor root = mean_abs(weight.square(), site_.per_channel).sqrt();
    const Line& line = kLines[static_cast<std::size_t>(site_.bits - 1)];
    const torch::Tensor lowest = mean * (site_.bits >= kBoundedFrom ? 2 : 1);
    const torch::Tensor fitted = line.root_mean_square * root - line.mean_abs * mean;
    return torch::minimum(torch::maximum(fitted, lowest), largest).clamp_min(steps_ * kSmallestScale);
  }

  // Where the weight stands among the 2^k values: 0 .. 2^k - 1, not yet rounded.
  torch::Tensor position(const torch::Tensor& weight, const torch::Tensor& a) const {
    return ((weight / a + 1) * (steps_ / 2)).clamp(0, steps_);
  }

  WeightSite site_;
  double steps_;  // 2^k - 1
  Estimator estimator_;
};

}  // namespace

const QuantizerRow kSawb = {.name = "sawb",
                            .summary = "weights are cut at a level that their statistics tell; no weight is 0",
                            .source = "Choi et al. 2019, Accurate and Efficient 2-bit Quantized Neural Networks, section 4",
                            .options = "",
                            .weight_bits_min = 1,
                            .weight_bits_max = 8,
                            .make_weight = [](const WeightSite& site, const MethodOptions& options) -> std::unique_ptr<WeightQuantizer> {
                              return std::make_unique<SawbWeight>(site, options);
                            },
                            .pair = "pact"};

}  // namespace nibble::train
