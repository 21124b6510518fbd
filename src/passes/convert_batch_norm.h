// BatchNormalization without a layer to fold it into.
#pragma once

#include "ops/op.h"
#include "passes/rewriter.h"

namespace nibble {

// The node becomes a depthwise 1x1 Conv, or a Mul and an Add where its input is a matrix; or it stays, and the report says why.
void convert_batch_norm(Rewriter& rewriter, const InferredGraph& known, NodeId id);

}  // namespace nibble
