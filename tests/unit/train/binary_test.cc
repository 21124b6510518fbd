// BinaryConnect, BNN, XNOR-Net, ABC-Net.
#include "quantizer_checks.h"

namespace nibble::train {
namespace {

TEST(BinaryConnect, SignsWithTheGradientBehind) {
  const auto quantizer = find_quantizer("binaryconnect").make_weight({.name = "w", .bits = 1, .fan_in = 5, .fan_out = 1}, {});
  EXPECT_EQ(quantizer->learning_rate_scale(), 1);  // of float epochs
  torch::Tensor trained = torch::ones({1, 5}, torch::kFloat64);
  quantizer->begin_epoch(trained, training_step());
  // Glorot's coefficient for 5 + 1 connections: sqrt(1.5 / 6) = 1/2.
  EXPECT_NEAR(quantizer->learning_rate_scale(), 2, 1e-15);
  torch::Tensor weight = torch::tensor({-0.3, 0.0, 0.9, -1.0, 1.2}, torch::kFloat64).view({1, 5}).set_requires_grad(true);
  const torch::Tensor values = quantizer->forward(weight, training_step());
  EXPECT_TRUE(torch::equal(values.flatten(), torch::tensor({-1.0, 1.0, 1.0, -1.0, 1.0}, torch::kFloat64)));
  const torch::Tensor g = torch::tensor({1.0, 2.0, 4.0, 8.0, 16.0}, torch::kFloat64).view({1, 5});
  (values * g).sum().backward();
  // Twice the gradient, by the same coefficient; none beyond 1.
  EXPECT_TRUE(torch::equal(weight.grad().flatten(), torch::tensor({2.0, 4.0, 8.0, 16.0, 0.0}, torch::kFloat64)));
  torch::Tensor after = weight.detach().clone() * 3;
  quantizer->after_update(after, training_step());
  EXPECT_TRUE(torch::equal(after.flatten(), torch::tensor({-0.9, 0.0, 1.0, -1.0, 1.0}, torch::kFloat64).mul(1.0)) ||
              relative_difference(after.flatten(), torch::tensor({-0.9, 0.0, 1.0, -1.0, 1.0}, torch::kFloat64)) < 1e-15);
}

TEST(BinaryConnect, StochasticDrawsHaveTheWeightAsMean) {
  const auto quantizer = find_quantizer("binaryconnect").make_weight({.name = "w", .site = 1, .bits = 1}, {{"stochastic", 1}});
  torch::Tensor weight = torch::tensor({-1.0, -0.7, -0.1, 0.0, 0.4, 1.0}, torch::kFloat64).view({6, 1});
  torch::Tensor sum = torch::zeros_like(weight);
  constexpr int kDraws = 5000;
  for (int i = 0; i < kDraws; ++i) {
    StepInfo step = training_step();
    step.step = i;
    const torch::Tensor values = quantizer->forward(weight, step);
    if (i == 0) {
      EXPECT_TRUE(torch::equal(values, quantizer->forward(weight, step)));  // the same step draws the same
    }
    sum += values;
  }
  // A sign's deviation is at most 1: 4 deviations of the mean.
  EXPECT_LE((sum / kDraws - weight).abs().max().item<double>(), 4 / std::sqrt(kDraws));
  EXPECT_EQ(sum[0].item<double>(), -kDraws);
  EXPECT_EQ(sum[5].item<double>(), kDraws);
  const torch::Tensor evaluated = quantizer->forward(weight, evaluation_step());
  EXPECT_TRUE(torch::equal(evaluated.flatten(), torch::tensor({-1.0, -1.0, -1.0, 1.0, 1.0, 1.0}, torch::kFloat64)));
}

TEST(BinaryConnect, TrainedWeightsAreStretchedOnceWithoutChangingASign) {
  const auto quantizer = find_quantizer("binaryconnect").make_weight({.name = "w", .bits = 1}, {{"stretch", 0.5}});
  const torch::Tensor original = normal_values({4, 50}, 2) * 0.02;
  torch::Tensor weight = original.clone();
  StepInfo early = training_step();
  early.quantize = false;
  quantizer->begin_epoch(weight, early);
  EXPECT_TRUE(torch::equal(weight, original));
  quantizer->begin_epoch(weight, training_step());
  EXPECT_TRUE(torch::equal(weight.sign(), original.sign()));
  EXPECT_LE(weight.abs().max().item<double>(), 1);
  EXPECT_GT(weight.abs().mean().item<double>(), 0.4);
  const torch::Tensor once = weight.clone();
  quantizer->begin_epoch(weight, training_step());
  EXPECT_TRUE(torch::equal(weight, once));
}

TEST(Bnn, ActivationsAreSignsWithACutGradient) {
  const auto quantizer = find_quantizer("bnn").make_activation({.name = "x", .bits = 1, .is_signed = true}, {});
  torch::Tensor x = torch::tensor({-1.5, -1.0, -0.2, 0.0, 0.8, 1.1}, torch::kFloat64).set_requires_grad(true);
  const torch::Tensor y = quantizer->forward(x, training_step());
  EXPECT_TRUE(torch::equal(y, torch::tensor({-1.0, -1.0, -1.0, 1.0, 1.0, 1.0}, torch::kFloat64)));
  y.sum().backward();
  EXPECT_TRUE(torch::equal(x.grad(), torch::tensor({0.0, 1.0, 1.0, 1.0, 1.0, 0.0}, torch::kFloat64)));
}

// Rastegari et al., algorithm 1: two filters of 4.
TEST(Xnor, ScaleAndGradientOfAFilter) {
  const auto quantizer = find_quantizer("xnor").make_weight({.name = "w", .bits = 1}, {{"gradient_scale", 1}});
  torch::Tensor weight = torch::tensor({0.5, -0.1, 0.2, -0.4, -1.2, 0.4, 0.6, 0.2}, torch::kFloat64).view({2, 4}).set_requires_grad(true);
  const std::vector<WeightBase> bases = quantizer->bases(weight);
  EXPECT_NEAR(bases[0].scale[0], 0.3, 1e-15);
  EXPECT_NEAR(bases[0].scale[1], 0.6, 1e-15);
  const torch::Tensor g = normal_values({2, 4}, 3);
  (quantizer->forward(weight, training_step()) * g).sum().backward();
  torch::Tensor expected = torch::empty({2, 4}, torch::kFloat64);
  for (int o = 0; o < 2; ++o) {
    double inner = 0;
    for (int j = 0; j < 4; ++j) inner += g[o][j].item<double>() * (weight[o][j].item<double>() < 0 ? -1 : 1);
    for (int i = 0; i < 4; ++i) {
      const double w = weight[o][i].item<double>();
      expected[o][i] = (w < 0 ? -1 : 1) * inner / 4 + (std::abs(w) <= 1 ? g[o][i].item<double>() * (o == 0 ? 0.3 : 0.6) : 0);
    }
  }
  EXPECT_LE(relative_difference(weight.grad(), expected), 1e-14);
}

TEST(Xnor, GradientIsScaledBackToTheSizeOfAFloatWeights) {
  const torch::Tensor weight = normal_values({4, 30}, 5) * 0.03;
  torch::Tensor plain = weight.clone().set_requires_grad(true), scaled = weight.clone().set_requires_grad(true);
  find_quantizer("xnor").make_weight({.name = "w"}, {{"gradient_scale", 1}})->forward(plain, training_step()).square().sum().backward();
  find_quantizer("xnor").make_weight({.name = "w"}, {})->forward(scaled, training_step()).square().sum().backward();
  EXPECT_LE(relative_difference(scaled.grad() * weight.abs().mean(), plain.grad()), 1e-13);
}

TEST(Xnor, KIsTheLayers) {
  const QuantizerRow& row = find_quantizer("xnor");
  EXPECT_FALSE(row.make_activation({.name = "x"}, {})->grid().scales_by_magnitude);
  EXPECT_TRUE(row.make_activation({.name = "x"}, {{"k", 1}})->grid().scales_by_magnitude);
}

// One base is sign(W - mean) times its least squares scale; the residual is orthogonal to every base.
TEST(Abc, WeightScalesAreLeastSquares) {
  for (const double count : {1.0, 3.0, 5.0}) {
    const auto quantizer = find_quantizer("abc").make_weight({.name = "w", .per_channel = true}, {{"weight_bases", count}});
    const torch::Tensor weight = normal_values({3, 40}, 6) * 0.05;
    const std::vector<WeightBase> bases = quantizer->bases(weight);
    ASSERT_EQ(bases.size(), static_cast<std::size_t>(count));
    const torch::Tensor residual = weight - sum_of(bases, weight);
    for (const WeightBase& base : bases) {
      const torch::Tensor inner = (residual * base.codes).sum(1).abs() / (weight.abs().sum(1));
      EXPECT_LE(inner.max().item<double>(), 1e-6);  // what the ridge leaves
    }
  }
  // The signs of the paper's second base of three: around the mean.
  const torch::Tensor weight = torch::tensor({0.0, 1.0, 2.0, 5.0}, torch::kFloat64).view({4, 1});
  const auto quantizer = find_quantizer("abc").make_weight({.name = "w"}, {{"weight_bases", 1}});
  EXPECT_TRUE(torch::equal(quantizer->bases(weight)[0].codes.flatten(), torch::tensor({-1, -1, 1, 1}, torch::kInt32)));
  EXPECT_NEAR(quantizer->bases(weight)[0].scale[0], 1.5, 1e-6);  // (5 + 2 - 1 - 0) / 4
}

TEST(Abc, WeightGradientIsThePapersSumOfScales) {
  torch::Tensor weight = (normal_values({2, 30}, 6) * 0.05).set_requires_grad(true);
  const auto quantizer = find_quantizer("abc").make_weight({.name = "w"}, {{"gradient_scale", 1}});
  double sum = 0;  // of the a_i: codes carry the sign of a_i, so it is told by the base's correlation with the weight's sign
  const torch::Tensor centered = weight.detach() - weight.detach().mean();
  const std::vector<WeightBase> bases = quantizer->bases(weight);
  for (std::size_t i = 0; i < 3; ++i) {
    const torch::Tensor sign = (centered + (static_cast<double>(i) - 1) * weight.detach().std(false) >= 0).to(torch::kInt32) * 2 - 1;
    sum += torch::equal(sign, bases[i].codes) ? bases[i].scale[0] : -bases[i].scale[0];
  }
  const torch::Tensor g = normal_values({2, 30}, 7);
  (quantizer->forward(weight, training_step()) * g).sum().backward();
  EXPECT_LE(relative_difference(weight.grad(), g * sum), 1e-12);
}

TEST(Abc, ActivationGradientsByHand) {
  const auto quantizer = find_quantizer("abc").make_activation({.name = "x", .is_signed = true}, {{"activation_bases", 2}});
  torch::Tensor x = torch::tensor({{-1.0, 0.1, 0.45, 2.0}}, torch::kFloat64).set_requires_grad(true);
  quantizer->initialize(x.detach(), training_step());
  torch::Tensor shifts = quantizer->learned()[0].value, scales = quantizer->learned()[1].value;
  {
    torch::NoGradGuard guard;
    shifts.copy_(torch::tensor({0.5, 0.0}, torch::kFloat64));  // thresholds 0 and .5
    scales.copy_(torch::tensor({0.6, 0.2}, torch::kFloat64));
  }
  const torch::Tensor y = quantizer->forward(x, training_step());
  EXPECT_LE(relative_difference(y.flatten(), torch::tensor({-0.8, 0.4, 0.4, 0.8}, torch::kFloat64)), 1e-15);
  const torch::Tensor g = torch::tensor({{1.0, 2.0, 4.0, 8.0}}, torch::kFloat64);
  (y * g).sum().backward();
  // Windows [-.5, .5] and [0, 1]: the second and third value lie in both.
  EXPECT_LE(relative_difference(x.grad().flatten(), torch::tensor({0.0, 1.6, 3.2, 0.0}, torch::kFloat64)), 1e-15);
  const double scaled = 1 / std::sqrt(4.0);
  EXPECT_LE(relative_difference(shifts.grad(), torch::tensor({6 * 0.6 * scaled, 6 * 0.2 * scaled}, torch::kFloat64)), 1e-15);
  EXPECT_LE(relative_difference(scales.grad(), torch::tensor({(-1 + 2 + 4 + 8) * scaled, (-1 - 2 - 4 + 8) * scaled}, torch::kFloat64)),
            1e-15);
}

TEST(Abc, ActivationsStartFromTheData) {
  for (const bool is_signed : {true, false}) {
    const auto quantizer = find_quantizer("abc").make_activation({.name = "x", .is_signed = is_signed}, {});
    torch::Tensor x = normal_values({8, 500}, 9);
    if (!is_signed) x = x.relu();
    quantizer->initialize(x, training_step());
    const double error = (quantizer->forward(x, evaluation_step()) - x).square().mean().item<double>();
    EXPECT_LT(error, 0.2 * x.square().mean().item<double>());
  }
}

}  // namespace
}  // namespace nibble::train
