// The methods, one function a file; method_table.cc has their rows.
#pragma once

#include <span>
#include <vector>

#include "nibble/methods.h"

namespace nibble {

void equalize_layers(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
void absorb_biases(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
void correct_weights(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
void correct_biases_analytically(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
void clip_weights(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
void round_adaptively(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
void round_with_gptq(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
void correct_biases(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);

void clip_by_loss(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
// Bits of each channel, 2..8, whose mean is at most `mean_bits` (aciq_bits.cc).
std::vector<int> allocate_bits(std::span<const double> ranges, int mean_bits);
void allocate_channel_bits(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
void choose_fixed_point_greedily(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
void trim_fixed_point(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);

}  // namespace nibble
