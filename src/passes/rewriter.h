// Rewriter: what every pass needs beside the GraphEditor: who reads a value now (not when the pass began), and the report.
//
// Passes walk the nodes in topological order and edit as they go. The editor keeps ids stable until finish(), so a pass may hold NodeId and
// ValueId across edits, but no reference to a Node or Value across one that adds some.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "nibble/graph.h"
#include "nibble/passes.h"

namespace nibble {

class Rewriter {
 public:
  Rewriter(Graph& graph, PassReport& report);

  const Graph& graph() const { return editor_.graph(); }
  GraphEditor& editor() { return editor_; }
  const Node& node(NodeId id) const { return graph().node(id); }
  const Value& value(ValueId id) const { return graph().value(id); }
  NodeId node_count() const { return static_cast<NodeId>(graph().nodes().size()); }
  bool is_removed(NodeId id) const { return node(id).outputs.empty(); }
  bool is(NodeId id, std::string_view op_type) const { return id != kNoNode && node(id).domain.empty() && node(id).op_type == op_type; }

  // The node that makes a value; kNoNode for inputs, constants and values left out.
  NodeId producer(ValueId id) const { return id == kNoValue ? kNoNode : value(id).producer; }
  // nullptr unless the value is a constant.
  const Tensor* constant(ValueId id) const { return graph().is_constant(id) ? &*value(id).constant : nullptr; }
  bool is_output(ValueId id) const {
    return id != kNoValue && static_cast<std::size_t>(id) < output_.size() && output_[static_cast<std::size_t>(id)];
  }
  bool is_input(ValueId id) const { return id != kNoValue && producer(id) == kNoNode && constant(id) == nullptr; }
  // Readers of a value, one entry a use.
  const std::vector<NodeId>& readers(ValueId id);
  // One use in all, and no graph output: the value may vanish.
  bool has_one_use(ValueId id);
  // Why has_one_use() is false, for the report.
  std::string uses_text(ValueId id);

  // Edits that keep the readers right.
  void set_inputs(NodeId id, std::vector<ValueId> inputs);
  void set_input(NodeId id, std::size_t index, ValueId value);
  NodeId add_node(Node node);
  void remove_node(NodeId id);
  // `tail` (one output, reading `head`'s only output, which nobody else reads) vanishes; `head` makes tail's output from now on.
  void absorb(NodeId head, NodeId tail);
  // A constant that replaces input `index` of a node: in place where nobody else reads the old one, so that its name stays.
  void replace_constant(NodeId id, std::size_t index, Tensor tensor, const std::string& name_if_new);
  // Every use of `from` reads `to` once finish() is called. A graph output's declared type goes over to `to`. False (and nothing is done)
  // where a graph output would have to be an input, a constant or another output.
  bool forward(ValueId from, ValueId to);

  template <typename... Args>
  void applied(const std::string& node_name, fmt::format_string<Args...> format, Args&&... args) {
    report_.applied.push_back({node_name, fmt::format(format, std::forward<Args>(args)...)});
  }
  template <typename... Args>
  void declined(const std::string& node_name, fmt::format_string<Args...> format, Args&&... args) {
    report_.declined.push_back({node_name, fmt::format(format, std::forward<Args>(args)...)});
  }
  // Sorts, prunes, verifies. Ids are new after it.
  void finish();

 private:
  ValueId root(ValueId id) const;

  GraphEditor editor_;
  PassReport& report_;
  std::vector<std::vector<NodeId>> readers_;
  std::vector<bool> output_;
  std::unordered_map<ValueId, ValueId> forwarded_;
};

// The elements as doubles with their shape kept; `back` of a double vector to a tensor of the wanted float type. Folding is done in double
// and rounded once.
Tensor from_doubles(std::span<const double> values, const Shape& shape, DataType type);
bool all_finite(std::span<const double> values);
// Opset 13 and later hand axes and the like over as inputs, older ones as attributes. nullopt: given, but not a constant. Absent: empty
// vector.
std::optional<std::vector<std::int64_t>> ints_of(const Rewriter& rewriter, const Node& node, std::size_t input_index,
                                                 std::string_view attribute);
// True where each size is known to be equal. With `count_kept` (the node keeps the number of elements) one unknown axis is allowed.
bool same_shape(const TensorType& a, const TensorType& b, bool count_kept);
// True for float32, float64, float16, bfloat16 tensors.
bool is_real(const Tensor& tensor);

}  // namespace nibble
