// Multiply-accumulates of a node.
#pragma once

#include <span>

#include "nibble/graph.h"
#include "nibble/quantize.h"

namespace nibble {

// 0 where the op multiplies nothing or a shape is unknown. `types` by ValueId.
std::int64_t macs_of(const Node& node, std::span<const TensorType> types);

// The shapes of a quantized graph's values (element types are those of a float network). Symbolic axes count as `batch`.
std::vector<TensorType> shapes_of(const QuantizedGraph& model, std::int64_t batch);
// The same for a graph as ONNX has it.
std::vector<TensorType> shapes_of(const Graph& graph, std::int64_t batch);

}  // namespace nibble
