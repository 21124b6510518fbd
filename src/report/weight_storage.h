// What the weights of a file cost in it.
#pragma once

#include <cstdint>

#include "nibble/graph.h"

namespace nibble {

struct WeightStorageBits {
  std::int64_t weights = 0;
  std::int64_t bits = 0;  // of weights, scales, zero points and tables
};
// Of weights (two axes and more) that the graph, as the file has it, holds as integers, indices or 16-bit floats; each tensor once. Biases and what is
// stored as float32 are left out.
WeightStorageBits weight_storage(const Graph& graph);

}  // namespace nibble
