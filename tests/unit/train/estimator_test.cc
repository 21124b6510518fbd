#include "quantizer_checks.h"
#include "train/quantizers/rounding.h"

namespace nibble::train {
namespace {

// The backward pass is the derivative of the stair that the paper writes (eq. 4-6), by finite differences of that stair.
TEST(Dsq, GradientIsTheSoftStaircases) {
  const Estimator estimator = estimator_of({{"estimator_dsq", 1}, {"dsq_alpha_start", 0.3}, {"dsq_alpha_end", 0.3}});
  const StepInfo step = training_step();
  const double k = stair_sharpness(estimator, step);
  EXPECT_NEAR(1 - std::tanh(k / 2), 0.3, 1e-12);
  torch::Tensor x = torch::tensor({-1.8, -0.51, -0.2, 0.1, 0.45, 0.7, 2.9}, torch::kFloat64).set_requires_grad(true);
  const torch::Tensor rounded = round_by(x, estimator, step);
  EXPECT_TRUE(torch::equal(rounded, x.round()));
  rounded.sum().backward();
  const auto stair = [&] {
    const torch::Tensor u = x - x.floor() - 0.5;
    return (x.floor() + ((k * u).tanh() / std::tanh(k / 2) + 1) / 2).sum().item<double>();
  };
  torch::Tensor at = x.detach();
  const torch::Tensor slopes = finite_differences([&] { return stair(); }, at);
  EXPECT_LE(relative_difference(x.grad(), slopes), 1e-8);
}

TEST(Dsq, SharpensOverTheRun) {
  const Estimator estimator = estimator_of({{"estimator_dsq", 1}});
  StepInfo step = training_step();
  step.epochs = 2;
  step.steps_per_epoch = 50;
  double before = 0;
  for (step.step = 0; step.step <= 100; step.step += 20) {
    const double k = stair_sharpness(estimator, step);
    EXPECT_GT(k, before);
    before = k;
  }
  EXPECT_NEAR(1 - std::tanh(before / 2), estimator.alpha_end, 1e-9);
}

}  // namespace
}  // namespace nibble::train
