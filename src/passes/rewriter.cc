#include "passes/rewriter.h"

#include <algorithm>
#include <cmath>

#include "base/fail.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

}  // namespace

Rewriter::Rewriter(Graph& graph, PassReport& report)
    : editor_(graph), report_(report), readers_(graph.consumers()), output_(graph.values().size(), false) {
  for (const ValueId id : graph.outputs()) output_[index(id)] = true;
}

const std::vector<NodeId>& Rewriter::readers(ValueId id) {
  if (index(id) >= readers_.size()) readers_.resize(graph().values().size());
  return readers_[index(id)];
}

bool Rewriter::has_one_use(ValueId id) { return readers(id).size() == 1 && !is_output(id); }

std::string Rewriter::uses_text(ValueId id) {
  if (is_output(id)) return fmt::format("'{}' is an output of the graph", value(id).name);
  return fmt::format("'{}' has {} readers", value(id).name, readers(id).size());
}

void Rewriter::set_inputs(NodeId id, std::vector<ValueId> inputs) {
  if (readers_.size() < graph().values().size()) readers_.resize(graph().values().size());
  for (const ValueId old : node(id).inputs) {
    if (old == kNoValue) continue;
    auto& list = readers_[index(old)];
    if (const auto it = std::find(list.begin(), list.end(), id); it != list.end()) list.erase(it);
  }
  for (const ValueId input : inputs) {
    if (input != kNoValue) readers_[index(input)].push_back(id);
  }
  editor_.set_inputs(id, std::move(inputs));
}

void Rewriter::set_input(NodeId id, std::size_t i, ValueId value) {
  std::vector<ValueId> inputs = node(id).inputs;
  if (i >= inputs.size()) inputs.resize(i + 1, kNoValue);
  inputs[i] = value;
  set_inputs(id, std::move(inputs));
}

NodeId Rewriter::add_node(Node node) {
  std::vector<ValueId> inputs = std::move(node.inputs);
  node.inputs.clear();
  const NodeId id = editor_.add_node(std::move(node));
  set_inputs(id, std::move(inputs));
  return id;
}

void Rewriter::remove_node(NodeId id) {
  set_inputs(id, {});
  editor_.remove_node(id);
}

void Rewriter::absorb(NodeId head, NodeId tail) {
  std::vector<ValueId> outputs = {node(tail).output(0)};
  remove_node(tail);
  editor_.set_outputs(head, std::move(outputs));
}

void Rewriter::replace_constant(NodeId id, std::size_t i, Tensor tensor, const std::string& name_if_new) {
  const ValueId old = node(id).input(i);
  if (old != kNoValue && constant(old) != nullptr && has_one_use(old)) {
    editor_.set_constant(old, std::move(tensor));
    return;
  }
  set_input(id, i, editor_.add_constant(old != kNoValue ? value(old).name + "_folded" : name_if_new, std::move(tensor)));
}

ValueId Rewriter::root(ValueId id) const {
  for (auto it = forwarded_.find(id); it != forwarded_.end(); it = forwarded_.find(id)) id = it->second;
  return id;
}

bool Rewriter::forward(ValueId from, ValueId to) {
  to = root(to);
  if (is_output(from)) {
    if (is_output(to) || is_input(to) || constant(to) != nullptr) return false;
    editor_.set_type(to, value(from).type);
    output_[index(to)] = true;  // it will be the output
  }
  forwarded_.emplace(from, to);
  if (readers_.size() < graph().values().size()) readers_.resize(graph().values().size());
  auto& old = readers_[index(from)];
  readers_[index(to)].insert(readers_[index(to)].end(), old.begin(), old.end());
  return true;
}

void Rewriter::finish() {
  if (!forwarded_.empty()) editor_.replace_uses(forwarded_);
  editor_.finish();
}

Tensor from_doubles(std::span<const double> values, const Shape& shape, DataType type) {
  return cast(Tensor::from<double>(shape, values), type);
}

bool all_finite(std::span<const double> values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

std::optional<std::vector<std::int64_t>> ints_of(const Rewriter& rewriter, const Node& node, std::size_t input_index,
                                                 std::string_view attribute) {
  if (const ValueId id = node.input(input_index); id != kNoValue) {
    const Tensor* tensor = rewriter.constant(id);
    if (tensor == nullptr) return std::nullopt;
    return to_int64s(*tensor);
  }
  return node.get_ints(attribute).value_or(std::vector<std::int64_t>{});
}

bool same_shape(const TensorType& a, const TensorType& b, bool count_kept) {
  if (!a.has_rank || !b.has_rank || a.dims.size() != b.dims.size()) return false;
  int unknown = 0;
  for (std::size_t i = 0; i < a.dims.size(); ++i) {
    const Dim& x = a.dims[i];
    const Dim& y = b.dims[i];
    if (x.known() && y.known()) {
      if (x.size != y.size) return false;
      if (x.size == 0) count_kept = false;  // an empty tensor's other axes are free
    } else if (x.known() || y.known() || x.symbol.empty() || x.symbol != y.symbol) {
      ++unknown;
    }
  }
  return unknown == 0 || (count_kept && unknown == 1);
}

bool is_real(const Tensor& tensor) { return is_float(tensor.type()); }

}  // namespace nibble
