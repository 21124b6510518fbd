// Quantized models for tests: a float graph, ranges from a few random samples, quantize().
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "nibble/interpreter.h"
#include "nibble/passes.h"
#include "nibble/quantize.h"

namespace nibble::test {

// Inputs drawn in [lo, hi]; unknown axes are `unknown`.
inline std::vector<Tensor> random_inputs(const Graph& graph, std::uint64_t seed, float lo = -1.0F, float hi = 1.0F, std::int64_t unknown = 1) {
  std::mt19937_64 random(seed);
  std::vector<Tensor> inputs;
  for (const ValueId id : graph.inputs()) {
    Shape shape;
    for (const Dim& dim : graph.value(id).type.dims) shape.push_back(dim.known() ? dim.size : unknown);
    Tensor tensor(DataType::kFloat32, shape);
    for (float& x : tensor.mutable_data<float>()) x = lo + (hi - lo) * static_cast<float>(random() >> 40) * 0x1p-24F;
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

inline RangeTable observe_ranges(const Graph& graph, std::span<const std::vector<Tensor>> samples) {
  RangeTable table;
  table.method = "min_max";
  table.samples = static_cast<std::int64_t>(samples.size());
  Interpreter interpreter(graph, {.threads = 1, .mode = ExecMode::kFixedOrder});
  for (const auto& inputs : samples) {
    interpreter.run(inputs, [&](ValueId id, const Tensor& tensor) {
      if (tensor.type() != DataType::kFloat32) return;
      RangeEntry& entry = table.entries[graph.value(id).name];
      for (const float x : tensor.data<float>()) {
        if (!entry.range) entry.range = Range{x, x};
        entry.range->lo = std::min(entry.range->lo, static_cast<double>(x));
        entry.range->hi = std::max(entry.range->hi, static_cast<double>(x));
      }
    });
  }
  return table;
}

inline QuantizedGraph quantize_on_random(Graph graph, const QuantScheme& scheme, std::uint64_t seed = 1, float lo = -1.0F, float hi = 1.0F) {
  canonicalize(graph);
  const std::vector<std::vector<Tensor>> samples = {random_inputs(graph, seed, lo, hi), random_inputs(graph, seed + 1, lo, hi)};
  return quantize(graph, observe_ranges(graph, samples), scheme);
}

}  // namespace nibble::test
