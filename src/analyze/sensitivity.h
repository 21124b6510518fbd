// The layers' figures: each layer quantized alone, and all up to it.
#pragma once

#include <vector>

#include "analyze/fake_quantized.h"
#include "nibble/analyze.h"

namespace nibble {

// One run of the float network a sample is kept; each change is replayed on it, so a layer costs what stands behind it, not a whole
// network. `graph` is canonical; `fake` of the same graph.
std::vector<LayerSensitivity> layer_sensitivities(const Graph& graph, const FakeQuantized& fake, const Dataset& samples, int threads,
                                                  ProgressSink* progress);

}  // namespace nibble
