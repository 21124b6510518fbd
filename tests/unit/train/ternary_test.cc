// TWN and TTQ.
#include "quantizer_checks.h"

namespace nibble::train {
namespace {

TEST(Twn, ThresholdAndScaleArePapers) {
  const auto quantizer = find_quantizer("twn").make_weight({.name = "w", .bits = 2, .per_channel = true}, {});
  // Row 1: E|w| = .5, D = .35: .9 and -.6 stay, a = .75. Row 2: E|w| = 1, D = .7: -.8, 1.7 and 1.0 stay, a = 3.5 / 3.
  torch::Tensor weight = torch::tensor({0.9, -0.6, 0.3, -0.2, -0.8, 1.7, 1.0, 0.5}, torch::kFloat64).view({2, 4}).set_requires_grad(true);
  const std::vector<WeightBase> bases = quantizer->bases(weight);
  EXPECT_TRUE(torch::equal(bases[0].codes.flatten(), torch::tensor({1, -1, 0, 0, -1, 1, 1, 0}, torch::kInt32)));
  EXPECT_NEAR(bases[0].scale[0], 0.75, 1e-15);
  EXPECT_NEAR(bases[0].scale[1], 3.5 / 3, 1e-15);
  EXPECT_EQ(bases[0].bits, 2);
  const torch::Tensor g = normal_values({2, 4}, 1);
  (quantizer->forward(weight, training_step()) * g).sum().backward();
  EXPECT_TRUE(torch::equal(weight.grad(), g));
}

TEST(Ttq, ValuesAndGradientsArePapers) {
  const auto quantizer = find_quantizer("ttq").make_weight({.name = "w", .bits = 2}, {{"threshold", 0.2}, {"gradient_scale", 1}});
  // D = .2: two above, one below, two between.
  torch::Tensor weight = torch::tensor({1.0, 0.1, -0.5, 0.4, -0.15}, torch::kFloat64).view({5, 1}).set_requires_grad(true);
  quantizer->initialize(weight.detach());
  const std::vector<LearnedTensor> learned = quantizer->learned();
  EXPECT_NEAR(learned[0].value.item<double>(), 0.7, 1e-15);
  EXPECT_NEAR(learned[1].value.item<double>(), 0.5, 1e-15);
  const torch::Tensor values = quantizer->forward(weight, training_step());
  EXPECT_LE(relative_difference(values.flatten(), torch::tensor({0.7, 0.0, -0.5, 0.7, 0.0}, torch::kFloat64)), 1e-15);
  const torch::Tensor g = torch::tensor({1.0, 2.0, 4.0, 8.0, 16.0}, torch::kFloat64).view({5, 1});
  (values * g).sum().backward();
  // Eq. 7 and 8; Wn enters with a minus.
  EXPECT_EQ(learned[0].value.grad().item<double>(), 1 + 8);
  EXPECT_EQ(learned[1].value.grad().item<double>(), -4);
  EXPECT_LE(relative_difference(weight.grad().flatten(), torch::tensor({0.7, 2.0, 2.0, 5.6, 16.0}, torch::kFloat64)), 1e-15);
  // In the learned scales the forward pass is smooth: finite differences agree.
  torch::Tensor wn = learned[1].value.detach();
  const auto loss = [&] { return (quantizer->forward(weight, evaluation_step()) * g).sum().item<double>(); };
  EXPECT_NEAR(finite_differences(loss, wn).item<double>(), -4, 1e-7);
}

TEST(Ttq, ScaledSumsFitTheLearningRate) {
  const torch::Tensor weight = normal_values({10, 10}, 2);
  const auto plain = find_quantizer("ttq").make_weight({.name = "w"}, {{"gradient_scale", 1}});
  const auto scaled = find_quantizer("ttq").make_weight({.name = "w"}, {});
  for (const auto* quantizer : {&plain, &scaled}) {
    (*quantizer)->initialize(weight);
    (*quantizer)->forward(weight, training_step()).sum().backward();
  }
  const double ratio = plain->learned()[0].value.grad().item<double>() / scaled->learned()[0].value.grad().item<double>();
  EXPECT_NEAR(ratio, 10, 1e-12);  // the square root of 100 elements
}

}  // namespace
}  // namespace nibble::train
