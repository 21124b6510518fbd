// Layers whose activations or weights are sums: Add of several DequantizeLinear, or a table of reals with constant indices. They come back as BaseProducts.
#include <algorithm>

#include "base/fail.h"
#include "nibble/onnx.h"
#include "numeric/quantize.h"
#include "onnx/base_table.h"
#include "onnx/quantized_rebuilder.h"
#include "ops/fail.h"
#include "quantize/base_products_form.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

bool is_standard(const Node& node, std::string_view op) { return node.domain.empty() && node.op_type == op; }

// What a Cast of a constant holds, or the constant itself.
const Tensor* constant_indices(const Graph& graph, ValueId id) {
  if (id == kNoValue) return nullptr;
  const NodeId producer = graph.value(id).producer;
  if (producer != kNoNode && is_standard(graph.node(producer), "Cast")) id = graph.node(producer).input(0);
  if (!graph.is_constant(id) || !is_integer(graph.value(id).constant->type())) return nullptr;
  return &*graph.value(id).constant;
}

// A constant of reals, as it is or behind DequantizeLinear and Reshape.
std::optional<Tensor> constant_reals(const Graph& graph, ValueId id) {
  if (id == kNoValue) return std::nullopt;
  if (graph.is_constant(id)) return *graph.value(id).constant;
  const NodeId producer = graph.value(id).producer;
  if (producer == kNoNode) return std::nullopt;
  const Node& node = graph.node(producer);
  if (is_standard(node, "Reshape")) {
    const auto source = constant_reals(graph, node.input(0));
    if (!source || source->type() != DataType::kFloat32 || !graph.is_constant(node.input(1))) return std::nullopt;
    const Shape shape = to_int64s(*graph.value(node.input(1)).constant);
    if (std::any_of(shape.begin(), shape.end(), [](std::int64_t d) { return d < 1; }) || element_count(shape) != source->size()) return std::nullopt;
    return Tensor::from<float>(shape, source->data<float>());
  }
  if (!is_dequantize_linear(node) || !graph.is_constant(node.input(0))) return std::nullopt;
  const auto params = read_params(graph, node);
  const Tensor codes = cast(*graph.value(node.input(0)).constant, DataType::kInt32);
  if (!params || (!params->per_tensor() && scale_count(params->granularity, codes.shape()) != static_cast<std::int64_t>(params->scale.size())))
    return std::nullopt;
  Tensor reals(DataType::kFloat32, codes.shape());
  dequantize(codes.data<std::int32_t>(), codes.shape(), *params, reals.mutable_data<float>());
  return reals;
}

// Gather, or GatherElements and perhaps a Reshape, of a constant table.
std::optional<BaseTable> table_behind(const Graph& graph, ValueId id) {
  NodeId producer = graph.value(id).producer;
  std::optional<Shape> shape;
  if (producer != kNoNode && is_standard(graph.node(producer), "Reshape")) {
    const Node& reshape = graph.node(producer);
    if (reshape.input(0) == kNoValue || !graph.is_constant(reshape.input(1))) return std::nullopt;
    shape = to_int64s(*graph.value(reshape.input(1)).constant);
    if (std::any_of(shape->begin(), shape->end(), [](std::int64_t d) { return d < 1; })) return std::nullopt;
    producer = graph.value(reshape.input(0)).producer;
  }
  if (producer == kNoNode) return std::nullopt;
  const Node& node = graph.node(producer);
  const bool rows = is_standard(node, "GatherElements");
  if (!rows && !is_standard(node, "Gather")) return std::nullopt;
  const Tensor* indices = constant_indices(graph, node.input(1));
  const auto entries = constant_reals(graph, node.input(0));
  if (indices == nullptr || !entries) return std::nullopt;
  const Tensor& reals = *entries;
  if (reals.type() != DataType::kFloat32 || reals.size() == 0) return std::nullopt;
  const std::int64_t axis = node.get_int("axis", 0);
  BaseTable table{.reals = reals, .indices = *indices, .columns = reals.size(), .channel_axis = std::nullopt};
  if (!rows) {
    if (reals.rank() != 1 || axis != 0 || shape) return std::nullopt;
    return table;
  }
  if (reals.rank() != 2 || indices->rank() != 2 || axis < 0 || axis > 1) return std::nullopt;
  table.channel_axis = axis == 1 ? 0 : 1;
  table.columns = reals.shape()[static_cast<std::size_t>(axis)];
  const std::int64_t channels = reals.shape()[static_cast<std::size_t>(1 - axis)];
  if (indices->shape()[static_cast<std::size_t>(1 - axis)] != channels) return std::nullopt;
  if (!shape) return table;
  if (axis != 1 || element_count(*shape) != indices->size() || shape->at(0) != channels) return std::nullopt;
  table.indices = Tensor::from<std::int64_t>(*shape, to_int64s(*indices));
  return table;
}

}  // namespace

bool QuantizedRebuilder::collect_bases(ValueId old, bool constants, std::vector<ValueId>& quants) const {
  if (old == kNoValue) return false;
  const ValueId quant = slots_[at(old)].quant;
  if (const QuantParams* params = out_params(quant); params != nullptr && !holds_integers(old)) {
    if (out_.graph.is_constant(quant) != constants || params->type.bit_width > kWidestInteger) return false;
    quants.push_back(quant);
    return true;
  }
  const NodeId producer = old_.value(old).producer;
  if (producer == kNoNode || outputs_.contains(old)) return false;
  const Node& node = old_.node(producer);
  if (!is_standard(node, "Add") && !is_standard(node, "Sum")) return false;
  return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId input) { return collect_bases(input, constants, quants); });
}

