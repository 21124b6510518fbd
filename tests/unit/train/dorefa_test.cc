#include "quantizer_checks.h"

namespace nibble::train {
namespace {

const QuantizerRow& dorefa() { return find_quantizer("dorefa"); }

// Eq. 9 on 2 bits, where the largest |tanh w| is tanh 1.
TEST(Dorefa, WeightsAreOddCodesOfTanh) {
  const auto quantizer = dorefa().make_weight({.name = "w", .bits = 2}, {{"unit", 1}});
  torch::Tensor weight = torch::tensor({-1.0, -0.2, 0.1, 0.6, 0.9}, torch::kFloat64).view({5, 1});
  quantizer->initialize(weight);
  const double m = std::tanh(1.0);
  torch::Tensor expected = torch::empty({5, 1}, torch::kFloat64);
  for (int i = 0; i < 5; ++i) {
    const double t = std::tanh(weight[i].item<double>()) / (2 * m) + 0.5;
    expected[i] = 2 * (std::nearbyint(t * 3) / 3) - 1;
  }
  EXPECT_LE(relative_difference(quantizer->forward(weight, evaluation_step()), expected), 1e-14);
  EXPECT_TRUE(torch::equal(quantizer->bases(weight)[0].codes.flatten(), torch::tensor({-3, -1, 1, 3, 3}, torch::kInt32)));
}

// Straight through Q_k, the rest is smooth: the gradient is that of tanh w / max |tanh w|, the maximum's included.
TEST(Dorefa, WeightGradientIsTheSmoothParts) {
  const auto quantizer = dorefa().make_weight({.name = "w", .bits = 4, .per_channel = true}, {{"unit", 1}});
  torch::Tensor weight = normal_values({3, 5}, 4).set_requires_grad(true);
  quantizer->initialize(weight.detach());
  const torch::Tensor g = normal_values({3, 5}, 5);
  (quantizer->forward(weight, training_step()) * g).sum().backward();
  const auto smooth = [&] {
    const torch::Tensor t = weight.tanh();
    return (t / t.abs().amax(1, true) * g).sum().item<double>();
  };
  EXPECT_LE(relative_difference(weight.grad(), finite_differences(smooth, weight.detach())), 1e-8);
}

TEST(Dorefa, OneBitIsTheSignTimesTheMean) {
  const auto quantizer = dorefa().make_weight({.name = "w", .bits = 1}, {});
  torch::Tensor weight = torch::tensor({-3.0, 0.0, 1.0, -2.0}, torch::kFloat64).view({4, 1}).set_requires_grad(true);
  const torch::Tensor values = quantizer->forward(weight, training_step());
  EXPECT_TRUE(torch::equal(values.flatten(), torch::tensor({-1.5, 1.5, 1.5, -1.5}, torch::kFloat64)));
  values.sum().backward();
  EXPECT_TRUE(torch::equal(weight.grad(), torch::ones({4, 1}, torch::kFloat64)));
}

TEST(Dorefa, TheFittedUnitKeepsTrainedWeightsWhereTheyWere) {
  const torch::Tensor weight = normal_values({8, 50}, 6) * 0.03;
  const auto quantizer = dorefa().make_weight({.name = "w", .bits = 4}, {});
  quantizer->initialize(weight);
  const double error = (quantizer->forward(weight, evaluation_step()) - weight).square().mean().sqrt().item<double>();
  EXPECT_LT(error, 0.3 * 0.03);
}

TEST(Dorefa, ActivationsAreCutToTheUnit) {
  const auto quantizer = dorefa().make_activation({.name = "x", .bits = 2}, {{"activation_unit", 1}});
  torch::Tensor x = torch::tensor({-0.5, 0.2, 0.5, 0.9, 1.7}, torch::kFloat64).set_requires_grad(true);
  quantizer->initialize(x.detach(), training_step());
  const torch::Tensor y = quantizer->forward(x, training_step());
  EXPECT_LE(relative_difference(y, torch::tensor({0.0, 1 / 3.0, 2 / 3.0, 1.0, 1.0}, torch::kFloat64)), 1e-15);
  y.sum().backward();
  EXPECT_TRUE(torch::equal(x.grad(), torch::tensor({0.0, 1.0, 1.0, 1.0, 0.0}, torch::kFloat64)));
}

torch::Tensor rounded_gradient(int bits, const torch::Tensor& g, const StepInfo& step) {
  const auto quantizer = dorefa().make_gradient({.name = "y", .site = 2, .bits = bits}, {});
  torch::Tensor y = torch::zeros_like(g).set_requires_grad(true);
  quantizer->forward(y, step).backward(g);
  return y.grad();
}

// Eq. 12: every gradient lies on its own sample's grid, and the mean over many steps is the gradient.
TEST(Dorefa, GradientsAreRoundedPerSampleWithoutBias) {
  torch::Tensor g = normal_values({3, 4}, 7);
  g[1].mul_(1e-3);
  g[2].zero_();
  const double steps = 7;
  torch::Tensor sum = torch::zeros_like(g);
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    StepInfo step = sampled_step(3);
    step.step = i;
    const torch::Tensor rounded = rounded_gradient(3, g, step);
    sum += rounded;
    if (i > 20) continue;
    for (int sample = 0; sample < 2; ++sample) {
      const double m = g[sample].abs().max().item<double>();
      const torch::Tensor index = (rounded[sample] / (2 * m) + 0.5) * steps;
      EXPECT_LE((index - index.round()).abs().max().item<double>(), 1e-9);
    }
    EXPECT_EQ(rounded[2].abs().sum().item<double>(), 0);  // no NaN from 0 / 0
  }
  // The uniform error of one rounding is at most half a step 2 m / 7 (deviation .29 of it): 5 deviations of the mean of 4000.
  for (int sample = 0; sample < 2; ++sample) {
    const double step_size = 2 * g[sample].abs().max().item<double>() / steps;
    EXPECT_LE((sum[sample] / kDraws - g[sample]).abs().max().item<double>(), 5 * 0.5 * step_size / std::sqrt(kDraws));
  }
}

// A sample's gradient depends on its index, not on where it stands or in whose batch.
TEST(Dorefa, GradientsDoNotDependOnTheBatchLayout) {
  const torch::Tensor g = normal_values({4, 6}, 8);
  StepInfo whole = sampled_step(4), half = sampled_step(2);
  half.sample_ids = torch::tensor({3, 1}, torch::kInt64);
  const torch::Tensor all = rounded_gradient(2, g, whole);
  const torch::Tensor some = rounded_gradient(2, torch::stack({g[3], g[1]}), half);
  EXPECT_TRUE(torch::equal(some[0], all[3]));
  EXPECT_TRUE(torch::equal(some[1], all[1]));
  EXPECT_EQ(rounded_gradient(2, torch::zeros({0, 6}, torch::kFloat64), sampled_step(0)).numel(), 0);
}

}  // namespace
}  // namespace nibble::train
