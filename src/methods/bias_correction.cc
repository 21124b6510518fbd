// Empirical bias correction (Nagel et al. 2019, section 4.2; Finkelstein et al. 2019): with y the output of a layer before its activation
// in the float network and y~ that of the network whose earlier layers are quantized (and corrected) already,
//     b_c -= E[y~_c] - E[y_c],
// the means taken over the calibration samples and all places. A quantized layer's error has a mean other than 0 because weights are few
// and inputs behind a ReLU are not centred; taking it away costs nothing at run time.
#include <fmt/format.h>

#include "methods/layerwise.h"
#include "methods/method_list.h"

namespace nibble {

void correct_biases(MethodState& state, const MethodInputs& inputs, const MethodOptions&) {
  std::vector<std::string> notes;
  for_each_layer(state, inputs, "bias correction", [&](const LayerTurn& turn, ThreadPool& pool) {
    LayerEdit edit;
    if (!turn.view.has_bias_input) {
      notes.push_back(fmt::format("bias_correction: '{}' ({}) has no bias: left alone", turn.node.name, turn.node.op_type));
      return edit;
    }
    const std::vector<double> bias = bias_of(turn.state.graph, turn.view);
    const std::vector<double> wanted =
        mean_outputs(turn, turn.real_inputs, turn.reference_weights(), bias_of(turn.state.reference, turn.reference), pool);
    const std::vector<double> found = mean_outputs(turn, turn.quantized_inputs, turn.quantized_values, bias, pool);
    edit.bias.emplace();
    for (std::size_t c = 0; c < bias.size(); ++c) edit.bias->push_back(static_cast<float>(bias[c] - (found[c] - wanted[c])));
    return edit;
  });
  state.notes.insert(state.notes.end(), notes.begin(), notes.end());
}

}  // namespace nibble
