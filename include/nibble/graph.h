// Graph: a network as values and nodes. Read by everybody; changed only through GraphEditor.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "nibble/data_type.h"
#include "nibble/tensor.h"

namespace nibble {

// Indices into Graph::values() and Graph::nodes(). kNoValue marks an optional input or output that is left out.
using ValueId = std::int32_t;
using NodeId = std::int32_t;
inline constexpr ValueId kNoValue = -1;
inline constexpr NodeId kNoNode = -1;

// One axis of a type: a known size, or -1 with or without a symbol ("batch").
struct Dim {
  std::int64_t size = -1;
  std::string symbol;
  bool known() const { return size >= 0; }
  bool operator==(const Dim&) const = default;
};

// What is known of a value without running the network.
struct TensorType {
  DataType dtype = DataType::kUndefined;  // kUndefined: unknown
  bool has_rank = false;
  std::vector<Dim> dims;

  bool fully_known() const;  // dtype, rank and every size
  Shape shape() const;       // asserts that every size is known
  bool operator==(const TensorType&) const = default;
};
TensorType make_type(DataType dtype, const Shape& shape);
std::string to_string(const TensorType& type);  // "float32[batch,3,224,224]"

using Attribute = std::variant<std::int64_t, float, std::string, std::vector<std::int64_t>, std::vector<float>,
                               std::vector<std::string>, Tensor>;

struct Node {
  std::string name;  // unique in the graph, never empty
  std::string domain;  // "" is ai.onnx
  std::string op_type;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  std::map<std::string, Attribute, std::less<>> attributes;

  // Typed access. A missing attribute gives the fallback (or nullopt); a present one of another kind throws Error{kInvalidModel} that
  // names node and attribute.
  bool has(std::string_view attribute) const { return attributes.find(attribute) != attributes.end(); }
  std::int64_t get_int(std::string_view attribute, std::int64_t fallback) const;
  float get_float(std::string_view attribute, float fallback) const;
  std::string get_string(std::string_view attribute, std::string_view fallback) const;
  std::optional<std::vector<std::int64_t>> get_ints(std::string_view attribute) const;
  std::optional<std::vector<float>> get_floats(std::string_view attribute) const;
  std::optional<Tensor> get_tensor(std::string_view attribute) const;

  ValueId input(std::size_t i) const { return i < inputs.size() ? inputs[i] : kNoValue; }
  ValueId output(std::size_t i) const { return i < outputs.size() ? outputs[i] : kNoValue; }
};

struct Value {
  std::string name;  // unique in the graph, never empty
  TensorType type;
  std::optional<Tensor> constant;  // an initializer
  NodeId producer = kNoNode;       // kNoNode: graph input or constant
};

// Values and nodes of one network. Invariants (checked by verify()): nodes stand in topological order; every value has one producer, is a
// graph input, or is a constant; names are unique; ids are in range.
class Graph {
 public:
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<Value>& values() const { return values_; }
  const Node& node(NodeId id) const { return nodes_[static_cast<std::size_t>(id)]; }
  const Value& value(ValueId id) const { return values_[static_cast<std::size_t>(id)]; }
  const std::vector<ValueId>& inputs() const { return inputs_; }    // real inputs: initializers are never among them
  const std::vector<ValueId>& outputs() const { return outputs_; }
  std::optional<ValueId> find_value(std::string_view name) const;

  const std::string& name() const { return name_; }
  // Version of an operator set ("" = ai.onnx); 0 if the model does not import it.
  int opset(std::string_view domain) const;
  const std::map<std::string, int, std::less<>>& opsets() const { return opsets_; }
  int ir_version() const { return ir_version_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  bool is_constant(ValueId id) const { return id != kNoValue && value(id).constant.has_value(); }
  bool is_graph_output(ValueId id) const;
  // Nodes that read each value, in order, one entry a use; index by ValueId. O(graph): ask once, not in a loop.
  std::vector<std::vector<NodeId>> consumers() const;

 private:
  friend class GraphEditor;
  std::string name_;
  std::vector<Node> nodes_;
  std::vector<Value> values_;
  std::vector<ValueId> inputs_;
  std::vector<ValueId> outputs_;
  std::map<std::string, int, std::less<>> opsets_;
  int ir_version_ = 8;
  std::map<std::string, std::string> metadata_;
  std::unordered_map<std::string, ValueId> value_by_name_;
};

// Throws Error{kInvalidModel} naming the first broken invariant, the node and the value.
void verify(const Graph& graph);

// The only way to change a Graph. Edits may leave nodes out of order and values unused; finish() puts that right:
// it drops removed nodes, nodes none of whose outputs are needed and unused values, sorts topologically (stable), and verifies.
// Ids change at finish(), not before.
class GraphEditor {
 public:
  explicit GraphEditor(Graph& graph);

  // An empty `name` gets a fresh one; a taken name gets a suffix.
  ValueId add_value(std::string name, TensorType type = {});
  ValueId add_constant(std::string name, Tensor tensor);
  ValueId add_input(std::string name, TensorType type);
  // `node.outputs` must be values without a producer. Appended; finish() sorts.
  NodeId add_node(Node node);
  void remove_node(NodeId id);  // its outputs lose their producer
  void set_input(NodeId id, std::size_t index, ValueId value);
  void set_inputs(NodeId id, std::vector<ValueId> values);
  void set_outputs(NodeId id, std::vector<ValueId> values);
  void set_op_type(NodeId id, std::string op_type, std::string domain = "");
  void set_attribute(NodeId id, std::string name, Attribute attribute);
  void remove_attribute(NodeId id, std::string_view name);
  // Every node input and graph output that reads `from` reads `to` instead. A graph output keeps its name: the two values swap names.
  // O(uses of the graph) for each call; passes that replace many values collect them in replace_uses(map).
  void replace_uses(ValueId from, ValueId to);
  void replace_uses(const std::unordered_map<ValueId, ValueId>& replacements);
  void set_type(ValueId id, TensorType type);
  void set_constant(ValueId id, Tensor tensor);
  // The value keeps its type and is known no longer; it needs a producer before finish().
  void clear_constant(ValueId id);
  void rename_value(ValueId id, std::string name);
  void set_outputs(std::vector<ValueId> outputs);
  void set_inputs(std::vector<ValueId> inputs);
  void set_name(std::string name);
  void set_opset(std::string domain, int version);
  void set_ir_version(int version);
  void set_metadata(std::string key, std::string value);
  std::string fresh_value_name(const std::string& base);
  std::string fresh_node_name(const std::string& base);

  const Graph& graph() const { return graph_; }
  // Also removes dead nodes and unused values where `prune` is kYes. Throws Error{kInvalidModel} on a cycle.
  enum class Prune { kNo, kYes };
  void finish(Prune prune = Prune::kYes);

 private:
  Graph& graph_;
  std::vector<bool> removed_;
  std::unordered_map<std::string, NodeId> node_by_name_;
};

// Text form, one line a node; for golden tests and dumps. parse_graph_text(print_graph(g)) gives the same graph, constants included where
// they are small (<= 64 elements) or splat; larger ones print as their shape and hash and cannot be parsed back.
std::string print_graph(const Graph& graph);
Graph parse_graph_text(std::string_view text, const std::string& origin = "text");

}  // namespace nibble
