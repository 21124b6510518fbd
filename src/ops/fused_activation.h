// The activation that passes fuse into a producer: attribute "activation" ("Relu" or "Clip" with activation_min, activation_max).
#pragma once

#include <limits>
#include <span>

#include "nibble/graph.h"
#include "nibble/tensor.h"

namespace nibble {

// y = min(max(x, low), high); Relu is low = 0. A NaN stays a NaN.
struct FusedActivation {
  bool present = false;
  float low = -std::numeric_limits<float>::infinity();
  float high = std::numeric_limits<float>::infinity();

  float apply(float x) const {
    const float raised = x < low ? low : x;
    return raised > high ? high : raised;
  }
};

// The node's fused activation. Throws Error{kInvalidModel} naming the node where the attribute holds another name or low > high.
FusedActivation fused_activation(const Node& node);

void apply_activation(const FusedActivation& activation, std::span<float> values);
// In place on a floating point tensor; other element types cannot carry an activation: Error{kInvalidModel}.
void apply_activation(const FusedActivation& activation, Tensor& tensor);

}  // namespace nibble
