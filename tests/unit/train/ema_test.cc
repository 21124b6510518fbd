#include "quantizer_checks.h"

namespace nibble::train {
namespace {

TEST(Ema, WeightsUseTheirOwnMaximum) {
  const auto quantizer = find_quantizer("ema").make_weight({.name = "w", .bits = 3, .per_channel = true}, {});
  torch::Tensor weight = torch::tensor({0.3, -0.6, 0.09, 3.0, 1.4, -1.6}, torch::kFloat64).view({2, 3}).set_requires_grad(true);
  // Codes -3 .. 3: scales .2 and 1.
  const std::vector<WeightBase> bases = quantizer->bases(weight);
  EXPECT_NEAR(bases[0].scale[0], 0.2, 1e-15);
  EXPECT_NEAR(bases[0].scale[1], 1, 1e-15);
  EXPECT_TRUE(
      torch::equal(bases[0].codes.flatten(), torch::tensor({1, -3, 0, 3, 1, -2}, torch::kInt32)) ||
      torch::equal(bases[0].codes.flatten(), torch::tensor({2, -3, 0, 3, 1, -2}, torch::kInt32)));  // .3 / .2 is a tie up to rounding
  quantizer->forward(weight, training_step()).sum().backward();
  EXPECT_TRUE(torch::equal(weight.grad(), torch::ones({2, 3}, torch::kFloat64)));
}

TEST(Ema, RangesMoveByTheirDecayAndHoldZeroExactly) {
  const auto quantizer = find_quantizer("ema").make_activation({.name = "x", .bits = 8, .is_signed = true}, {{"decay", 0.75}});
  quantizer->initialize(torch::tensor({-1.0, 3.0}, torch::kFloat64), training_step());
  quantizer->forward(torch::tensor({-1.0, 3.0}, torch::kFloat64), training_step());
  quantizer->forward(torch::tensor({1.0, 7.0}, torch::kFloat64), training_step());  // its lower end is 0: the range holds 0
  const double lowest = 0.75 * -1 + 0.25 * 0, highest = 0.75 * 3 + 0.25 * 7;
  const QuantParams params = *quantizer->grid().uniform;
  EXPECT_NEAR(params.scale[0], (highest - lowest) / 255, 1e-8);
  EXPECT_EQ(params.zero_point[0], std::lround(-lowest / static_cast<double>(params.scale[0])));
  const torch::Tensor zero = quantizer->forward(torch::zeros({1}, torch::kFloat64), evaluation_step());
  EXPECT_EQ(zero.item<double>(), 0);
}

TEST(Ema, GradientPassesInsideTheRangeOnly) {
  const auto quantizer = find_quantizer("ema").make_activation({.name = "x", .bits = 4, .is_signed = true}, {});
  quantizer->initialize(torch::tensor({-1.0, 2.0}, torch::kFloat64), training_step());
  StepInfo frozen = training_step();
  frozen.freeze_statistics = true;
  torch::Tensor x = torch::tensor({-1.5, -0.9, 0.4, 1.9, 2.5}, torch::kFloat64).set_requires_grad(true);
  quantizer->forward(x, frozen).sum().backward();
  EXPECT_TRUE(torch::equal(x.grad(), torch::tensor({0.0, 1.0, 1.0, 1.0, 0.0}, torch::kFloat64)));
}

TEST(Ema, DelaySwitchesActivationsOnAfterItsSteps) {
  const auto quantizer = find_quantizer("ema").make_activation({.name = "x", .bits = 2}, {{"delay", 5}});
  const torch::Tensor x = torch::tensor({0.0, 0.26, 0.8, 1.0}, torch::kFloat64);
  quantizer->initialize(x, training_step());
  StepInfo step = training_step();
  step.step = 4;
  EXPECT_TRUE(torch::equal(quantizer->forward(x, step), x));
  step.step = 5;
  EXPECT_FALSE(torch::equal(quantizer->forward(x, step), x));
  EXPECT_FALSE(torch::equal(quantizer->forward(x, evaluation_step()), x));  // what would be exported
}

}  // namespace
}  // namespace nibble::train
