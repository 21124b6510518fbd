#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_set>

#include "nibble/report.h"
#include "base/fail.h"
#include "report/macs.h"
#include "report/weight_storage.h"

namespace nibble {
namespace {

std::vector<InputSpec> specs(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<InputSpec> result;
  for (const ValueId id : ids) result.push_back({.name = graph.value(id).name, .type = graph.value(id).type});
  return result;
}

// A trained number, not a shape or an index: a real, or the integer of one.
bool is_parameter(const Graph& graph, const QuantizedGraph* quantized, ValueId id) {
  if (!graph.is_constant(id)) return false;
  return is_float(graph.value(id).constant->type()) || (quantized != nullptr && quantized->params_of(id) != nullptr);
}

void note_symbols(const Graph& graph, InspectResult& result) {
  std::string symbols;
  for (const ValueId id : graph.inputs()) {
    for (const Dim& dim : graph.value(id).type.dims) {
      if (dim.known()) continue;
      const std::string symbol = dim.symbol.empty() ? "an unnamed axis of " + graph.value(id).name : "'" + dim.symbol + "'";
      if (symbols.find(symbol) == std::string::npos) symbols += (symbols.empty() ? "" : ", ") + symbol;
    }
  }
  if (!symbols.empty()) result.notes.push_back("MACs are counted with " + symbols + " = 1");
}

}  // namespace

InspectResult inspect(const Model& model, const std::string& target) {
  if (!target.empty() && !model.quantized)
    fail(ErrorCode::kInvalidArgument, "{}: what a target takes is asked of a quantized model; this one is float", model.path);
  const QuantizedGraph* quantized = model.quantized ? &*model.quantized : nullptr;
  const Graph& graph = quantized != nullptr ? quantized->graph : model.graph;
  InspectResult result;
  result.inputs = specs(model.graph, model.graph.inputs());
  result.outputs = specs(model.graph, model.graph.outputs());
  result.nodes = static_cast<std::int64_t>(model.graph.nodes().size());
  result.file_bytes = model.file_bytes;
  result.opset = model.graph.opset("");
  result.ir_version = model.graph.ir_version();
  result.quantized = quantized != nullptr;
  result.metadata = model.graph.metadata();
  if (const WeightStorageBits stored = weight_storage(model.graph); stored.weights > 0) {
    result.weights = stored.weights;
    result.bits_per_weight = static_cast<double>(stored.bits) / static_cast<double>(stored.weights);
  }
  if (!target.empty()) {
    result.target = target;
    result.target_findings = check_target(*quantized, limits_of_target(target));
  }

  const std::vector<TensorType> types = quantized != nullptr ? shapes_of(*quantized, 1) : shapes_of(graph, 1);
  for (std::size_t i = 0; i < result.outputs.size(); ++i) {
    if (!result.outputs[i].type.has_rank) result.outputs[i].type = types[static_cast<std::size_t>(graph.outputs()[i])];
  }
  note_symbols(graph, result);

  std::map<std::string, const LayerInfo*, std::less<>> info;
  if (quantized != nullptr) {
    for (const LayerInfo& layer : quantized->layers) info.emplace(layer.name, &layer);
  }
  std::unordered_set<ValueId> counted;
  std::int64_t islands = 0;
  for (NodeId id = 0; id < static_cast<NodeId>(graph.nodes().size()); ++id) {
    const Node& node = graph.node(id);
    LayerSummary layer;
    layer.name = node.name;
    layer.op_type = node.op_type;
    if (node.output(0) != kNoValue) {
      TensorType type = types[static_cast<std::size_t>(node.outputs[0])];
      if (quantized != nullptr && quantized->params_of(node.outputs[0]) != nullptr) type.dtype = graph.value(node.outputs[0]).type.dtype;
      layer.output_type = to_string(type);
    }
    layer.macs = macs_of(node, types);
    for (const ValueId input : node.inputs) {
      if (input == kNoValue || !is_parameter(graph, quantized, input)) continue;
      const Tensor& tensor = *graph.value(input).constant;
      layer.parameters += tensor.size();
      if (!counted.insert(input).second) continue;
      result.parameters += tensor.size();
      result.weight_bytes += static_cast<std::int64_t>(tensor.size_bytes());
    }
    if (const auto tensor = node.op_type == "Constant" ? node.get_tensor("value") : std::nullopt; tensor && is_float(tensor->type())) {
      layer.parameters += tensor->size();
      result.parameters += tensor->size();
      result.weight_bytes += static_cast<std::int64_t>(tensor->size_bytes());
    }
    if (const auto it = info.find(node.name); it != info.end()) {
      layer.integer = it->second->integer;
      layer.reason = it->second->reason;
      layer.proof = it->second->proof;
      if (!layer.integer && !layer.reason.empty()) ++islands;
    }
    if (quantized != nullptr && layer.integer && !layer.proof) layer.proof = prove_accumulator(*quantized, id);
    result.macs += layer.macs;
    result.layers.push_back(std::move(layer));
  }
  if (islands > 0) result.notes.push_back(fmt::format("{} node(s) run in float; each layer says why", islands));
  return result;
}

}  // namespace nibble
