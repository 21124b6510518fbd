#include "train/quantizers/support.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "train/quantizer_list.h"

namespace nibble::train {
namespace {

// The shape of a statistic that is laid over `weight`.
std::vector<std::int64_t> statistic_shape(const torch::Tensor& weight, bool per_channel) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(std::max<std::int64_t>(1, weight.dim())), 1);
  if (per_channel) shape[0] = weight.size(0);
  return shape;
}

torch::Tensor rows(const torch::Tensor& weight, bool per_channel) { return weight.reshape({per_channel ? weight.size(0) : 1, -1}); }

}  // namespace

Levels full_levels(int bits) { return {-std::ldexp(1.0, bits - 1), std::ldexp(1.0, bits - 1) - 1}; }
Levels narrow_levels(int bits) { return {1 - std::ldexp(1.0, bits - 1), std::ldexp(1.0, bits - 1) - 1}; }
Levels unsigned_levels(int bits) { return {0, std::ldexp(1.0, bits) - 1}; }
Levels activation_levels(const ActivationSite& site) { return site.is_signed ? full_levels(site.bits) : unsigned_levels(site.bits); }
int odd_code_bits(int bits) { return bits == 1 ? 2 : bits < 8 ? bits + 1 : 16; }

double option(const MethodOptions& options, std::string_view name, double fallback) {
  const auto found = options.find(std::string(name));
  return found == options.end() ? fallback : found->second;
}

torch::Tensor learned_scalar(double value) { return torch::full({1}, value, torch::kFloat32).set_requires_grad(true); }
torch::Tensor state_scalar(double value) { return torch::full({1}, value, torch::kFloat64); }

void assign(torch::Tensor& held, const torch::Tensor& value) {
  torch::NoGradGuard guard;
  if (held.sizes() == value.sizes() && held.scalar_type() == value.scalar_type()) {
    held.copy_(value);
  } else {
    held.set_data(value.detach().clone());
  }
}

void keep_at_least(torch::Tensor& held, double lowest) {
  torch::NoGradGuard guard;
  held.clamp_min_(lowest);
}

std::vector<double> to_vector(const torch::Tensor& tensor) {
  const torch::Tensor values = tensor.detach().to(torch::kFloat64).contiguous().view({-1});
  return {values.data_ptr<double>(), values.data_ptr<double>() + values.numel()};
}

torch::Tensor mean_abs(const torch::Tensor& weight, bool per_channel) {
  return rows(weight.abs(), per_channel).mean(1).view(statistic_shape(weight, per_channel));
}

torch::Tensor max_abs(const torch::Tensor& weight, bool per_channel) {
  return rows(weight.abs(), per_channel).amax(1).view(statistic_shape(weight, per_channel));
}

torch::Tensor channel_sum(const torch::Tensor& values, bool per_channel) {
  return rows(values, per_channel).sum(1).view(statistic_shape(values, per_channel));
}

double features_of_sample(const torch::Tensor& x) {
  return static_cast<double>(std::max<std::int64_t>(1, x.numel() / std::max<std::int64_t>(1, x.size(0))));
}

torch::Tensor sign_of(const torch::Tensor& x) { return (x >= 0).to(x.scalar_type()) * 2 - 1; }

Ends ends_over_ranks(const torch::Tensor& x, Reducer& reducer) {
  torch::NoGradGuard guard;
  constexpr double kNone = -std::numeric_limits<double>::infinity();
  torch::Tensor ends = torch::full({2}, kNone, torch::kFloat64);
  if (x.numel() > 0) {
    // As the values lie: torch would bring images with channels last into the other order first.
    const auto [lowest, highest] = (x.is_non_overlapping_and_dense() ? x.as_strided({x.numel()}, {1}) : x).aminmax();
    ends[0] = -lowest.item<double>();
    ends[1] = highest.item<double>();
  }
  reducer.max(ends);
  return {-ends[0].item<double>(), ends[1].item<double>()};
}

double mean_abs_over_ranks(const torch::Tensor& x, Reducer& reducer) {
  torch::NoGradGuard guard;
  torch::Tensor sums = torch::zeros({2}, torch::kFloat64);
  sums[0] = x.abs().sum(torch::kFloat64);
  sums[1] = static_cast<double>(x.numel());
  reducer.sum(sums);
  return sums[0].item<double>() / std::max(1.0, sums[1].item<double>());
}

double clip_of_least_error(const torch::Tensor& x, const Levels& levels, Reducer& reducer) {
  torch::NoGradGuard guard;
  constexpr int kCandidates = 40;
  const Ends ends = ends_over_ranks(x, reducer);
  const double largest = levels.lowest < 0 ? std::max(std::abs(ends.lowest), std::abs(ends.highest)) : ends.highest;
  torch::Tensor errors = torch::zeros({kCandidates}, torch::kFloat64);
  const bool measured = std::isfinite(largest) && largest > kSmallestScale;
  for (int i = 0; measured && i < kCandidates; ++i) {
    const double scale = largest * (i + 1) / kCandidates / levels.highest;
    errors[i] = (x - (x / scale).round_().clamp_(levels.lowest, levels.highest).mul_(scale)).square_().sum(torch::kFloat64);
  }
  reducer.sum(errors);
  if (!measured) return kSmallestScale;
  return largest * static_cast<double>(errors.argmin().item<std::int64_t>() + 1) / kCandidates;
}

std::vector<double> least_squares(std::vector<double> gram, std::vector<double> right) {
  const std::size_t n = right.size();
  double trace = 0;
  for (std::size_t i = 0; i < n; ++i) trace += gram[i * n + i];
  // A little ridge keeps equal bases apart. Without pivoting: the matrix is symmetric and positive definite.
  for (std::size_t i = 0; i < n; ++i) gram[i * n + i] += std::max(1e-9 * trace, 1e-300);
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t i = k + 1; i < n; ++i) {
      const double factor = gram[i * n + k] / gram[k * n + k];
      for (std::size_t j = k; j < n; ++j) gram[i * n + j] -= factor * gram[k * n + j];
      right[i] -= factor * right[k];
    }
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t j = i + 1; j < n; ++j) right[i] -= gram[i * n + j] * right[j];
    right[i] /= gram[i * n + i];
  }
  return right;
}

ActivationGrid uniform_grid(const ActivationSite& site, double scale) {
  QuantParams params;
  params.type = {.bit_width = site.bits, .is_signed = site.is_signed};
  params.scale = {static_cast<float>(std::max(scale, kSmallestScale))};
  return {.uniform = params};
}

std::unique_ptr<ActivationQuantizer> ema_for_signed(const ActivationSite& site, const MethodOptions& options) {
  if (!site.is_signed) return nullptr;
  ActivationSite wide = site;
  wide.bits = 8;
  return kEma.make_activation(wide, options);
}

}  // namespace nibble::train
