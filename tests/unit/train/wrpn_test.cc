#include "quantizer_checks.h"

namespace nibble::train {
namespace {

TEST(Wrpn, ThePapersGridAndGradient) {
  const auto quantizer = find_quantizer("wrpn").make_weight({.name = "w", .bits = 3}, {{"unit", 1}});
  torch::Tensor weight = torch::tensor({-1.4, -0.6, 0.1, 0.2, 0.9, 1.2}, torch::kFloat64).view({6, 1}).set_requires_grad(true);
  quantizer->initialize(weight.detach());
  const torch::Tensor values = quantizer->forward(weight, training_step());
  const torch::Tensor expected = torch::tensor({-1.0, -2 / 3.0, 0.0, 1 / 3.0, 1.0, 1.0}, torch::kFloat64);
  EXPECT_LE(relative_difference(values.flatten(), expected), 1e-15);
  values.sum().backward();
  EXPECT_TRUE(torch::equal(weight.grad().flatten(), torch::tensor({0.0, 1.0, 1.0, 1.0, 1.0, 0.0}, torch::kFloat64)));
}

TEST(Wrpn, TheFittedUnitSuitsTrainedWeights) {
  const torch::Tensor weight = normal_values({8, 100}, 6) * 0.03;
  for (const bool per_channel : {false, true}) {
    const auto quantizer = find_quantizer("wrpn").make_weight({.name = "w", .bits = 4, .per_channel = per_channel}, {});
    quantizer->initialize(weight);
    const double error = (quantizer->forward(weight, evaluation_step()) - weight).square().mean().sqrt().item<double>();
    EXPECT_LT(error, 0.15 * 0.03);
    EXPECT_EQ(quantizer->bases(weight)[0].scale.size(), per_channel ? 8U : 1U);
  }
}

}  // namespace
}  // namespace nibble::train
