#include <algorithm>
#include <functional>
#include <queue>

#include "base/fail.h"
#include "nibble/graph.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

}  // namespace

GraphEditor::GraphEditor(Graph& graph) : graph_(graph), removed_(graph.nodes_.size(), false) {
  for (std::size_t n = 0; n < graph.nodes_.size(); ++n) node_by_name_.emplace(graph.nodes_[n].name, static_cast<NodeId>(n));
}

std::string GraphEditor::fresh_value_name(const std::string& base) {
  const std::string stem = base.empty() ? "value" : base;
  if (!base.empty() && !graph_.value_by_name_.contains(stem)) return stem;
  for (std::size_t i = graph_.values_.size();; ++i) {
    std::string name = stem + "_" + std::to_string(i);
    if (!graph_.value_by_name_.contains(name)) return name;
  }
}

std::string GraphEditor::fresh_node_name(const std::string& base) {
  const std::string stem = base.empty() ? "node" : base;
  if (!base.empty() && !node_by_name_.contains(stem)) return stem;
  for (std::size_t i = graph_.nodes_.size();; ++i) {
    std::string name = stem + "_" + std::to_string(i);
    if (!node_by_name_.contains(name)) return name;
  }
}

ValueId GraphEditor::add_value(std::string name, TensorType type) {
  name = fresh_value_name(name);
  const auto id = static_cast<ValueId>(graph_.values_.size());
  graph_.value_by_name_.emplace(name, id);
  graph_.values_.push_back({.name = std::move(name), .type = std::move(type), .constant = std::nullopt, .producer = kNoNode});
  return id;
}

ValueId GraphEditor::add_constant(std::string name, Tensor tensor) {
  const ValueId id = add_value(std::move(name));
  set_constant(id, std::move(tensor));
  return id;
}

ValueId GraphEditor::add_input(std::string name, TensorType type) {
  const ValueId id = add_value(std::move(name), std::move(type));
  graph_.inputs_.push_back(id);
  return id;
}

NodeId GraphEditor::add_node(Node node) {
  const auto id = static_cast<NodeId>(graph_.nodes_.size());
  node.name = fresh_node_name(node.name.empty() ? node.op_type : node.name);
  if (node.domain == "ai.onnx") node.domain.clear();
  for (const ValueId output : node.outputs) {
    if (output == kNoValue) continue;
    Value& value = graph_.values_[index(output)];
    if (value.producer != kNoNode || value.constant)
      fail(ErrorCode::kInvalidModel, "value '{}' is produced twice; the second time by node '{}' ({})", value.name, node.name, node.op_type);
    value.producer = id;
  }
  node_by_name_.emplace(node.name, id);
  graph_.nodes_.push_back(std::move(node));
  removed_.push_back(false);
  return id;
}

void GraphEditor::remove_node(NodeId id) {
  if (removed_[index(id)]) return;  // a newer node may have its name
  Node& node = graph_.nodes_[index(id)];
  for (const ValueId output : node.outputs) {
    if (output != kNoValue && graph_.values_[index(output)].producer == id) graph_.values_[index(output)].producer = kNoNode;
  }
  node.inputs.clear();
  node.outputs.clear();
  node_by_name_.erase(node.name);
  removed_[index(id)] = true;
}

void GraphEditor::set_input(NodeId id, std::size_t i, ValueId value) {
  auto& inputs = graph_.nodes_[index(id)].inputs;
  if (i >= inputs.size()) inputs.resize(i + 1, kNoValue);
  inputs[i] = value;
}

void GraphEditor::set_inputs(NodeId id, std::vector<ValueId> values) { graph_.nodes_[index(id)].inputs = std::move(values); }

void GraphEditor::set_outputs(NodeId id, std::vector<ValueId> values) {
  Node& node = graph_.nodes_[index(id)];
  for (const ValueId output : node.outputs) {
    if (output != kNoValue && graph_.values_[index(output)].producer == id) graph_.values_[index(output)].producer = kNoNode;
  }
  node.outputs = std::move(values);
  for (const ValueId output : node.outputs) {
    if (output != kNoValue) graph_.values_[index(output)].producer = id;
  }
}

void GraphEditor::set_op_type(NodeId id, std::string op_type, std::string domain) {
  graph_.nodes_[index(id)].op_type = std::move(op_type);
  graph_.nodes_[index(id)].domain = domain == "ai.onnx" ? std::string() : std::move(domain);
}

void GraphEditor::set_attribute(NodeId id, std::string name, Attribute attribute) {
  graph_.nodes_[index(id)].attributes.insert_or_assign(std::move(name), std::move(attribute));
}

void GraphEditor::remove_attribute(NodeId id, std::string_view name) {
  auto& attributes = graph_.nodes_[index(id)].attributes;
  if (const auto it = attributes.find(name); it != attributes.end()) attributes.erase(it);
}

