// The plan of a quantization: which nodes become integer nodes, which values share one grid, and what each grid is.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nibble/quantize.h"

namespace nibble {

struct QuantizationPlan {
  std::vector<TensorType> types;                      // by ValueId
  std::vector<bool> integer;                          // by NodeId
  std::vector<bool> reformed;                         // by NodeId: float, but its weights take the form that its scheme says
  std::vector<std::string> reason;                    // by NodeId: why a real-valued node stays float
  std::vector<NodeScheme> schemes;                    // by NodeId
  std::vector<std::optional<QuantParams>> grid;       // by ValueId: of activations that exist as integers
  std::vector<std::string> warnings;
  std::vector<std::vector<std::string>> notes;        // by NodeId
};
QuantizationPlan plan_quantization(const Graph& graph, const RangeTable& ranges, const QuantScheme& scheme);

}  // namespace nibble
