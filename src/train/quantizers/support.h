// What the methods' files share: levels, scales, statistics over channels and over processes, tensors that keep their identity.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string_view>
#include <vector>

#include "train/quantizer.h"

namespace nibble::train {

// No scale, step or clip falls below this: weights that are all zero and inputs that never came are safe.
constexpr double kSmallestScale = 1e-8;

// The codes of a uniform grid.
struct Levels {
  double lowest = 0, highest = 0;
};
Levels full_levels(int bits);    // -2^(n-1) .. 2^(n-1) - 1
Levels narrow_levels(int bits);  // -(2^(n-1) - 1) .. 2^(n-1) - 1
Levels unsigned_levels(int bits);
Levels activation_levels(const ActivationSite& site);  // full or unsigned
// Width of two's complement codes for the odd numbers of a grid of 2^bits values: one more than its own, and 16 beyond 8.
int odd_code_bits(int bits);

double option(const MethodOptions& options, std::string_view name, double fallback);

// A leaf that the optimizer moves: one element of `value`, float32 until assign() tells the type of the network.
torch::Tensor learned_scalar(double value);
torch::Tensor state_scalar(double value);  // float64
// The value, shape and type of `value` in `held`, which stays the same tensor for whoever holds it (optimizers, checkpoints).
void assign(torch::Tensor& held, const torch::Tensor& value);
void keep_at_least(torch::Tensor& held, double lowest);

std::vector<double> to_vector(const torch::Tensor& tensor);

// Statistics of |weight| over the whole tensor (shape 1, 1, ...) or over each output channel (shape O, 1, ...).
torch::Tensor mean_abs(const torch::Tensor& weight, bool per_channel);
torch::Tensor max_abs(const torch::Tensor& weight, bool per_channel);
torch::Tensor channel_sum(const torch::Tensor& values, bool per_channel);

// Elements of one sample of a batch; at least 1, so that a batch without samples divides nothing by 0.
double features_of_sample(const torch::Tensor& x);

// +1 where x >= 0, else -1.
torch::Tensor sign_of(const torch::Tensor& x);

// Lowest and highest value over all processes; a collective, also with no elements here. Not finite where no process has any.
struct Ends {
  double lowest = 0, highest = 0;
};
Ends ends_over_ranks(const torch::Tensor& x, Reducer& reducer);
// Sums over all elements of all processes, in float64.
double mean_abs_over_ranks(const torch::Tensor& x, Reducer& reducer);
// The clip c of least E (x - Q(x))^2, where Q has the codes of `levels` times c / levels.highest; of 40 candidates up to max |x| (max x
// where the levels have no negative code). kSmallestScale where there is nothing to measure.
double clip_of_least_error(const torch::Tensor& x, const Levels& levels, Reducer& reducer);

// Coefficients c of least sum (y - sum c_i b_i)^2, from gram[i * n + j] = <b_i, b_j> and right[i] = <b_i, y>. Bases that follow from others
// share what they explain.
std::vector<double> least_squares(std::vector<double> gram, std::vector<double> right);

// A uniform grid per tensor with zero point 0.
ActivationGrid uniform_grid(const ActivationSite& site, double scale);

// Methods whose activations are cut at 0 leave edges that can fall below 0 to "ema", 8 bits. Null where the site is not signed.
std::unique_ptr<ActivationQuantizer> ema_for_signed(const ActivationSite& site, const MethodOptions& options);

}  // namespace nibble::train