void GraphEditor::replace_uses(ValueId from, ValueId to) { replace_uses({{from, to}}); }

void GraphEditor::replace_uses(const std::unordered_map<ValueId, ValueId>& replacements) {
  // a -> b -> c: every use ends at c. What was found is kept for the whole way there: a chain of n values takes n steps, not n * n.
  std::unordered_map<ValueId, ValueId> known;
  std::vector<ValueId> way;
  const auto last = [&](ValueId id) {
    way.clear();
    for (;;) {
      if (const auto it = known.find(id); it != known.end()) {
        id = it->second;
        break;
      }
      const auto it = replacements.find(id);
      if (it == replacements.end() || it->second == id) break;
      way.push_back(id);
      if (way.size() > replacements.size())
        fail(ErrorCode::kInvalidModel, "value '{}' would be replaced by itself through others", graph_.values_[index(id)].name);
      id = it->second;
    }
    for (const ValueId step : way) known.emplace(step, id);
    return id;
  };
  for (Node& node : graph_.nodes_) {
    for (ValueId& input : node.inputs) input = last(input);
  }
  const std::size_t first_new_node = graph_.nodes_.size();
  for (ValueId& output : graph_.outputs_) {
    const ValueId from = output;
    const ValueId to = last(from);
    if (to == from) continue;
    if (std::find(graph_.inputs_.begin(), graph_.inputs_.end(), from) != graph_.inputs_.end()) {
      output = to;  // an input that was an output too: the name is the input's
      continue;
    }
    const Value& target = graph_.values_[index(to)];
    const bool target_is_output = std::find(graph_.outputs_.begin(), graph_.outputs_.end(), to) != graph_.outputs_.end();
    const bool target_is_input = std::find(graph_.inputs_.begin(), graph_.inputs_.end(), to) != graph_.inputs_.end();
    if (!target_is_output && !target_is_input && !target.constant) {
      // The outside knows the output by its name: it keeps it.
      std::string output_name = graph_.values_[index(from)].name;
      std::string target_name = target.name;
      rename_value(from, fresh_value_name(target_name + "_replaced"));
      rename_value(to, std::move(output_name));
      std::replace(graph_.outputs_.begin(), graph_.outputs_.end(), from, to);  // listed twice or more: all of them
    } else {
      // An input, a constant or another output cannot take the name over: an Identity keeps the output's own value.
      Value& value = graph_.values_[index(from)];
      if (value.producer != kNoNode) {
        if (index(value.producer) >= first_new_node) continue;  // listed twice: the first time brought the Identity
        auto& outputs = graph_.nodes_[index(value.producer)].outputs;
        std::replace(outputs.begin(), outputs.end(), from, kNoValue);
        value.producer = kNoNode;
      }
      value.constant.reset();
      Node identity;
      identity.op_type = "Identity";
      identity.inputs = {to};
      identity.outputs = {from};
      add_node(std::move(identity));
    }
  }
}

void GraphEditor::set_type(ValueId id, TensorType type) { graph_.values_[index(id)].type = std::move(type); }

void GraphEditor::set_constant(ValueId id, Tensor tensor) {
  Value& value = graph_.values_[index(id)];
  value.type = make_type(tensor.type(), tensor.shape());
  value.constant = std::move(tensor);
}

void GraphEditor::clear_constant(ValueId id) { graph_.values_[index(id)].constant.reset(); }

void GraphEditor::rename_value(ValueId id, std::string name) {
  Value& value = graph_.values_[index(id)];
  if (value.name == name) return;
  graph_.value_by_name_.erase(value.name);
  value.name = std::move(name);
  graph_.value_by_name_.insert_or_assign(value.name, id);
}

void GraphEditor::set_outputs(std::vector<ValueId> outputs) { graph_.outputs_ = std::move(outputs); }
void GraphEditor::set_inputs(std::vector<ValueId> inputs) { graph_.inputs_ = std::move(inputs); }
void GraphEditor::set_name(std::string name) { graph_.name_ = std::move(name); }
void GraphEditor::set_opset(std::string domain, int version) {
  graph_.opsets_.insert_or_assign(domain == "ai.onnx" ? std::string() : std::move(domain), version);
}
void GraphEditor::set_ir_version(int version) { graph_.ir_version_ = version; }
void GraphEditor::set_metadata(std::string key, std::string value) { graph_.metadata_.insert_or_assign(std::move(key), std::move(value)); }

