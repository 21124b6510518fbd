// The layers that methods change: nodes with constant weights, seen as matrices, and edits of their constants.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "nibble/graph.h"
#include "nibble/methods.h"

namespace nibble {

// A node with constant float32 weights (Conv, ConvTranspose, Gemm, MatMul) as `groups` matrices [group_out, group_in * taps]: output
// channel o of group g reads input channels g * group_in ... and has its weights at place(o, i, t).
struct LayerView {
  NodeId node = kNoNode;
  ValueId input = kNoValue, weights = kNoValue, bias = kNoValue, output = kNoValue;
  std::int64_t groups = 1, group_out = 0, group_in = 0, taps = 1;
  std::int64_t stride_out = 0, stride_in = 0, stride_tap = 1;  // of the flat weight tensor, within a group
  std::int64_t stride_group = 0;
  std::int64_t channel_axis = 1;  // of input and output; -1: the last axis (MatMul)
  bool has_bias_input = true;     // could take a bias (MatMul cannot)

  std::int64_t outputs() const { return groups * group_out; }
  std::int64_t inputs() const { return groups * group_in; }
  std::int64_t columns() const { return group_in * taps; }  // products summed for one output
  // Flat index of the weight of output channel o (of all), input channel i (of the group) and tap t.
  std::int64_t place(std::int64_t o, std::int64_t i, std::int64_t t) const {
    return o / group_out * stride_group + o % group_out * stride_out + i * stride_in + t * stride_tap;
  }
};

// nullopt: not such a node, or its weights are no float32 matrix or window.
std::optional<LayerView> layer_view(const Graph& graph, NodeId node);

// New constants for nodes, collected and written at once: ids stay valid until then. Shared constants are copied for the node that changes.
struct LayerEdit {
  std::optional<Tensor> weights;
  std::optional<std::vector<float>> bias;  // one an output channel; added where the node has none
  std::optional<QuantParams> grid;         // pinned for the weights
  std::optional<QuantParams> output;       // pinned for the layer's outputs; layers after it see it
};
// Pins under the name that the weights end up with. Node ids do not change, value ids may.
void apply_edits(MethodState& state, const std::map<NodeId, LayerEdit>& edits);
// The same constants into `graph` alone (equalization writes both graphs).
void write_constants(Graph& graph, const std::map<NodeId, LayerEdit>& edits, RangeTable* pin_in);

// The bias of a layer as doubles, 0 where there is none.
std::vector<double> bias_of(const Graph& graph, const LayerView& layer);

// The fused activation: [lo, hi] of the outputs.
struct Activation {
  bool present = false;
  double lo = 0, hi = 0;
  double operator()(double x) const { return present ? (x < lo ? lo : (x > hi ? hi : x)) : x; }
};
Activation activation_of(const Node& node);

}  // namespace nibble
