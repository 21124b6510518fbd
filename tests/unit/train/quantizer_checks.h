// What the tests of training methods share: steps, the value of a grid, checks that hold for every method.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "train/quantizer.h"

namespace nibble::train {

inline StepInfo training_step() {
  StepInfo step;
  step.training = true;
  step.reducer = &single_process();
  return step;
}

inline StepInfo evaluation_step() {
  StepInfo step = training_step();
  step.training = false;
  return step;
}

// A step in whose draws and per-sample results the `samples` samples are numbered from 0.
inline StepInfo sampled_step(std::int64_t samples) {
  StepInfo step = training_step();
  step.sample_ids = torch::arange(samples, torch::kInt64);
  step.global_batch = samples;
  return step;
}

inline torch::Tensor normal_values(std::vector<std::int64_t> shape, std::uint64_t seed, torch::Dtype dtype = torch::kFloat64) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  return torch::randn(shape, generator, torch::TensorOptions().dtype(torch::kFloat64)).to(dtype);
}

// The sum of the bases in float64; checks the promises about scales and codes on the way.
inline torch::Tensor sum_of(const std::vector<WeightBase>& bases, const torch::Tensor& weight) {
  torch::Tensor sum = torch::zeros(weight.sizes(), torch::kFloat64);
  std::vector<std::int64_t> shape(static_cast<std::size_t>(weight.dim()), 1);
  EXPECT_FALSE(bases.empty());
  for (const WeightBase& base : bases) {
    EXPECT_EQ(base.codes.scalar_type(), torch::kInt32);
    EXPECT_EQ(base.codes.sizes(), weight.sizes());
    for (double scale : base.scale) EXPECT_TRUE(std::isfinite(scale) && scale > 0) << scale;
    const double half = std::ldexp(1.0, base.bits - 1);
    EXPECT_GE(base.codes.min().item<double>(), -half);
    EXPECT_LE(base.codes.max().item<double>(), half - 1);
    shape[0] = static_cast<std::int64_t>(base.scale.size());
    EXPECT_TRUE(shape[0] == 1 || shape[0] == weight.size(0));
    sum = sum + base.codes.to(torch::kFloat64) * torch::tensor(base.scale, torch::kFloat64).view(shape);
  }
  return sum;
}

// Largest difference relative to the largest value.
inline double relative_difference(const torch::Tensor& a, const torch::Tensor& b) {
  const torch::Tensor x = a.detach().to(torch::kFloat64), y = b.detach().to(torch::kFloat64);
  if (x.numel() == 0) return 0;
  return (x - y).abs().max().item<double>() / std::max(1e-30, y.abs().max().item<double>());
}

// What a grid makes of values, by QuantizeLinear's law or as a sum of signs.
inline torch::Tensor value_on(const ActivationGrid& grid, const torch::Tensor& x) {
  const torch::Tensor values = x.detach().to(torch::kFloat64);
  if (grid.uniform) {
    const QuantParams& params = *grid.uniform;
    const double scale = params.scale[0], zero = params.zero_point[0];
    return ((values / scale).round() + zero).clamp(static_cast<double>(params.qmin()), static_cast<double>(params.qmax())).sub(zero) *
           scale;
  }
  torch::Tensor sum = torch::zeros_like(values);
  for (const SignBase& base : grid.signs) sum = sum + base.scale * ((values >= base.threshold).to(torch::kFloat64) * 2 - 1);
  return sum;
}

// d f / d at[i] by central differences, in float64; `at` is changed and put back.
inline torch::Tensor finite_differences(const std::function<double()>& f, torch::Tensor at, double width = 1e-6) {
  torch::NoGradGuard guard;
  torch::Tensor slopes = torch::zeros_like(at);
  double* values = at.data_ptr<double>();
  for (std::int64_t i = 0; i < at.numel(); ++i) {
    const double middle = values[i];
    values[i] = middle + width;
    const double above = f();
    values[i] = middle - width;
    const double below = f();
    values[i] = middle;
    slopes.view({-1})[i] = (above - below) / (2 * width);
  }
  return slopes;
}

// What a checkpoint does: everything that `from` names goes into `to`.
template <typename Quantizer>
void restore(Quantizer& to, Quantizer& from) {
  torch::NoGradGuard guard;
  const auto learned = from.learned(), fresh_learned = to.learned();
  ASSERT_EQ(learned.size(), fresh_learned.size());
  for (std::size_t i = 0; i < learned.size(); ++i) {
    EXPECT_EQ(learned[i].name, fresh_learned[i].name);
    torch::Tensor(fresh_learned[i].value).set_data(learned[i].value.detach().clone());
  }
  const auto state = from.state(), fresh_state = to.state();
  ASSERT_EQ(state.size(), fresh_state.size());
  for (std::size_t i = 0; i < state.size(); ++i) {
    EXPECT_EQ(state[i].name, fresh_state[i].name);
    EXPECT_EQ(state[i].value.sizes(), fresh_state[i].value.sizes());
    torch::Tensor(fresh_state[i].value).copy_(state[i].value);
  }
}

}  // namespace nibble::train