bool QuantizedRebuilder::weight_bases(ValueId old, std::vector<ValueId>& quants) {
  if (collect_bases(old, true, quants)) {
    const auto shape = [&](ValueId v) -> const Shape& { return out_.graph.value(v).constant->shape(); };
    return std::all_of(quants.begin(), quants.end(), [&](ValueId v) { return shape(v) == shape(quants[0]); });
  }
  quants.clear();
  const auto table = old == kNoValue ? std::nullopt : table_behind(old_, old);
  auto bases = table ? bases_of(*table) : std::nullopt;
  if (!bases) return false;
  for (WeightBase& base : *bases) {
    quants.push_back(editor_.add_constant(old_.value(old).name + "_base" + std::to_string(quants.size() + 1), std::move(base.codes)));
    set_params(quants.back(), std::move(base.params));
  }
  return true;
}

bool QuantizedRebuilder::compute_bases(const Node& node, LayerInfo& layer) {
  const bool is_layer = is_standard(node, "Conv") || is_standard(node, "ConvTranspose") || is_standard(node, "Gemm") || is_standard(node, "MatMul");
  if (!is_layer || node.inputs.size() < 2) return false;
  std::vector<ValueId> activations;
  std::vector<ValueId> weights;
  const auto target = find_target(node.output(0), Absorb::kActivation);
  if (!target || !collect_bases(node.input(0), false, activations) || !weight_bases(node.input(1), weights)) return false;
  if (activations.size() == 1 && weights.size() == 1) return false;
  for (const ValueId x : activations) {
    if (!same_shape(x, activations[0])) return false;
  }

  Node integer = node;
  integer.domain = "nibble";
  integer.op_type = "BaseProducts";
  integer.attributes.insert_or_assign("op_type", node.op_type);
  integer.attributes.insert_or_assign("activations", static_cast<std::int64_t>(activations.size()));
  integer.attributes.insert_or_assign("weights", static_cast<std::int64_t>(weights.size()));
  integer.inputs = activations;
  integer.inputs.insert(integer.inputs.end(), weights.begin(), weights.end());
  if (!set_activation(*target, node, integer)) return false;
  for (std::size_t j = 0; j < weights.size(); ++j) {
    const Node product = product_of(integer, 0, j);
    const QuantParams& params = *out_params(weights[j]);
    const auto* channel = std::get_if<PerChannel>(&params.granularity);
    const bool along = channel != nullptr && weight_channel_axis(product, out_.graph.value(weights[j]).constant->shape()) == channel->axis;
    if (!params.symmetric() || !(params.per_tensor() || along)) return false;
  }
  if (node.op_type != "MatMul" && node.input(2) != kNoValue && !add_base_bias(node, integer)) return false;

  const ValueId first_output = old_.node(target->quantizers[0]).output(0);
  const ValueId output = add_integers(old_.value(first_output).name, old_.value(old_.node(target->quantizers[0]).input(0)).type, target->params);
  integer.outputs = {output};
  layer.reason = why_not(integer, QuantRule::kTied);
  if (!layer.reason.empty()) {
    editor_.rename_value(output, editor_.fresh_value_name(old_.value(first_output).name + "_dropped"));
    return false;
  }
  const NodeId id = editor_.add_node(std::move(integer));
  out_.params.resize(out_.graph.values().size());
  if (const auto proof = prove_accumulator(out_, id); !proof || proof->bits_needed > 32) {
    editor_.remove_node(id);
    editor_.rename_value(output, editor_.fresh_value_name(old_.value(first_output).name + "_dropped"));
    return false;
  }
  take_target(*target, output);
  return true;
}

bool QuantizedRebuilder::same_shape(ValueId a, ValueId b) const {
  const TensorType& ta = out_.graph.value(a).type;
  const TensorType& tb = out_.graph.value(b).type;
  return !ta.has_rank || !tb.has_rank || ta.dims == tb.dims;
}

// The file's own integers where their scale is free to choose; else the nearest ones.
bool QuantizedRebuilder::add_base_bias(const Node& node, Node& integer) {
  const auto values = real_constant(node.input(2));
  const std::int64_t channels = weight_layout(product_of(integer, 0, 0), out_.graph.value(base_operands(integer).weight(integer, 0)).constant->shape()).channels;
  if (!values || (values->size() != 1 && values->size() != channels)) return false;
  const ValueId quant = slots_[at(node.input(2))].quant;
  const QuantParams* have = out_params(quant);
  ValueId id = quant;
  if (have == nullptr || have->type.bit_width != 32 || !have->per_tensor() || !have->symmetric()) {
    BaseBias bias = quantize_base_bias(values->data<float>(), channels);
    id = editor_.add_constant(old_.value(quant_source(node.input(2))).name + "_integers", std::move(bias.codes));
    set_params(id, std::move(bias.params));
  }
  integer.inputs.push_back(id);
  return true;
}

}  // namespace nibble
