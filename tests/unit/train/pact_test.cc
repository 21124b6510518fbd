#include "quantizer_checks.h"

namespace nibble::train {
namespace {

// Choi et al. 2018, eq. 1-3: values below 0, inside, at and above a = 2, 2 bits: steps of 2/3.
TEST(Pact, CutsAtAlphaWhoseGradientIsOneFromAlphaOn) {
  const auto quantizer = find_quantizer("pact").make_activation({.name = "x", .bits = 2, .after_relu = true}, {{"alpha", 2}});
  torch::Tensor x = torch::tensor({-1.0, 0.3, 0.4, 1.2, 2.0, 5.0}, torch::kFloat64).set_requires_grad(true);
  quantizer->initialize(x.detach(), training_step());
  const torch::Tensor y = quantizer->forward(x, training_step());
  const torch::Tensor expected = torch::tensor({0.0, 0.0, 2 / 3.0, 4 / 3.0, 2.0, 2.0}, torch::kFloat64);
  EXPECT_LE(relative_difference(y, expected), 1e-15);
  const torch::Tensor g = torch::tensor({1.0, 2.0, 4.0, 8.0, 16.0, 32.0}, torch::kFloat64);
  (y * g).sum().backward();
  EXPECT_TRUE(torch::equal(x.grad(), torch::tensor({0.0, 2.0, 4.0, 8.0, 0.0, 0.0}, torch::kFloat64)));
  const LearnedTensor alpha = quantizer->learned()[0];
  EXPECT_EQ(alpha.value.grad().item<double>(), 16 + 32);
  EXPECT_GT(alpha.weight_decay, 0);
}

TEST(Pact, StartsAtTheClipOfLeastError) {
  const auto quantizer = find_quantizer("pact").make_activation({.name = "x", .bits = 2, .after_relu = true}, {});
  const torch::Tensor x = normal_values({20000}, 3).abs();
  quantizer->initialize(x, training_step());
  // Half a normal on 4 values 0 .. c: searched apart from the code under test, on a fine grid, c = 2.5 to 2.7 of deviation 1.
  double best = 0, least = 1e300;
  for (double c = 0.5; c < 4; c += 0.02) {
    const double error = ((x * 3 / c).round().clamp(0, 3) * c / 3 - x).square().mean().item<double>();
    if (error < least) std::tie(best, least) = std::tuple(c, error);
  }
  EXPECT_NEAR(quantizer->learned()[0].value.item<double>(), best, x.max().item<double>() / 40 + 0.02);
}

TEST(Pact, LeavesSignedEdgesToEma) {
  const auto quantizer = find_quantizer("pact").make_activation({.name = "x", .bits = 2, .is_signed = true}, {});
  quantizer->initialize(torch::tensor({-1.0, 1.0}, torch::kFloat64), training_step());
  EXPECT_EQ(quantizer->grid().uniform->type.bit_width, 8);
  EXPECT_LT(quantizer->forward(torch::tensor({-1.0}, torch::kFloat64), evaluation_step()).item<double>(), -0.99);
}

}  // namespace
}  // namespace nibble::train
