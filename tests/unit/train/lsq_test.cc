#include <gtest/gtest.h>
#include <torch/torch.h>

#include "train/quantizer.h"

namespace nibble::train {
namespace {

StepInfo training_step() {
  StepInfo step;
  step.training = true;
  step.reducer = &single_process();
  return step;
}

// Esser et al., eq. 3 and 5 on values where every case is met: below, inside (rounded down, up), above.
TEST(Lsq, WeightAndStepGradientsAreThePapers) {
  const auto quantizer = find_quantizer("lsq").make_weight({.name = "w", .bits = 2}, {});
  torch::Tensor weight = torch::tensor({-3.0, -0.6, 0.3, 0.7, 5.0}, torch::kFloat64).view({5, 1}).set_requires_grad(true);
  quantizer->initialize(weight);
  torch::Tensor step = quantizer->learned()[0].value;
  {
    torch::NoGradGuard guard;
    step.fill_(0.5);
  }
  const torch::Tensor quantized = quantizer->forward(weight, training_step());
  EXPECT_TRUE(torch::equal(quantized.flatten(), torch::tensor({-1.0, -0.5, 0.5, 0.5, 0.5}, torch::kFloat64)));
  quantized.sum().backward();
  EXPECT_TRUE(torch::equal(weight.grad().flatten(), torch::tensor({0.0, 1.0, 1.0, 0.0, 0.0}, torch::kFloat64)));
  // -Qn + (rne(-1.2) + 1.2) + (rne(.6) - .6) + Qp + Qp, where .7 / .5 = 1.4 lies above Qp = 1.
  const double expected = (-2 + (-1 + 1.2) + (1 - 0.6) + 1 + 1) / std::sqrt(5.0 * 1.0);
  EXPECT_NEAR(step.grad().item<double>(), expected, 1e-12);
}

}  // namespace
}  // namespace nibble::train
