// The pass that every layer-wise method uses: once over the graph, layer by layer, with all calibration samples at hand.
//
// Two networks run in lockstep: the reference, and the network that is being quantized, whose layers before the present one have their
// quantized weights, biases and activations already. Values that are still needed are kept for all samples, everything else is released, so
// the memory is that of the widest cut through the network times the samples, in both networks.
//
// The quantized side computes in float32 with fake-quantized weights and activations: within the rounding of float32 sums it is the
// simulation, at a hundred times its speed. What a method derives from it are statistics and choices of rounding, which the exact integers
// then carry out.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "methods/layers.h"
#include "quantize/plan.h"
#include "quantize/weights.h"

namespace nibble {

// One layer when its turn has come.
struct LayerTurn {
  const MethodState& state;
  const QuantizationPlan& plan;
  LayerView view;              // in state.graph
  LayerView reference;         // in state.reference
  const Node& node;            // of state.graph
  QuantizedWeights quantized;  // as quantize() makes them now, rounded to nearest on their grid
  Tensor quantized_values;     // their real values
  float src_scale = 1, dst_scale = 1;
  std::span<const Tensor> real_inputs;       // of the reference, one a sample
  std::span<const Tensor> quantized_inputs;  // of the network quantized so far, on the input's grid

  // Where the layer's outputs go into a sum and nowhere else: the other summand of both networks, of the outputs' shape, one a sample. What
  // the quantized one has lost the layer can make up for. Else empty.
  std::vector<Tensor> real_summands, quantized_summands;

  const Tensor& reference_weights() const { return *state.reference.value(reference.weights).constant; }
  const Tensor& weights() const { return *state.graph.value(view.weights).constant; }
};

// Means over samples and places of a layer's outputs before the fused activation, one an output channel.
std::vector<double> mean_outputs(const LayerTurn& turn, std::span<const Tensor> inputs, const Tensor& weights, std::span<const double> bias,
                                 ThreadPool& pool);

// Calls `visit` for every integer layer with constant weights, in order; what it returns is in force for the layers after it and is written
// into the state at the end. `stage` is the name of the progress.
using LayerVisitor = std::function<LayerEdit(const LayerTurn& turn, ThreadPool& pool)>;
void for_each_layer(MethodState& state, const MethodInputs& inputs, std::string_view stage, const LayerVisitor& visit);

// The layers as for_each_layer() would visit them, without data: inputs are empty.
void for_each_layer_without_data(MethodState& state, const MethodInputs& inputs, std::string_view stage, const LayerVisitor& visit);

// One node of a graph run by itself, with other constants and without its fused activation where asked for.
class NodeRunner {
 public:
  struct Changes {
    const Tensor* weights = nullptr;
    const Tensor* bias = nullptr;
    bool drop_activation = false;
  };
  NodeRunner(const Graph& graph, NodeId node, const Changes& changes);
  ~NodeRunner();
  NodeRunner(NodeRunner&&) noexcept;
  // The node's inputs that are not constant, in order.
  std::vector<Tensor> run(std::span<const Tensor> inputs);
  const std::vector<ValueId>& inputs() const { return inputs_; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::vector<ValueId> inputs_;
};

}  // namespace nibble
