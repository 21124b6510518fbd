// Two-valued functions of one value: Where(GreaterOrEqual(x, t), a, b) as one node, nibble.Step, that a table can be made of.
#pragma once

#include "nibble/graph.h"

namespace nibble {

inline bool is_step(const Node& node) { return node.domain == "nibble" && node.op_type == "Step"; }

// Replaces every Where that picks between two constants of one element by comparing one value with a third (x >= t, x > t, t <= x, t < x). The Step has the
// name of the Where. True if there was one.
bool fuse_steps(Graph& graph);

}  // namespace nibble
