#include "analyze/fake_quantized.h"

#include <string_view>
#include <unordered_map>

#include "numeric/quantize.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// A constant of the quantized graph as reals: codes under their parameters, behind a DequantizeLinear or not. nullopt: it is no such thing.
std::optional<Tensor> real_constant(const QuantizedGraph& model, ValueId id) {
  if (id == kNoValue) return std::nullopt;
  const Value& value = model.graph.value(id);
  if (!value.constant) {
    if (value.producer == kNoNode) return std::nullopt;
    const Node& producer = model.graph.node(value.producer);
    if (producer.op_type != "DequantizeLinear") return std::nullopt;
    return real_constant(model, producer.input(0));
  }
  const QuantParams* params = model.params_of(id);
  if (params == nullptr) return value.constant->type() == DataType::kFloat32 ? value.constant : std::nullopt;
  Tensor real(DataType::kFloat32, value.constant->shape());
  dequantize(codes_of(*value.constant), real.shape(), *params, real.mutable_data<float>());
  return real;
}

}  // namespace

FakeQuantized fake_quantized(const Graph& graph, const QuantizedGraph& model) {
  FakeQuantized result;
  result.constants.resize(graph.nodes().size());
  result.grid.resize(graph.values().size());
  result.integer.assign(graph.nodes().size(), false);
  std::unordered_map<std::string_view, const Node*> by_name;
  for (const Node& node : model.graph.nodes()) by_name.emplace(node.name, &node);
  const auto put_on_grid = [&](ValueId v, ValueId quantized) {
    if (v == kNoValue || quantized == kNoValue || graph.is_constant(v)) return;
    if (const QuantParams* params = model.params_of(quantized)) result.grid[index(v)] = *params;
  };
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    const Node& node = graph.node(n);
    const auto it = by_name.find(node.name);
    if (it == by_name.end()) continue;
    const Node& other = *it->second;
    result.integer[index(n)] = model.params_of(other.output(0)) != nullptr;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId v = node.inputs[i];
      if (v == kNoValue) continue;
      if (!graph.is_constant(v)) {
        put_on_grid(v, other.input(i));
        continue;
      }
      if (graph.value(v).constant->type() != DataType::kFloat32) continue;
      auto real = real_constant(model, other.input(i));
      if (!real || real->size() != graph.value(v).constant->size() || bit_equal(*real, *graph.value(v).constant)) continue;
      result.constants[index(n)].insert_or_assign(v, real->reshaped(graph.value(v).constant->shape()));
    }
    for (std::size_t i = 0; i < node.outputs.size(); ++i) put_on_grid(node.outputs[i], other.output(i));
  }
  return result;
}

Interpreter::Change change_of(const FakeQuantized& fake, const std::vector<NodeId>& weights_of, const std::vector<ValueId>& values) {
  Interpreter::Change change;
  for (const NodeId n : weights_of) {
    for (const auto& [v, tensor] : fake.constants[index(n)]) change.constants.insert_or_assign(v, tensor);
  }
  change.edited.assign(fake.grid.size(), false);
  for (const ValueId v : values) change.edited[index(v)] = fake.grid[index(v)].has_value();
  change.edit = [&fake](ValueId v, std::span<float> x) {
    const QuantParams& p = *fake.grid[index(v)];  // of a whole tensor: activations have one scale
    const std::int64_t qmin = p.qmin();
    const std::int64_t qmax = p.qmax();
    for (float& e : x) e = fake_quantize(e, p.scale[0], p.zero_point[0], qmin, qmax);
  };
  return change;
}

Interpreter::Change change_of_all(const FakeQuantized& fake) {
  std::vector<NodeId> nodes(fake.constants.size());
  for (std::size_t n = 0; n < nodes.size(); ++n) nodes[n] = static_cast<NodeId>(n);
  std::vector<ValueId> values(fake.grid.size());
  for (std::size_t v = 0; v < values.size(); ++v) values[v] = static_cast<ValueId>(v);
  return change_of(fake, nodes, values);
}

}  // namespace nibble
