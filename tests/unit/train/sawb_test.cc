#include "quantizer_checks.h"

namespace nibble::train {
namespace {

// Moments by hand, then the clip from the printed line, then the nearest of -a, -a/3, a/3, a.
TEST(Sawb, TwoBitsAreFourOddCodesOfTheFittedClip) {
  const auto quantizer = find_quantizer("sawb").make_weight({.name = "w", .bits = 2}, {});
  torch::Tensor weight = torch::tensor({-2.0, -0.5, 0.1, 0.2, 0.7, 1.5}, torch::kFloat64).view({6, 1}).set_requires_grad(true);
  const double root = std::sqrt((4 + 0.25 + 0.01 + 0.04 + 0.49 + 2.25) / 6), mean = 5.0 / 6;
  const std::vector<WeightBase> bases = quantizer->bases(weight);
  const double clip = bases[0].scale[0] * 3;
  EXPECT_NEAR(clip, 3.12 * root - 2.064 * mean, 0.02 * clip);  // the paper's own coefficients
  EXPECT_TRUE(torch::equal(bases[0].codes.flatten(), torch::tensor({-3, -1, 1, 1, 1, 3}, torch::kInt32)));
  EXPECT_EQ(bases[0].bits, 3);
  quantizer->forward(weight, training_step()).sum().backward();
  EXPECT_TRUE(torch::equal(weight.grad().flatten(), torch::tensor({0.0, 1.0, 1.0, 1.0, 1.0, 1.0}, torch::kFloat64)));
}

// On the densities that the lines were fitted to, the clip is as close to the best one as the script says.
TEST(Sawb, ClipsOfNormalWeightsAreNearTheBest) {
  const torch::Tensor weight = normal_values({1, 20000}, 8);
  for (int bits = 1; bits <= 8; ++bits) {
    const auto quantizer = find_quantizer("sawb").make_weight({.name = "w", .bits = bits}, {});
    const double steps = std::ldexp(1.0, bits) - 1;
    const double error = (quantizer->forward(weight, evaluation_step()) - weight).square().mean().item<double>();
    double least = 1e300;
    for (double c = 0.5; c < 5; c += 0.05) {
      const torch::Tensor q = (((weight / c + 1) * steps / 2).round().clamp(0, steps) * 2 / steps - 1) * c;
      least = std::min(least, (q - weight).square().mean().item<double>());
    }
    EXPECT_LE(error, (bits < 8 ? 1.35 : 1.6) * least) << bits;
  }
}

}  // namespace
}  // namespace nibble::train
