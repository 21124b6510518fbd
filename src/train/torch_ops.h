// Operators of a graph in torch: every one of the classifiers that nibble trains.
#pragma once

#include <torch/types.h>

#include <functional>
#include <vector>

#include "nibble/graph.h"
#include "ops/op.h"
#include "train/quantizer.h"

namespace nibble::train {

// `inputs` in the order of the node's; those left out, and constants that are no reals, are undefined. Reads and makes no gradients of its
// own.
using TorchOp = std::function<torch::Tensor(const std::vector<torch::Tensor>& inputs, const StepInfo& step)>;

struct OpSite {
  const Graph& graph;
  const InferredGraph& known;
  const Node& node;
  std::int64_t site = 0;  // number of the node, for draws
};
// Error{kUnsupported} that names node and operator. BatchNormalization is no such operator: it has statistics (batch_norm.h).
TorchOp make_torch_op(const OpSite& site);

}  // namespace nibble::train
