#include "train/binarize.h"

#include <algorithm>

#include "base/fail.h"
#include "train/training_graph.h"

namespace nibble::train {
namespace {

bool one_of(const Node& node, std::initializer_list<std::string_view> ops) {
  return node.domain.empty() && std::find(ops.begin(), ops.end(), node.op_type) != ops.end();
}

// Walks back from a layer's input to the activation before it, through what moves values without computing.
class Chain {
 public:
  Chain(const Graph& graph, const Node& layer) : graph_(graph), layer_(layer) {}

  // The Relu or Clip to remove; kNoNode where there is none and the values may fall below 0 as they are.
  NodeId activation() const {
    ValueId v = layer_.input(0);
    for (;;) {
      const NodeId producer = graph_.value(v).producer;
      if (producer == kNoNode) refuse("it reads the network's input");
      const Node& node = graph_.node(producer);
      if (one_of(node, {"MaxPool", "Flatten", "Reshape", "Identity", "Dropout", "Squeeze", "Unsqueeze", "Transpose"})) {
        v = node.input(0);
        continue;
      }
      if (one_of(node, {"Relu", "Clip"})) {
        require_normalized(node.input(0));
        return producer;
      }
      require_normalized(v);
      return kNoNode;
    }
  }

 private:
  void require_normalized(ValueId v) const {
    const NodeId producer = graph_.value(v).producer;
    if (producer != kNoNode && one_of(graph_.node(producer), {"BatchNormalization", "Add"})) return;
    refuse(producer == kNoNode ? std::string("nothing computes its input")
                               : fmt::format("its input comes from '{}' ({}), not from a BatchNormalization", graph_.node(producer).name,
                                             graph_.node(producer).op_type));
  }
  [[noreturn]] void refuse(const std::string& why) const {
    fail(ErrorCode::kUnsupported,
         "node '{}' ({}): its activations cannot be signs: {}; expected the order Conv, BatchNormalization, Relu, layer", layer_.name,
         layer_.op_type, why);
  }

  const Graph& graph_;
  const Node& layer_;
};

}  // namespace

bool is_sign(const Node& node) { return node.domain == kSignDomain && node.op_type == "Sign"; }

void binarize_graph(Graph& graph, FirstLastPolicy first_last, std::vector<std::string>& notes) {
  std::vector<NodeId> layers;
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    if (is_layer(graph, graph.node(n))) layers.push_back(n);
  }
  if (layers.size() < 2)
    fail(ErrorCode::kUnsupported, "the network has {} layers with weights; signs need one between first and last", layers.size());
  layers.erase(layers.begin());
  if (first_last != FirstLastPolicy::kSame) layers.pop_back();

  std::map<NodeId, std::vector<std::string>> removed;  // activations, and for whom
  std::map<ValueId, ValueId> sign_of;                  // one Sign a value, whoever reads it
  for (const NodeId n : layers) {
    const NodeId activation = Chain(graph, graph.node(n)).activation();
    if (activation != kNoNode) removed[activation].push_back(graph.node(n).name);
  }
  GraphEditor editor(graph);
  for (const NodeId n : layers) {
    const ValueId from = graph.node(n).input(0);
    ValueId& sign = sign_of.emplace(from, kNoValue).first->second;
    if (sign == kNoValue) {
      sign = editor.add_value(editor.fresh_value_name(graph.value(from).name + "_sign"));
      Node node;
      node.name = editor.fresh_node_name(graph.value(from).name + "_Sign");
      node.domain = kSignDomain;
      node.op_type = "Sign";
      node.inputs = {from};
      node.outputs = {sign};
      editor.add_node(std::move(node));
      notes.push_back(fmt::format("a sign stands before layer '{}'", graph.node(n).name));
    }
    editor.set_input(n, 0, sign);
  }
  for (const auto& [activation, readers] : removed) {
    const Node& node = graph.node(activation);
    notes.push_back(
        fmt::format("'{}' ({}) is gone: behind it the sign before '{}' would be constant", node.name, node.op_type, readers.front()));
    const ValueId from = node.input(0), to = node.output(0);
    editor.remove_node(activation);
    editor.replace_uses(to, from);
  }
  editor.set_opset(kSignDomain, 1);
  editor.finish();
}

Graph expand_signs(const Graph& graph, const std::map<std::string, std::vector<SignBase>>& signs) {
  Graph result = graph;
  const bool any = std::any_of(graph.nodes().begin(), graph.nodes().end(), is_sign);
  if (any && graph.opset("") < 12)
    fail(ErrorCode::kUnsupported, "signs are written with GreaterOrEqual, an operator of opset 12; the network has opset {}: convert it",
         graph.opset(""));
  GraphEditor editor(result);
  const auto count = static_cast<NodeId>(result.nodes().size());
  for (NodeId n = 0; n < count; ++n) {
    const Node sign = result.node(n);
    if (!is_sign(sign)) continue;
    const ValueId x = sign.input(0), y = sign.output(0);
    const std::string name = result.value(y).name;
    const auto given = signs.find(name);
    std::vector<ValueId> parts;
    const std::vector<SignBase> bases = given == signs.end() ? std::vector<SignBase>{SignBase{}} : given->second;
    editor.remove_node(n);
    for (std::size_t i = 0; i < bases.size(); ++i) {
      const std::string part = bases.size() == 1 ? name : fmt::format("{}_sign{}", name, i);
      const auto scale = static_cast<float>(bases[i].scale);
      const ValueId threshold = editor.add_constant(part + "_threshold", Tensor::scalar(static_cast<float>(bases[i].threshold)));
      const ValueId high = editor.add_constant(part + "_high", Tensor::scalar(scale));
      const ValueId low = editor.add_constant(part + "_low", Tensor::scalar(-scale));
      const ValueId above = editor.add_value(part + "_above");
      const ValueId made = bases.size() == 1 ? y : editor.add_value(part);
      const auto add = [&](const char* op, std::vector<ValueId> inputs, ValueId output) {
        Node node;
        node.name = editor.fresh_node_name(fmt::format("{}_{}", result.value(output).name, op));
        node.op_type = op;
        node.inputs = std::move(inputs);
        node.outputs = {output};
        editor.add_node(std::move(node));
      };
      add("GreaterOrEqual", {x, threshold}, above);
      add("Where", {above, high, low}, made);
      parts.push_back(made);
    }
    if (parts.size() > 1) {
      Node node;
      node.name = editor.fresh_node_name(name + "_Sum");
      node.op_type = "Sum";
      node.inputs = parts;
      node.outputs = {y};
      editor.add_node(std::move(node));
    }
  }
  editor.finish();
  return result;
}

}  // namespace nibble::train
