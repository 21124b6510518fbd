// The methods, one function a file; method_table.cc has their rows.
#pragma once

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

}  // namespace nibble
