// Older forms of operators -> newer ones.
#pragma once

#include "nibble/graph.h"

namespace nibble {

// The same network at opset `target` of ai.onnx (13 to 21; not below the graph's own). Attributes that became inputs become constants.
// Throws Error{kUnsupported} naming a node that has no equal at the target.
Graph raise_opset(Graph graph, int target);

}  // namespace nibble
