// A quantized network seen from its float network: what each constant and each value becomes.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "nibble/interpreter.h"
#include "nibble/quantize.h"

namespace nibble {

// Ids are those of the float graph.
struct FakeQuantized {
  std::vector<std::map<ValueId, Tensor>> constants;  // by NodeId: its weights and biases as the reals that their codes stand for
  std::vector<std::optional<QuantParams>> grid;      // by ValueId: of activations
  std::vector<bool> integer;                         // by NodeId
};
// `model` is quantize(graph, ...): nodes are matched by name.
FakeQuantized fake_quantized(const Graph& graph, const QuantizedGraph& model);

// A change that puts constants and values on their grids. `fake` must outlive it.
Interpreter::Change change_of(const FakeQuantized& fake, const std::vector<NodeId>& weights_of, const std::vector<ValueId>& values);

// Every constant and every value that has a grid.
Interpreter::Change change_of_all(const FakeQuantized& fake);

}  // namespace nibble
