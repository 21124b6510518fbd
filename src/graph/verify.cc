#include <string>
#include <unordered_set>

#include "base/fail.h"
#include "nibble/graph.h"

namespace nibble {

void verify(const Graph& graph) {
  const auto value_count = static_cast<ValueId>(graph.values().size());
  const auto valid = [&](ValueId id) { return id >= 0 && id < value_count; };
  std::vector<bool> ready(graph.values().size(), false);

  std::unordered_set<std::string_view> names;
  for (std::size_t v = 0; v < graph.values().size(); ++v) {
    const Value& value = graph.values()[v];
    if (value.name.empty()) fail(ErrorCode::kInvalidModel, "value {} has no name", v);
    if (!names.insert(value.name).second) fail(ErrorCode::kInvalidModel, "two values are named '{}'", value.name);
    if (value.constant) {
      if (value.producer != kNoNode)
        fail(ErrorCode::kInvalidModel, "value '{}' is an initializer and also the output of a node", value.name);
      ready[v] = true;
    }
  }
  for (const ValueId input : graph.inputs()) {
    if (!valid(input)) fail(ErrorCode::kInvalidModel, "a graph input has the impossible id {}", input);
    const Value& value = graph.value(input);
    if (value.constant || value.producer != kNoNode)
      fail(ErrorCode::kInvalidModel, "graph input '{}' is also an initializer or the output of a node", value.name);
    if (ready[static_cast<std::size_t>(input)]) fail(ErrorCode::kInvalidModel, "graph input '{}' is listed twice", value.name);
    ready[static_cast<std::size_t>(input)] = true;
  }

  std::unordered_set<std::string_view> node_names;
  for (std::size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    if (node.name.empty()) fail(ErrorCode::kInvalidModel, "node {} ({}) has no name", n, node.op_type);
    if (!node_names.insert(node.name).second) fail(ErrorCode::kInvalidModel, "two nodes are named '{}'", node.name);
    for (const ValueId input : node.inputs) {
      if (input == kNoValue) continue;
      if (!valid(input)) fail(ErrorCode::kInvalidModel, "node '{}' ({}) reads the impossible value id {}", node.name, node.op_type, input);
      if (!ready[static_cast<std::size_t>(input)])
        fail(ErrorCode::kInvalidModel, "node '{}' ({}) reads '{}', which nothing before it produces", node.name, node.op_type,
             graph.value(input).name);
    }
    for (const ValueId output : node.outputs) {
      if (output == kNoValue) continue;
      if (!valid(output)) fail(ErrorCode::kInvalidModel, "node '{}' ({}) writes the impossible value id {}", node.name, node.op_type, output);
      const Value& value = graph.value(output);
      if (ready[static_cast<std::size_t>(output)])
        fail(ErrorCode::kInvalidModel, "value '{}' is produced twice; the second time by node '{}' ({})", value.name, node.name, node.op_type);
      if (value.producer != static_cast<NodeId>(n))
        fail(ErrorCode::kInvalidModel, "value '{}' does not know its producer '{}'", value.name, node.name);
      ready[static_cast<std::size_t>(output)] = true;
    }
  }
  for (const ValueId output : graph.outputs()) {
    if (!valid(output) || !ready[static_cast<std::size_t>(output)])
      fail(ErrorCode::kInvalidModel, "graph output '{}' is produced by nothing", valid(output) ? graph.value(output).name : "?");
  }
}

}  // namespace nibble
