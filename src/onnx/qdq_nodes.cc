#include "onnx/qdq_nodes.h"

#include <algorithm>
#include <cmath>

#include "numeric/quantize.h"
#include "onnx/packed_weights.h"
#include "ops/fail.h"
#include "ops/op.h"
#include "quantize/integer_form.h"

namespace nibble {
namespace {

bool standard_or_microsoft(const Node& node) { return node.domain.empty() || node.domain == "com.microsoft"; }

// Constants of any numeric type as the integers of a grid.
Tensor as_integers(std::span<const std::int32_t> values, const QuantType& type, const Shape& shape) {
  return cast(Tensor::from<std::int32_t>(shape, values), element_type_of(type));
}

// What a QuantizeLinear without a zero point makes.
DataType type_by_attribute(const Node& node) {
  constexpr std::int64_t kOnnxUInt8 = 2, kOnnxInt8 = 3, kOnnxUInt16 = 4, kOnnxInt16 = 5, kOnnxUInt4 = 21, kOnnxInt4 = 22;
  switch (node.get_int("output_dtype", 0)) {
    case 0:
    case kOnnxUInt8: return DataType::kUInt8;
    case kOnnxInt8: return DataType::kInt8;
    case kOnnxUInt16: return DataType::kUInt16;
    case kOnnxInt16: return DataType::kInt16;
    case kOnnxUInt4: return DataType::kUInt4;
    case kOnnxInt4: return DataType::kInt4;
    default: return DataType::kUndefined;
  }
}

}  // namespace

bool is_quantize_linear(const Node& node) { return node.op_type == "QuantizeLinear" && standard_or_microsoft(node); }
bool is_dequantize_linear(const Node& node) { return node.op_type == "DequantizeLinear" && standard_or_microsoft(node); }

std::optional<QuantType> grid_of(DataType type) {
  switch (type) {
    case DataType::kInt4: return QuantType{.bit_width = 4, .is_signed = true};
    case DataType::kUInt4: return QuantType{.bit_width = 4, .is_signed = false};
    case DataType::kInt8: return QuantType{.bit_width = 8, .is_signed = true};
    case DataType::kUInt8: return QuantType{.bit_width = 8, .is_signed = false};
    case DataType::kInt16: return QuantType{.bit_width = 16, .is_signed = true};
    case DataType::kUInt16: return QuantType{.bit_width = 16, .is_signed = false};
    case DataType::kInt32: return QuantType{.bit_width = 32, .is_signed = true};
    default: return std::nullopt;
  }
}

DataType element_type_of(const QuantType& type) {
  if (type.bit_width > 16) return DataType::kInt32;
  if (type.bit_width > 8) return type.is_signed ? DataType::kInt16 : DataType::kUInt16;
  if (type.bit_width == 4) return type.is_signed ? DataType::kInt4 : DataType::kUInt4;
  return type.is_signed ? DataType::kInt8 : DataType::kUInt8;
}

DataType integer_type_of(const Graph& graph, ValueId id) {
  if (id == kNoValue) return DataType::kUndefined;
  for (int hops = 0; hops < 1000; ++hops) {
    const Value& value = graph.value(id);
    if (value.constant) return value.constant->type();
    if (value.producer == kNoNode) return value.type.dtype;
    const Node& node = graph.node(value.producer);
    if (is_quantize_linear(node)) {
      const ValueId zero_point = node.input(2);
      if (zero_point != kNoValue && graph.is_constant(zero_point)) return graph.value(zero_point).constant->type();
      return type_by_attribute(node);
    }
    if (value.type.dtype != DataType::kUndefined) return value.type.dtype;
    if (!movement_of(graph, node).moves) return DataType::kUndefined;
    id = node.inputs[0];
  }
  return DataType::kUndefined;
}

std::optional<QuantParams> read_params(const Graph& graph, const Node& node) {
  const ValueId scale_id = node.input(1);
  const ValueId zero_id = node.input(2);
  if (scale_id == kNoValue) fail_node(node, "has no scale");
  if (!graph.is_constant(scale_id) || (zero_id != kNoValue && !graph.is_constant(zero_id))) return std::nullopt;
  const Tensor& scale = *graph.value(scale_id).constant;
  if (!is_float(scale.type())) fail_node(node, "its scale must be float, but is {}", to_string(scale.type()));
  // The reals are of the scale's type; the integer arithmetic here knows float32 alone. Such nodes stay as they are.
  if (scale.type() != DataType::kFloat32) return std::nullopt;

  DataType type = DataType::kUInt8;
  if (zero_id != kNoValue) {
    type = graph.value(zero_id).constant->type();
  } else if (is_dequantize_linear(node)) {
    type = integer_type_of(graph, node.input(0));
    if (type == DataType::kUndefined) return std::nullopt;
  } else {
    type = type_by_attribute(node);
  }
  const auto grid = grid_of(type);
  if (!grid) fail_node(node, "its zero point must be an integer of 4 to 32 bits, but is {}", to_string(type));
  if (is_dequantize_linear(node)) {
    const DataType found = integer_type_of(graph, node.input(0));
    if (found != DataType::kUndefined && found != type)
      fail_node(node, "its input is {}, but its zero point is {}", to_string(found), to_string(type));
  }

  QuantParams params;
  params.type = *grid;
  params.scale.clear();
  const Tensor scales = cast(scale, DataType::kFloat32);
  for (const float s : scales.data<float>()) {
    if (!std::isfinite(s) || s <= 0.0F)
      fail_node(node, "its scale must be finite and above 0, but element {} is {}", params.scale.size(), s);
    params.scale.push_back(s);
  }
  if (params.scale.empty()) fail_node(node, "its scale is empty");
  params.zero_point.assign(params.scale.size(), 0);
  if (zero_id != kNoValue) {
    const std::vector<std::int64_t> zeros = to_int64s(*graph.value(zero_id).constant);
    if (zeros.size() != params.scale.size()) fail_node(node, "has {} scales, but {} zero points", params.scale.size(), zeros.size());
    for (std::size_t i = 0; i < zeros.size(); ++i) params.zero_point[i] = static_cast<std::int32_t>(zeros[i]);
  }

  const std::int64_t block_size = node.get_int("block_size", 0);
  const TensorType& type_of_input = graph.value(node.input(0)).type;
  if (params.scale.size() == 1 && block_size == 0) return params;
  std::int64_t axis = node.get_int("axis", 1);
  if (axis < 0) {
    if (!type_of_input.has_rank) return std::nullopt;
    axis += static_cast<std::int64_t>(type_of_input.dims.size());
  }
  if (block_size != 0) {
    if (block_size < 0) fail_node(node, "block_size is {}", block_size);
    params.granularity = PerBlock{.axis = axis, .block_size = block_size};
  } else {
    if (scale.rank() != 1) fail_node(node, "its scale must be a scalar or have one axis, but has shape {}", to_string(scale.shape()));
    params.granularity = PerChannel{.axis = axis};
  }
  if (type_of_input.has_rank) {
    if (axis < 0 || axis >= static_cast<std::int64_t>(type_of_input.dims.size()))
      fail_node(node, "axis {} is outside of its input {}", axis, to_string(type_of_input));
    if (type_of_input.fully_known() &&
        scale_count(params.granularity, type_of_input.shape()) != static_cast<std::int64_t>(params.scale.size()))
      fail_node(node, "has {} scales on axis {} of its input {}", params.scale.size(), axis, to_string(type_of_input));
  }
  return params;
}

namespace {

// The value of a node that is a constant in disguise.
std::optional<Tensor> constant_value(const Graph& graph, const Node& node) {
  if (node.domain.empty() && node.op_type == "Constant") {
    if (node.has("value")) return node.get_tensor("value");
    if (node.has("value_float")) return Tensor::scalar(node.get_float("value_float", 0));
    if (node.has("value_int")) return Tensor::scalar(node.get_int("value_int", 0));
    if (const auto floats = node.get_floats("value_floats"))
      return Tensor::from<float>({static_cast<std::int64_t>(floats->size())}, std::span<const float>(*floats));
    if (const auto ints = node.get_ints("value_ints"))
      return Tensor::from<std::int64_t>({static_cast<std::int64_t>(ints->size())}, std::span<const std::int64_t>(*ints));
    return std::nullopt;
  }
  if (node.domain == "nibble" && node.op_type == kUnpackBits) return unpack_weights(graph, node);
  if (!graph.is_constant(node.input(0))) return std::nullopt;
  const Tensor& source = *graph.value(node.input(0)).constant;
  if (node.domain.empty() && node.op_type == "Identity") return source;
  if (!is_quantize_linear(node) || !is_float(source.type())) return std::nullopt;
  const auto params = read_params(graph, node);
  if (!params || params->type.bit_width > 16) return std::nullopt;
  if (!params->per_tensor() && scale_count(params->granularity, source.shape()) != static_cast<std::int64_t>(params->scale.size()))
    fail_node(node, "its scales do not fit its constant input {}", to_string(source.shape()));
  const Tensor real = cast(source, DataType::kFloat32);
  std::vector<std::int32_t> q(static_cast<std::size_t>(real.size()));
  quantize(real.data<float>(), real.shape(), *params, q);
  return as_integers(q, params->type, real.shape());
}

}  // namespace

void fold_constant_nodes(Graph& graph) {
  GraphEditor editor(graph);
  const auto node_count = static_cast<NodeId>(graph.nodes().size());
  for (NodeId n = 0; n < node_count; ++n) {
    const Node& node = graph.node(n);
    if (node.outputs.size() != 1 || node.outputs[0] == kNoValue) continue;
    std::optional<Tensor> value = constant_value(graph, node);
    if (!value) continue;
    const ValueId output = node.outputs[0];
    editor.remove_node(n);
    editor.set_constant(output, std::move(*value));
  }
  editor.finish();
}

Movement movement_of(const Graph& graph, const Node& node) {
  if (find_op(node.domain, node.op_type) == nullptr || !is_tied(node) || node.inputs.empty() || node.has("activation")) return {};
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    // Indices of a MaxPool, a mask of a Dropout: no data. Split's outputs are all data.
    if (node.outputs[i] != kNoValue && node.op_type != "Split") return {};
  }
  if (node.op_type == "Resize" || node.op_type == "Upsample") {
    if (node.get_string("mode", "nearest") != "nearest") return {};
    if (node.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize") return {};
  }
  Movement result{.moves = true, .data_inputs = operands_of(graph, node).activations.size(), .fill = std::nullopt};
  if (node.op_type == "Pad" && node.get_string("mode", "constant") == "constant") {
    result.fill = node.get_float("value", 0.0F);
    if (const ValueId fill = node.input(2); fill != kNoValue) {
      if (!graph.is_constant(fill) || graph.value(fill).constant->size() != 1) return {};
      result.fill = cast(*graph.value(fill).constant, DataType::kFloat32).data<float>()[0];
    }
  }
  return result;
}

std::optional<ActivationBounds> activation_bounds(const Graph& graph, const Node& node) {
  if (!node.domain.empty()) return std::nullopt;
  if (node.op_type == "Relu") return ActivationBounds{.low = 0.0F};
  if (node.op_type != "Clip") return std::nullopt;
  ActivationBounds bounds;
  bounds.low = node.get_float("min", bounds.low);
  bounds.high = node.get_float("max", bounds.high);
  for (std::size_t i = 1; i <= 2; ++i) {
    const ValueId id = node.input(i);
    if (id == kNoValue) continue;
    if (!graph.is_constant(id) || graph.value(id).constant->size() != 1) return std::nullopt;
    (i == 1 ? bounds.low : bounds.high) = cast(*graph.value(id).constant, DataType::kFloat32).data<float>()[0];
  }
  if (std::isnan(bounds.low) || std::isnan(bounds.high) || bounds.low > bounds.high) return std::nullopt;
  return bounds;
}

void merge_activations(Graph& graph) {
  const auto consumers = graph.consumers();
  // The only reader of a value that nothing else needs.
  const auto only_reader = [&](ValueId id) -> NodeId {
    if (id == kNoValue || graph.is_graph_output(id)) return kNoNode;
    const auto& readers = consumers[static_cast<std::size_t>(id)];
    return readers.size() == 1 ? readers[0] : kNoNode;
  };
  GraphEditor editor(graph);
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    const Node& quantizer = graph.node(n);
    if (!is_quantize_linear(quantizer) || only_reader(quantizer.input(0)) == kNoNode) continue;
    // Only where the node before can take the activation over.
    const NodeId producer = graph.value(quantizer.input(0)).producer;
    const OpDef* op = producer == kNoNode ? nullptr : find_op(graph.node(producer).domain, graph.node(producer).op_type);
    if (op == nullptr || (op->rule != QuantRule::kCompute && op->rule != QuantRule::kArithmetic && op->rule != QuantRule::kUnaryTable))
      continue;
    const NodeId dequantizer = only_reader(quantizer.output(0));
    if (dequantizer == kNoNode || !is_dequantize_linear(graph.node(dequantizer))) continue;
    const NodeId activation = only_reader(graph.node(dequantizer).output(0));
    if (activation == kNoNode || !activation_bounds(graph, graph.node(activation))) continue;
    if (graph.node(activation).input(0) != graph.node(dequantizer).output(0)) continue;
    const NodeId last = only_reader(graph.node(activation).output(0));
    if (last == kNoNode || !is_quantize_linear(graph.node(last))) continue;
    const auto params = read_params(graph, quantizer);
    if (!params || !params->per_tensor() || read_params(graph, graph.node(dequantizer)) != params ||
        read_params(graph, graph.node(last)) != params)
      continue;
    editor.set_input(activation, 0, quantizer.input(0));
  }
  editor.finish();
}

