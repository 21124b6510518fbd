// Means and deviations of values, channel by channel, as far as BatchNormalization tells them.
#pragma once

#include <optional>
#include <vector>

#include "nibble/methods.h"

namespace nibble {

struct ChannelMoments {
  std::vector<double> mean, variance;
  std::vector<double> lo, hi;  // six deviations on either side before the activation, cut by it
};
// By ValueId of `graph`; nullopt where nothing is known.
std::vector<std::optional<ChannelMoments>> propagate_moments(const Graph& graph, const std::map<std::string, ChannelNormal>& normals);

// Mean and variance of clip(x, lo, hi) for x normal; the ends may be infinite (Nagel et al. 2019, appendix C).
struct Moments {
  double mean = 0, variance = 0;
};
Moments clipped_normal(double mean, double deviation, double lo, double hi);

// Ranges after the scales of channels have moved: observed again, and overlaid where there is no data.
void observe_again(MethodState& state, const MethodInputs& inputs);

}  // namespace nibble