void GraphEditor::finish(Prune prune) {
  auto& nodes = graph_.nodes_;
  auto& values = graph_.values_;

  // Nodes that an output needs, found backwards from the outputs.
  std::vector<bool> needed(nodes.size(), prune == Prune::kNo);
  if (prune == Prune::kYes) {
    std::vector<NodeId> stack;
    const auto need = [&](ValueId id) {
      if (id == kNoValue) return;
      const NodeId producer = values[index(id)].producer;
      if (producer != kNoNode && !needed[index(producer)]) {
        needed[index(producer)] = true;
        stack.push_back(producer);
      }
    };
    for (const ValueId output : graph_.outputs_) need(output);
    while (!stack.empty()) {
      const NodeId id = stack.back();
      stack.pop_back();
      for (const ValueId input : nodes[index(id)].inputs) need(input);
    }
  }

  // Kahn's algorithm; among ready nodes the lowest old index first, so that an ordered graph keeps its order.
  std::vector<std::int32_t> waiting(nodes.size(), 0);
  std::vector<std::vector<NodeId>> readers(nodes.size());
  std::priority_queue<NodeId, std::vector<NodeId>, std::greater<>> ready;
  std::size_t kept = 0;
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    if (removed_[n] || !needed[n]) continue;
    ++kept;
    for (const ValueId input : nodes[n].inputs) {
      if (input == kNoValue) continue;
      const NodeId producer = values[index(input)].producer;
      if (producer == kNoNode) continue;
      ++waiting[n];
      readers[index(producer)].push_back(static_cast<NodeId>(n));
    }
    if (waiting[n] == 0) ready.push(static_cast<NodeId>(n));
  }
  std::vector<NodeId> order;
  order.reserve(kept);
  while (!ready.empty()) {
    const NodeId id = ready.top();
    ready.pop();
    order.push_back(id);
    for (const NodeId reader : readers[index(id)]) {
      if (--waiting[index(reader)] == 0) ready.push(reader);
    }
  }
  if (order.size() != kept) {
    // A node that waits may only read from the cycle. Each waits for another that waits: going back far enough ends inside the cycle.
    const auto waits = [&](NodeId id) { return !removed_[index(id)] && needed[index(id)] && waiting[index(id)] > 0; };
    NodeId id = 0;
    while (!waits(id)) ++id;
    for (std::size_t step = 0; step < nodes.size(); ++step) {
      for (const ValueId input : nodes[index(id)].inputs) {
        const NodeId producer = input != kNoValue ? values[index(input)].producer : kNoNode;
        if (producer != kNoNode && waits(producer)) {
          id = producer;
          break;
        }
      }
    }
    fail(ErrorCode::kInvalidModel, "the graph has a cycle through node '{}' ({})", nodes[index(id)].name, nodes[index(id)].op_type);
  }

  // Values still in use, in their old order.
  std::vector<bool> used(values.size(), prune == Prune::kNo);
  const auto use = [&](ValueId id) {
    if (id != kNoValue) used[index(id)] = true;
  };
  for (const ValueId id : graph_.inputs_) use(id);
  for (const ValueId id : graph_.outputs_) use(id);
  for (const NodeId id : order) {
    for (const ValueId input : nodes[index(id)].inputs) use(input);
    for (const ValueId output : nodes[index(id)].outputs) use(output);
  }

  std::vector<ValueId> new_value_id(values.size(), kNoValue);
  std::vector<Value> new_values;
  for (std::size_t v = 0; v < values.size(); ++v) {
    if (!used[v]) continue;
    new_value_id[v] = static_cast<ValueId>(new_values.size());
    new_values.push_back(std::move(values[v]));
    new_values.back().producer = kNoNode;
  }
  const auto renumber = [&](std::vector<ValueId>& ids) {
    for (ValueId& id : ids) {
      if (id != kNoValue) id = new_value_id[index(id)];
    }
  };
  std::vector<Node> new_nodes;
  new_nodes.reserve(order.size());
  for (const NodeId id : order) {
    Node node = std::move(nodes[index(id)]);
    renumber(node.inputs);
    renumber(node.outputs);
    while (!node.inputs.empty() && node.inputs.back() == kNoValue) node.inputs.pop_back();
    for (const ValueId output : node.outputs) {
      if (output != kNoValue) new_values[index(output)].producer = static_cast<NodeId>(new_nodes.size());
    }
    new_nodes.push_back(std::move(node));
  }
  nodes = std::move(new_nodes);
  values = std::move(new_values);
  renumber(graph_.inputs_);
  renumber(graph_.outputs_);
  graph_.value_by_name_.clear();
  for (std::size_t v = 0; v < values.size(); ++v) graph_.value_by_name_.emplace(values[v].name, static_cast<ValueId>(v));
  removed_.assign(nodes.size(), false);
  node_by_name_.clear();
  for (std::size_t n = 0; n < nodes.size(); ++n) node_by_name_.emplace(nodes[n].name, static_cast<NodeId>(n));
  verify(graph_);
}

}  // namespace nibble
