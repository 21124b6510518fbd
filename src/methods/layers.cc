#include "methods/layers.h"

#include <algorithm>
#include <limits>

#include "base/fail.h"
#include "ops/fused_activation.h"

namespace nibble {

std::optional<LayerView> layer_view(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  if (!node.domain.empty() || !graph.is_constant(node.input(1)) || node.input(0) == kNoValue || node.output(0) == kNoValue)
    return std::nullopt;
  if (graph.is_constant(node.input(0))) return std::nullopt;
  const Tensor& w = *graph.value(node.input(1)).constant;
  if (w.type() != DataType::kFloat32 || w.size() == 0) return std::nullopt;
  LayerView view;
  view.node = id;
  view.input = node.input(0);
  view.weights = node.input(1);
  view.output = node.output(0);
  const Shape& shape = w.shape();
  const auto taps = [&] {
    std::int64_t count = 1;
    for (std::size_t i = 2; i < shape.size(); ++i) count *= shape[i];
    return count;
  };
  if (node.op_type == "Conv" && shape.size() >= 3) {
    view.groups = std::max<std::int64_t>(1, node.get_int("group", 1));
    if (shape[0] % view.groups != 0) return std::nullopt;
    view.group_out = shape[0] / view.groups;
    view.group_in = shape[1];
    view.taps = taps();
    view.stride_in = view.taps;
    view.stride_out = view.group_in * view.taps;
    view.stride_group = view.group_out * view.stride_out;
  } else if (node.op_type == "ConvTranspose" && shape.size() >= 3) {
    view.groups = std::max<std::int64_t>(1, node.get_int("group", 1));
    if (shape[0] % view.groups != 0) return std::nullopt;
    view.group_in = shape[0] / view.groups;
    view.group_out = shape[1];
    view.taps = taps();
    view.stride_out = view.taps;
    view.stride_in = view.group_out * view.taps;
    view.stride_group = view.group_in * view.stride_in;
  } else if (node.op_type == "Gemm" && shape.size() == 2) {
    if (node.get_int("transA", 0) != 0 || node.get_float("alpha", 1.0F) != 1.0F) return std::nullopt;
    const bool transposed = node.get_int("transB", 0) != 0;
    view.group_out = shape[transposed ? 0 : 1];
    view.group_in = shape[transposed ? 1 : 0];
    view.stride_out = transposed ? view.group_in : 1;
    view.stride_in = transposed ? 1 : view.group_out;
  } else if (node.op_type == "MatMul" && shape.size() == 2) {
    view.group_out = shape[1];
    view.group_in = shape[0];
    view.stride_out = 1;
    view.stride_in = view.group_out;
    view.channel_axis = -1;
    view.has_bias_input = false;
    return view;
  } else {
    return std::nullopt;
  }
  if (node.input(2) != kNoValue) {
    if (!graph.is_constant(node.input(2))) return std::nullopt;
    const Tensor& bias = *graph.value(node.input(2)).constant;
    const bool row = bias.size() == 1 || (bias.size() == view.outputs() && !bias.shape().empty() && bias.shape().back() == view.outputs());
    if (bias.type() != DataType::kFloat32 || !row || (node.op_type == "Gemm" && node.get_float("beta", 1.0F) != 1.0F)) return std::nullopt;
    view.bias = node.input(2);
  }
  return view;
}

std::vector<double> bias_of(const Graph& graph, const LayerView& layer) {
  std::vector<double> result(static_cast<std::size_t>(layer.outputs()), 0.0);
  if (layer.bias == kNoValue) return result;
  const std::vector<double> values = to_doubles(*graph.value(layer.bias).constant);
  for (std::size_t o = 0; o < result.size(); ++o) result[o] = values[values.size() == 1 ? 0 : o];
  return result;
}

Activation activation_of(const Node& node) {
  const FusedActivation fused = fused_activation(node);
  return {.present = fused.present, .lo = static_cast<double>(fused.low), .hi = static_cast<double>(fused.high)};
}

void write_constants(Graph& graph, const std::map<NodeId, LayerEdit>& edits, RangeTable* pin_in) {
  const auto consumers = graph.consumers();
  GraphEditor editor(graph);
  for (const auto& [id, edit] : edits) {
    const Node node = graph.node(id);  // a copy: the editor may move its nodes
    const auto place = [&](std::size_t index, Tensor tensor, const std::string& name_if_new) {
      const ValueId old = node.input(index);
      const bool alone = old != kNoValue && consumers[static_cast<std::size_t>(old)].size() == 1 && !graph.is_graph_output(old);
      if (alone) {
        editor.set_type(old, make_type(tensor.type(), tensor.shape()));
        editor.set_constant(old, std::move(tensor));
        return old;
      }
      const ValueId fresh =
          editor.add_constant(old == kNoValue ? node.name + name_if_new : graph.value(old).name + "_" + node.name, std::move(tensor));
      std::vector<ValueId> inputs = graph.node(id).inputs;
      if (inputs.size() <= index) inputs.resize(index + 1, kNoValue);
      inputs[index] = fresh;
      editor.set_inputs(id, std::move(inputs));
      return fresh;
    };
    ValueId weights = node.input(1);
    if (edit.weights) weights = place(1, *edit.weights, "_weight");
    if (edit.bias)
      place(2, Tensor::from<float>({static_cast<std::int64_t>(edit.bias->size())}, std::span<const float>(*edit.bias)), "_bias");
    if (edit.grid && pin_in != nullptr) pin_in->entries[graph.value(weights).name].pinned = *edit.grid;
  }
  editor.finish(GraphEditor::Prune::kYes);
}

void apply_edits(MethodState& state, const std::map<NodeId, LayerEdit>& edits) { write_constants(state.graph, edits, &state.ranges); }

}  // namespace nibble
