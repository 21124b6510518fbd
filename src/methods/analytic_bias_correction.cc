// Analytic bias correction (Nagel et al. 2019, section 4.2.1): without data the mean error of a layer follows from the means of its inputs,
//     b -= (W~ - W) E[x],
// and E[x] of what a BatchNormalization and an activation made is the mean of a clipped normal distribution.
#include <fmt/format.h>

#include "methods/layerwise.h"
#include "methods/method_list.h"
#include "methods/normals.h"

namespace nibble {

void correct_biases_analytically(MethodState& state, const MethodInputs& inputs, const MethodOptions&) {
  std::vector<std::string> notes;
  std::int64_t corrected = 0;
  const auto moments = propagate_moments(state.reference, state.normals);
  for_each_layer_without_data(state, inputs, "analytic bias correction", [&](const LayerTurn& turn, ThreadPool&) {
    LayerEdit edit;
    const auto& x = moments[static_cast<std::size_t>(turn.reference.input)];
    if (!turn.view.has_bias_input || !x || std::ssize(x->mean) != turn.view.inputs()) {
      notes.push_back(fmt::format("analytic_bias_correction: '{}' is left alone: {}", turn.node.name,
                                  turn.view.has_bias_input ? "no BatchNormalization tells the mean of its input" : "it has no bias"));
      return edit;
    }
    const std::vector<double> bias = bias_of(turn.state.graph, turn.view);
    const auto w = turn.reference_weights().data<float>(), q = turn.quantized_values.data<float>();
    edit.bias.emplace();
    for (std::int64_t o = 0; o < turn.view.outputs(); ++o) {
      double error = 0;
      for (std::int64_t i = 0; i < turn.view.group_in; ++i) {
        const double mean = x->mean[static_cast<std::size_t>(o / turn.view.group_out * turn.view.group_in + i)];
        for (std::int64_t t = 0; t < turn.view.taps; ++t) {
          const auto at = static_cast<std::size_t>(turn.view.place(o, i, t));
          error += (static_cast<double>(q[at]) - static_cast<double>(w[at])) * mean;
        }
      }
      edit.bias->push_back(static_cast<float>(bias[static_cast<std::size_t>(o)] - error));
    }
    ++corrected;
    return edit;
  });
  notes.push_back(fmt::format("analytic_bias_correction: {} layers", corrected));
  state.notes.insert(state.notes.end(), notes.begin(), notes.end());
}

}  // namespace nibble
