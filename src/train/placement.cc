#include "train/placement.h"

#include <algorithm>
#include <array>

#include "nibble/passes.h"
#include "ops/fused_activation.h"
#include "quantize/integer_form.h"
#include "quantize/plan.h"
#include "quantize/step_form.h"

namespace nibble::train {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// Values that can never fall below 0, by the operators that make them.
std::vector<bool> nonnegative_values(const Graph& graph) {
  constexpr std::array<std::string_view, 9> kAlways = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus",
                                                       "Exp",  "Sqrt",    "Abs",         "Hardmax"};
  constexpr std::array<std::string_view, 13> kAsTheirInput = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean",
                                                              "Reshape", "Flatten",     "Squeeze",           "Unsqueeze",     "Transpose",
                                                              "Slice",   "Dropout",     "Identity"};
  std::vector<bool> result(graph.values().size(), false);
  const auto constant_is = [&](ValueId v) {
    const std::vector<double> values = to_doubles(*graph.value(v).constant);
    return std::all_of(values.begin(), values.end(), [](double x) { return x >= 0; });
  };
  const auto is_nonnegative = [&](ValueId v) { return v == kNoValue || (graph.is_constant(v) ? constant_is(v) : result[index(v)]); };
  for (const Node& node : graph.nodes()) {
    if (node.output(0) == kNoValue || !node.domain.empty()) continue;
    const auto listed = [&](const auto& list) { return std::find(list.begin(), list.end(), node.op_type) != list.end(); };
    bool yes = listed(kAlways) || (listed(kAsTheirInput) && is_nonnegative(node.input(0)));
    if (node.op_type == "Concat" || node.op_type == "Add" || node.op_type == "Mul")
      yes = std::all_of(node.inputs.begin(), node.inputs.end(), is_nonnegative);
    if (node.op_type == "Pad") yes = is_nonnegative(node.input(0)) && is_nonnegative(node.input(2)) && node.get_float("value", 0) >= 0;
    if (node.op_type == "Clip") {
      const ValueId low = node.input(1);
      yes = node.get_float("min", -1) >= 0 || (low != kNoValue && graph.is_constant(low) && constant_is(low)) ||
            is_nonnegative(node.input(0));
    }
    const FusedActivation activation = fused_activation(node);
    result[index(node.output(0))] = yes || (activation.present && activation.low >= 0);
  }
  return result;
}

}  // namespace

QuantScheme scheme_of(const TrainQuantization& quantization) {
  QuantScheme scheme;
  scheme.target = "ort-cpu";
  scheme.first_last = quantization.first_last;
  scheme.fine_bias = true;  // biases are not rounded in training
  scheme.defaults.weights.type = {.bit_width = std::clamp(quantization.weight_bits, 2, 8), .is_signed = true};
  scheme.defaults.weights.per_channel = quantization.per_channel;
  scheme.defaults.activations.type = {.bit_width = std::clamp(quantization.activation_bits, 2, 8), .is_signed = false};
  if (quantization.activation_method == "none") scheme.defaults.form = NodeForm::kWeightOnly;
  return scheme;
}

Placement place_quantizers(const Graph& graph, const TrainQuantization& quantization) {
  Placement placement;
  if (quantization.weight_method == "none" && quantization.activation_method == "none") return placement;
  Graph canonical = graph;
  canonicalize(canonical);
  fuse_steps(canonical);
  // Each value gets a range of its own; values that share a grid then have one scale. Eight bits for all, so that no two scales meet by
  // chance.
  QuantScheme scheme = scheme_of(quantization);
  scheme.defaults.weights.type.bit_width = 8;
  scheme.defaults.activations.type.bit_width = 8;
  RangeTable ranges;
  for (std::size_t v = 0; v < canonical.values().size(); ++v) {
    const double width = static_cast<double>(v) + 1;
    ranges.entries[canonical.values()[v].name].range = Range{-width, width};
  }
  const QuantizationPlan plan = plan_quantization(canonical, ranges, scheme);
  const std::vector<bool> nonnegative = nonnegative_values(canonical);

  // Layers, and which of them are first and last (as the plan has it).
  std::vector<NodeId> compute;
  for (NodeId n = 0; n < static_cast<NodeId>(canonical.nodes().size()); ++n) {
    const OpDef* op = find_op(canonical.node(n).domain, canonical.node(n).op_type);
    if (op == nullptr || op->rule != QuantRule::kCompute) continue;
    if (plan.integer[index(n)] || plan.reformed[index(n)])
      compute.push_back(n);
    else
      placement.unquantized.push_back(canonical.node(n).name + ": " + plan.reason[index(n)]);
  }
  std::vector<bool> eight_bit_value(canonical.values().size(), false);
  for (const NodeId n : compute) {
    const Node& node = canonical.node(n);
    const bool end = n == compute.front() || n == compute.back();
    const bool eight_bits = end && quantization.first_last == FirstLastPolicy::k8Bit;
    if (eight_bits) eight_bit_value[index(node.input(0))] = true;
    if (operands_of(canonical, node).weights) placement.layers.push_back({node.name, plan.integer[index(n)], eight_bits});
  }

  std::map<float, std::size_t> by_scale;
  for (std::size_t v = 0; v < canonical.values().size(); ++v) {
    if (!plan.grid[v]) continue;
    const Value& value = canonical.values()[v];
    const auto [at, is_new] = by_scale.emplace(plan.grid[v]->scale[0], placement.edges.size());
    if (is_new) {
      placement.edges.emplace_back();
      placement.edges.back().name = value.name;
      placement.edges.back().nonnegative = true;
    }
    Placement::Edge& edge = placement.edges[at->second];
    placement.edge_of[value.name] = at->second;
    edge.nonnegative = edge.nonnegative && nonnegative[v];
    edge.eight_bits = edge.eight_bits || eight_bit_value[v];
    if (value.producer == kNoNode || !plan.integer[index(value.producer)]) placement.made_in_float.insert(value.name);
    const bool tied = value.producer != kNoNode && plan.integer[index(value.producer)] && is_tied(canonical.node(value.producer));
    if (!tied) edge.made.push_back(value.name);
  }
  for (NodeId n = 0; n < static_cast<NodeId>(canonical.nodes().size()); ++n) {
    const Node& node = canonical.node(n);
    if (!plan.integer[index(n)]) {
      placement.float_nodes.push_back(node.name);
      continue;
    }
    if (is_step(node)) placement.edges[placement.edge_of.at(canonical.value(node.input(0)).name)].feeds_sign = true;
    if (!operands_of(canonical, node).weights) continue;
    placement.edges[placement.edge_of.at(canonical.value(node.input(0)).name)].feeds_layer = true;
  }
  return placement;
}

}  // namespace nibble::train
