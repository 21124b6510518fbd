#include "nibble/graph.h"

#include <algorithm>
#include <cassert>

#include "base/fail.h"

namespace nibble {

bool TensorType::fully_known() const {
  return dtype != DataType::kUndefined && has_rank && std::all_of(dims.begin(), dims.end(), [](const Dim& d) { return d.known(); });
}

Shape TensorType::shape() const {
  assert(fully_known());
  Shape shape;
  shape.reserve(dims.size());
  for (const Dim& dim : dims) shape.push_back(dim.size);
  return shape;
}

TensorType make_type(DataType dtype, const Shape& shape) {
  TensorType type{.dtype = dtype, .has_rank = true, .dims = {}};
  for (const std::int64_t size : shape) type.dims.push_back({.size = size, .symbol = {}});
  return type;
}

std::string to_string(const TensorType& type) {
  std::string text(to_string(type.dtype));
  if (!type.has_rank) return text;
  text += '[';
  for (std::size_t i = 0; i < type.dims.size(); ++i) {
    if (i > 0) text += ',';
    const Dim& dim = type.dims[i];
    text += dim.known() ? std::to_string(dim.size) : dim.symbol.empty() ? "?" : dim.symbol;
  }
  return text + "]";
}

namespace {

template <typename T>
const T* find_attribute(const Node& node, std::string_view name, std::string_view kind) {
  const auto it = node.attributes.find(name);
  if (it == node.attributes.end()) return nullptr;
  const T* value = std::get_if<T>(&it->second);
  if (value == nullptr)
    fail(ErrorCode::kInvalidModel, "node '{}' ({}): attribute '{}' must be {}", node.name, node.op_type, name, kind);
  return value;
}

}  // namespace

std::int64_t Node::get_int(std::string_view attribute, std::int64_t fallback) const {
  const auto* value = find_attribute<std::int64_t>(*this, attribute, "an integer");
  return value != nullptr ? *value : fallback;
}

float Node::get_float(std::string_view attribute, float fallback) const {
  const auto* value = find_attribute<float>(*this, attribute, "a float");
  return value != nullptr ? *value : fallback;
}

std::string Node::get_string(std::string_view attribute, std::string_view fallback) const {
  const auto* value = find_attribute<std::string>(*this, attribute, "a string");
  return value != nullptr ? *value : std::string(fallback);
}

std::optional<std::vector<std::int64_t>> Node::get_ints(std::string_view attribute) const {
  const auto* value = find_attribute<std::vector<std::int64_t>>(*this, attribute, "a list of integers");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<std::vector<float>> Node::get_floats(std::string_view attribute) const {
  const auto* value = find_attribute<std::vector<float>>(*this, attribute, "a list of floats");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<Tensor> Node::get_tensor(std::string_view attribute) const {
  const auto* value = find_attribute<Tensor>(*this, attribute, "a tensor");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<ValueId> Graph::find_value(std::string_view name) const {
  const auto it = value_by_name_.find(std::string(name));
  return it != value_by_name_.end() ? std::optional(it->second) : std::nullopt;
}

int Graph::opset(std::string_view domain) const {
  const auto it = opsets_.find(domain == "ai.onnx" ? "" : domain);
  return it != opsets_.end() ? it->second : 0;
}

bool Graph::is_graph_output(ValueId id) const { return std::find(outputs_.begin(), outputs_.end(), id) != outputs_.end(); }

std::vector<std::vector<NodeId>> Graph::consumers() const {
  std::vector<std::vector<NodeId>> result(values_.size());
  for (std::size_t n = 0; n < nodes_.size(); ++n) {
    for (const ValueId input : nodes_[n].inputs) {
      if (input != kNoValue) result[static_cast<std::size_t>(input)].push_back(static_cast<NodeId>(n));
    }
  }
  return result;
}

}  // namespace nibble