void pull_quantize_up(Graph& graph) {
  const auto consumers = graph.consumers();
  const auto single_use = [&](ValueId id) { return consumers[static_cast<std::size_t>(id)].size() == 1 && !graph.is_graph_output(id); };
  GraphEditor editor(graph);
  const auto node_count = static_cast<NodeId>(graph.nodes().size());
  for (NodeId n = 0; n < node_count; ++n) {
    // Copied: adding nodes and values moves what references point to.
    const Node quantizer = graph.node(n);
    if (!is_quantize_linear(quantizer)) continue;
    const auto params = read_params(graph, quantizer);
    if (!params || !params->per_tensor()) continue;
    ValueId at = quantizer.input(0);
    NodeId reader = n;
    while (at != kNoValue && single_use(at)) {
      const NodeId producer = graph.value(at).producer;
      if (producer == kNoNode) break;
      const Node& node = graph.node(producer);
      if (const Movement movement = movement_of(graph, node); !movement.moves || movement.data_inputs != 1 || node.outputs.size() != 1)
        break;
      at = node.input(0);
      reader = producer;
    }
    if (reader == n || at == kNoValue || !single_use(at)) continue;
    const NodeId producer = graph.value(at).producer;
    if (producer == kNoNode || is_dequantize_linear(graph.node(producer))) continue;

    const std::string base = graph.value(at).name;
    const TensorType real_type = graph.value(at).type;
    TensorType integer_type = real_type;
    integer_type.dtype = element_type_of(params->type);
    const ValueId q = editor.add_value(base + "_quantized", integer_type);
    const ValueId x = editor.add_value(base + "_dequantized", real_type);
    Node quantize_node = quantizer;
    quantize_node.name = base + "_quantize";
    quantize_node.inputs[0] = at;
    quantize_node.outputs = {q};
    editor.add_node(std::move(quantize_node));
    Node dequantize_node = quantizer;
    dequantize_node.op_type = "DequantizeLinear";
    dequantize_node.name = base + "_dequantize";
    dequantize_node.inputs[0] = q;
    dequantize_node.outputs = {x};
    dequantize_node.attributes.clear();
    editor.add_node(std::move(dequantize_node));
    editor.set_input(reader, 0, x);
  }
  editor.finish();
}

}  // namespace nibble
