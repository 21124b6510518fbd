// Dynamic fixed point, learned powers of two, LSQ+, clipped activations.
#include "quantizer_checks.h"

namespace nibble::train {
namespace {

const QuantizerRow& fixed_point() { return find_quantizer("dynamic_fixed_point"); }

double scale_of(const WeightQuantizer& quantizer, const torch::Tensor& weight) { return quantizer.bases(weight)[0].scale[0]; }

TEST(DynamicFixedPoint, WeightsShareThePowerOfTwoThatTheRuleAllows) {
  // 4 bits: codes -8 .. 7. 1.9 / 2^-2 = 7.6 is beyond 7.5, 1.9 / 2^-1 = 3.8 is not.
  torch::Tensor weight = torch::tensor({1.9, -0.3, 0.6, 0.0}, torch::kFloat64).view({4, 1}).set_requires_grad(true);
  const auto quantizer = fixed_point().make_weight({.name = "w", .bits = 4}, {{"every", 1}});
  quantizer->initialize(weight.detach());
  EXPECT_EQ(scale_of(*quantizer, weight), 0.5);
  const torch::Tensor values = quantizer->forward(weight, training_step());
  EXPECT_TRUE(torch::equal(values.flatten(), torch::tensor({2.0, -0.5, 0.5, 0.0}, torch::kFloat64)));
  values.sum().backward();
  EXPECT_TRUE(torch::equal(weight.grad(), torch::ones({4, 1}, torch::kFloat64)));
  // Weights that grow double it, one step a look; weights that shrink halve it.
  torch::Tensor grown = weight.detach() * 4;
  for (const double expected : {1.0, 2.0, 2.0}) {
    quantizer->after_update(grown, training_step());
    EXPECT_EQ(scale_of(*quantizer, grown), expected);
  }
  torch::Tensor shrunk = weight.detach() / 8;
  for (const double expected : {1.0, 0.5, 0.25, 0.125, 0.0625, 0.0625}) {
    quantizer->after_update(shrunk, training_step());
    EXPECT_EQ(scale_of(*quantizer, shrunk), expected);
  }
}

TEST(DynamicFixedPoint, AFewMayOverflow) {
  torch::Tensor x = torch::full({1, 20000}, 0.9, torch::kFloat64);
  x[0][7] = 100;  // 1 of 20000 is .005 %
  const auto quantizer = fixed_point().make_activation({.name = "x", .bits = 4}, {{"every", 1}});
  quantizer->initialize(x, training_step());
  EXPECT_EQ(quantizer->grid().uniform->scale[0], 0.0625F);  // 15.5 / 16 holds .9
  x[0][8] = x[0][9] = 100;                                  // .015 %
  quantizer->forward(x, training_step());
  EXPECT_EQ(quantizer->grid().uniform->scale[0], 0.125F);
}

TEST(DynamicFixedPoint, ScalesAreLookedAtAfterTheirSteps) {
  const auto quantizer = fixed_point().make_activation({.name = "x", .bits = 4}, {{"every", 3}});
  quantizer->initialize(torch::ones({4, 4}, torch::kFloat64), training_step());
  const float start = quantizer->grid().uniform->scale[0];
  const torch::Tensor x = torch::full({4, 4}, 10.0, torch::kFloat64);
  for (std::int64_t i = 0; i < 6; ++i) {
    StepInfo step = training_step();
    step.step = i;
    quantizer->forward(x, step);
    EXPECT_EQ(quantizer->grid().uniform->scale[0], start * (i < 2 ? 1.0F : i < 5 ? 2.0F : 4.0F)) << i;
  }
}

TEST(DynamicFixedPoint, GradientsAreRoundedOnTheirOwnScale) {
  const auto quantizer = fixed_point().make_gradient({.name = "y", .bits = 4}, {{"every", 1}, {"overflow", 0}});
  const auto rounded = [&](const torch::Tensor& g) {
    torch::Tensor y = torch::zeros_like(g).set_requires_grad(true);
    quantizer->forward(y, training_step()).backward(g);
    return y.grad();
  };
  const torch::Tensor g = torch::tensor({0.001, -0.0004, 0.0009, 0.0}, torch::kFloat64);
  // 2^-13 holds .001 = 8.2 steps no more, 2^-12 does: 4.1, -1.6, 3.7 steps.
  const torch::Tensor expected = torch::tensor({4.0, -2.0, 4.0, 0.0}, torch::kFloat64) * 0x1p-12;
  EXPECT_TRUE(torch::equal(rounded(g), expected));
  // Ten times the gradients saturate once, at the doubled scale already, and fit two looks later.
  const torch::Tensor large = g * 10;
  EXPECT_EQ(rounded(large)[0].item<double>(), 7 * 0x1p-11);
  rounded(large);
  EXPECT_NEAR(rounded(large)[0].item<double>(), 0.01, 0x1p-10);
  EXPECT_EQ(rounded(torch::zeros({0, 4}, torch::kFloat64)).numel(), 0);
}

// Esser's step gradient times s ln 2, for a scale that is the next power of two.
TEST(Tqt, ScaleIsAPowerOfTwoWithTheLogarithmsGradient) {
  const auto quantizer = find_quantizer("tqt").make_weight({.name = "w", .bits = 3}, {});
  torch::Tensor weight = torch::tensor({-3.0, -0.6, 0.3, 0.7, 5.0}, torch::kFloat64).view({5, 1}).set_requires_grad(true);
  quantizer->initialize(weight.detach());
  torch::Tensor log_threshold = quantizer->learned()[0].value;
  {
    torch::NoGradGuard guard;
    log_threshold.fill_(0.3);  // 2^1 / 2^2 = .5
  }
  const torch::Tensor values = quantizer->forward(weight, training_step());
  EXPECT_TRUE(torch::equal(values.flatten(), torch::tensor({-2.0, -0.5, 0.5, 0.5, 1.5}, torch::kFloat64)));
  values.sum().backward();
  EXPECT_TRUE(torch::equal(weight.grad().flatten(), torch::tensor({0.0, 1.0, 1.0, 1.0, 0.0}, torch::kFloat64)));
  const double step_gradient = -4 + (-1 + 1.2) + (1 - 0.6) + (1 - 1.4) + 3;
  const double expected = step_gradient * 0.5 * std::log(2.0) / (0.25 * std::sqrt(5 * 3.0));
  EXPECT_NEAR(log_threshold.grad().item<double>(), expected, 1e-12);
}

TEST(LsqPlus, OffsetAndStepGradientsByHand) {
  const auto quantizer = find_quantizer("lsq_plus").make_activation({.name = "x", .bits = 2, .is_signed = true}, {});
  torch::Tensor x = torch::tensor({{-2.0, -0.3, 0.2, 0.6, 3.0}}, torch::kFloat64).set_requires_grad(true);
  quantizer->initialize(x.detach(), training_step());
  torch::Tensor step = quantizer->learned()[0].value, offset = quantizer->learned()[1].value;
  {
    torch::NoGradGuard guard;
    step.fill_(0.5);
    offset.fill_(-0.6);  // zero point rne(1.2) = 1: codes less it are -1 .. 2
  }
  const torch::Tensor y = quantizer->forward(x, training_step());
  EXPECT_TRUE(torch::equal(y.flatten(), torch::tensor({-0.5, -0.5, 0.0, 0.5, 1.0}, torch::kFloat64)));
  EXPECT_EQ(quantizer->grid().uniform->zero_point[0], 1);
  y.sum().backward();
  EXPECT_TRUE(torch::equal(x.grad().flatten(), torch::tensor({0.0, 1.0, 1.0, 1.0, 0.0}, torch::kFloat64)));
  const double scale = 1 / std::sqrt(5 * 3.0);
  EXPECT_NEAR(offset.grad().item<double>(), 2 * scale, 1e-12);  // the two outside
  // Inside rne(x/s) - x/s; outside the codes -1 and 2 less the zero point's own residual, (-b/s) - z = .2.
  const double inside = (-1 + 0.6) + (0 - 0.4) + (1 - 1.2);
  EXPECT_NEAR(step.grad().item<double>(), (inside + (-1 + 1.2) + (2 + 1.2)) * scale, 1e-12);
}

TEST(LsqPlus, StartsNearTheData) {
  const torch::Tensor x = normal_values({4, 500}, 4) + 0.7;
  const auto quantizer = find_quantizer("lsq_plus").make_activation({.name = "x", .bits = 4, .is_signed = true}, {});
  quantizer->initialize(x, training_step());
  EXPECT_LT((quantizer->forward(x, evaluation_step()) - x).square().mean().item<double>(), 0.03);
}

TEST(ReluClip, TrainingSeesTheCutAlone) {
  torch::Tensor x = torch::tensor({-1.0, 0.37, 1.0, 4.2, 6.0, 8.0}, torch::kFloat64);
  for (const auto& [name, end] : {std::pair<std::string, double>{"relu1", 1}, {"relu6", 6}}) {
    const auto quantizer = find_quantizer(name).make_activation({.name = "x", .bits = 4}, {});
    quantizer->initialize(x, training_step());
    EXPECT_TRUE(torch::equal(quantizer->forward(x, training_step()), x.clamp(0, end)));
    EXPECT_NEAR(quantizer->grid().uniform->scale[0], end / 15, 1e-7);
    EXPECT_TRUE(quantizer->learned().empty());
  }
  const auto learned = find_quantizer("relu_clip").make_activation({.name = "x", .bits = 4}, {{"clip", 5}});
  learned->initialize(x, training_step());
  x.set_requires_grad(true);
  learned->forward(x, training_step()).sum().backward();
  EXPECT_TRUE(torch::equal(x.grad(), torch::tensor({0.0, 1.0, 1.0, 1.0, 0.0, 0.0}, torch::kFloat64)));
  torch::Tensor clip = learned->learned()[0].value;
  EXPECT_EQ(clip.grad().item<double>(), 2);
  const auto loss = [&] { return learned->forward(x, training_step()).sum().item<double>(); };
  EXPECT_NEAR(finite_differences(loss, clip.detach()).item<double>(), 2, 1e-7);
}

}  // namespace
}  // namespace nibble::train
