#include "quantizer_checks.h"

namespace nibble::train {
namespace {

const QuantizerRow& inq() { return find_quantizer("inq"); }

// Eq. 1-4, 3 bits: max .9: n1 = floor(log2 1.2) = 0, n2 = 0 + 1 - 2 = -1: values 0, +-.5, +-1. To .5 from .25 on, to 1 from .75 on.
TEST(Inq, WeightsGoToThePowersOfTwoOfThePaper) {
  const auto quantizer = inq().make_weight({.name = "w", .bits = 3}, {});
  const torch::Tensor weight = torch::tensor({0.9, -0.74, 0.75, 0.25, -0.24, -0.5, 0.1, 0.0}, torch::kFloat64).view({8, 1});
  quantizer->initialize(weight);
  const torch::Tensor expected = torch::tensor({1.0, -0.5, 1.0, 0.5, 0.0, -0.5, 0.0, 0.0}, torch::kFloat64);
  EXPECT_TRUE(torch::equal(quantizer->forward(weight, evaluation_step()).flatten(), expected));
  const std::vector<WeightBase> bases = quantizer->bases(weight);
  EXPECT_EQ(bases[0].scale[0], 0.5);
  EXPECT_EQ(bases[0].bits, 3);
}

TEST(Inq, FiveBitsReach128Steps) {
  const auto quantizer = inq().make_weight({.name = "w", .bits = 5}, {});
  const torch::Tensor weight = torch::tensor({1.0, 0.0078125, -0.003, 0.004}, torch::kFloat64).view({4, 1});
  quantizer->initialize(weight);
  const std::vector<WeightBase> bases = quantizer->bases(weight);
  EXPECT_EQ(bases[0].scale[0], 0x1p-7);  // n1 = 0, n2 = -7
  EXPECT_EQ(bases[0].bits, 16);
  EXPECT_TRUE(torch::equal(bases[0].codes.flatten(), torch::tensor({128, 1, 0, 1}, torch::kInt32)));
}

double share_frozen(WeightQuantizer& quantizer) {
  for (const StateTensor& state : quantizer.state()) {
    if (state.name == "frozen") return state.value.mean().item<double>();
  }
  return -1;
}

TEST(Inq, PartsFreezeByMagnitudeAndStayWhereTheyAre) {
  for (const std::int64_t epochs : {1, 3, 8}) {
    SCOPED_TRACE(epochs);
    const auto quantizer = inq().make_weight({.name = "w", .bits = 4}, {});
    torch::Tensor weight = normal_values({10, 100}, 3);
    quantizer->initialize(weight);
    StepInfo step = training_step();
    step.epochs = epochs;
    step.steps_per_epoch = 40;
    std::vector<double> shares;
    torch::Tensor at_half;
    for (step.epoch = 0; step.epoch < epochs; ++step.epoch) {
      quantizer->begin_epoch(weight, step);
      for (int i = 0; i < step.steps_per_epoch; ++i, ++step.step) {
        torch::Tensor leaf = weight.detach().clone().set_requires_grad(true);
        const torch::Tensor values = quantizer->forward(leaf, step);
        values.sum().backward();
        const double share = share_frozen(*quantizer);
        if (shares.empty() || shares.back() != share) {
          shares.push_back(share);
          if (share == 0.5) at_half = values.detach().clone();
        }
        EXPECT_NEAR(leaf.grad().mean().item<double>(), 1 - share, 1e-12);  // what is frozen has no gradient
        weight -= 0.01;                                                    // as momentum and decay would: frozen weights too
        quantizer->after_update(weight, step);
      }
    }
    EXPECT_EQ(shares, (std::vector<double>{0.5, 0.75, 0.875, 1}));
    // The first half, the largest weights, never moved; all weights lie on the grid, evaluated or not.
    const torch::Tensor original = normal_values({10, 100}, 3);
    const double median = std::get<0>(original.abs().flatten().sort())[500].item<double>();
    const torch::Tensor first_half = original.abs() >= median;
    EXPECT_TRUE(torch::equal(weight.index({first_half}), at_half.index({first_half})));
    EXPECT_TRUE(torch::equal(weight, quantizer->forward(weight, evaluation_step())));
    EXPECT_TRUE(torch::equal(weight, quantizer->forward(weight, training_step())));
  }
}

TEST(Inq, PartsWaitForTheFirstQuantizedEpoch) {
  const auto quantizer = inq().make_weight({.name = "w", .bits = 4}, {});
  torch::Tensor weight = normal_values({10, 100}, 3);
  quantizer->initialize(weight);
  StepInfo step = training_step();
  step.epochs = 8;
  step.steps_per_epoch = 10;
  std::vector<double> shares;
  for (step.epoch = 0; step.epoch < step.epochs; ++step.epoch) {
    step.quantize = step.epoch >= 4;
    quantizer->begin_epoch(weight, step);
    shares.push_back(share_frozen(*quantizer));
    for (int i = 0; i < 10; ++i, ++step.step) quantizer->after_update(weight, step);
  }
  EXPECT_EQ(shares, (std::vector<double>{0, 0, 0, 0, 0.5, 0.75, 0.875, 1}));
}

}  // namespace
}  // namespace nibble::train
