#include "onnx/export_builder.h"

#include <algorithm>
#include <limits>
#include <set>

#include "base/fail.h"
#include "numeric/quantize.h"
#include "onnx/qdq_nodes.h"
#include "onnx/raise_opset.h"
#include "ops/base_products.h"
#include "ops/op.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "quantize/step_form.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

constexpr int kOpsetOfWideAndNarrowIntegers = 21;  // int4, uint4, int16, uint16 in Q/DQ, and blocks

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

// How integers are stored in the file. Weights of 4 bits and fewer share bytes.
DataType file_type(const QuantParams& params, bool constant) {
  if (constant && params.type.bit_width <= 4) return params.type.is_signed ? DataType::kInt4 : DataType::kUInt4;
  return storage_type(params.type);
}

// QuantizeLinear clamps to its element type, not to the grid.
bool grid_is_whole_type(const QuantParams& params) {
  const int bits = params.type.bit_width <= 8 ? 8 : params.type.bit_width <= 16 ? 16 : 32;
  return params.type.bit_width == bits && !params.type.narrow_range;
}

Shape scale_shape(const QuantParams& params, const Value& value) {
  if (params.per_tensor()) return {};
  const auto* block = std::get_if<PerBlock>(&params.granularity);
  if (block == nullptr) return {static_cast<std::int64_t>(params.scale.size())};
  Shape shape = value.constant ? value.constant->shape() : value.type.shape();
  std::int64_t& extent = shape[static_cast<std::size_t>(block->axis)];
  extent = (extent + block->block_size - 1) / block->block_size;
  return shape;
}

}  // namespace

ExportBuilder::ExportBuilder(const QuantizedGraph& model, WeightStorage weights)
    : model_(model), storage_(weights), editor_(graph_), values_(model.graph.values().size(), kNoValue) {
  const Graph& source = model.graph;
  editor_.set_name(source.name());
  editor_.set_ir_version(source.ir_version());
  for (const auto& [key, text] : source.metadata()) editor_.set_metadata(key, text);
  for (const ValueId id : source.inputs()) {
    TensorType type = source.value(id).type;
    if (const QuantParams* p = params(id)) type.dtype = storage_type(p->type);
    values_[at(id)] = editor_.add_input(name_of(id), std::move(type));
  }
  // The outside's names are taken before any other.
  for (const ValueId id : source.outputs()) {
    if (values_[at(id)] == kNoValue && !source.is_constant(id)) values_[at(id)] = editor_.add_value(name_of(id), source.value(id).type);
  }
}

ValueId ExportBuilder::value(ValueId old) {
  if (old == kNoValue) return kNoValue;
  ValueId& id = values_[at(old)];
  if (id != kNoValue) return id;
  const Value& source = model_.graph.value(old);
  if (!source.constant) return id = editor_.add_value(source.name);
  Tensor tensor = *source.constant;
  if (const QuantParams* p = params(old)) {
    if (const PackedWeights* weights = packed(old)) {
      // The codes have the name; what they come from is named after them.
      return id = unpacked(source.name, *weights, tensor.shape());
    }
    const DataType type = file_type(*p, true);
    if (element_size(type) == 1 && type != storage_type(p->type)) lowest_opset_ = kOpsetOfWideAndNarrowIntegers;
    tensor = cast(tensor, type);
  }
  return id = editor_.add_constant(source.name, std::move(tensor));
}

const PackedWeights* ExportBuilder::packed(ValueId old) {
  const auto& constant = model_.graph.value(old).constant;
  if (storage_ != WeightStorage::kPacked || !constant || params(old) == nullptr) return nullptr;
  const auto [it, is_new] = packed_.try_emplace(old);
  if (is_new) it->second = pack_weights(*constant, params(old)->type);
  return it->second ? &*it->second : nullptr;
}

DataType ExportBuilder::stored_type(ValueId old) {
  const QuantParams& p = *params(old);
  return packed(old) != nullptr ? storage_type(p.type) : file_type(p, model_.graph.is_constant(old));
}

ExportBuilder::Parameters ExportBuilder::parameters(ValueId old) {
  if (const auto it = parameters_.find(old); it != parameters_.end()) return it->second;
  const QuantParams& p = *params(old);
  const Value& source = model_.graph.value(old);
  const DataType type = stored_type(old);
  if (type == DataType::kInt16 || type == DataType::kUInt16 || std::holds_alternative<PerBlock>(p.granularity))
    lowest_opset_ = kOpsetOfWideAndNarrowIntegers;
  const Shape shape = scale_shape(p, source);
  Parameters result;
  result.scale = editor_.add_constant(source.name + "_scale", Tensor::from<float>(shape, std::span<const float>(p.scale)));
  // Blocks have many zero points; where all are 0 they are left out.
  const bool implied = std::holds_alternative<PerBlock>(p.granularity) && p.symmetric();
  if (type != DataType::kInt32 && !implied)
    result.zero_point = editor_.add_constant(source.name + "_zero_point",
                                             cast(Tensor::from<std::int32_t>(shape, std::span<const std::int32_t>(p.zero_point)), type));
  return parameters_.emplace(old, result).first->second;
}

NodeId ExportBuilder::add(const std::string& op, const std::string& name, std::vector<ValueId> inputs, std::vector<ValueId> outputs,
                          const std::string& domain) {
  Node node;
  node.op_type = op;
  node.domain = domain;
  node.name = name;
  node.inputs = std::move(inputs);
  node.outputs = std::move(outputs);
  return editor_.add_node(std::move(node));
}

ValueId ExportBuilder::dequantized(ValueId old) {
  const std::string base = name_of(old);
  const ValueId q = value(old);
  const Parameters p = parameters(old);
  const ValueId x = fresh(base + "_dequantized");
  std::vector<ValueId> inputs{q, p.scale};
  if (p.zero_point != kNoValue) inputs.push_back(p.zero_point);
  const NodeId node = add("DequantizeLinear", base + "_DequantizeLinear", std::move(inputs), {x});
  if (const auto* channel = std::get_if<PerChannel>(&params(old)->granularity)) editor_.set_attribute(node, "axis", channel->axis);
  if (const auto* block = std::get_if<PerBlock>(&params(old)->granularity)) {
    editor_.set_attribute(node, "axis", block->axis);
    editor_.set_attribute(node, "block_size", block->block_size);
  }
  return x;
}

ValueId ExportBuilder::real_constant(ValueId old) {
  const Tensor& codes = *model_.graph.value(old).constant;
  Tensor x(DataType::kFloat32, codes.shape());
  dequantize(codes_of(codes), codes.shape(), *params(old), x.mutable_data<float>());
  return editor_.add_constant(name_of(old) + "_dequantized", std::move(x));
}

void ExportBuilder::quantize_into(ValueId real, ValueId old) {
  const QuantParams& p = *params(old);
  if (!p.per_tensor())
    fail(ErrorCode::kUnsupported, "value '{}': activations with a scale for each channel cannot be written", name_of(old));
  const Parameters parameters_of_old = parameters(old);
  add("QuantizeLinear", name_of(old) + "_QuantizeLinear", {real, parameters_of_old.scale, parameters_of_old.zero_point}, {value(old)});
}

ValueId ExportBuilder::clipped_to_codes(ValueId real, ValueId old, std::int64_t low, std::int64_t high) {
  const QuantParams& p = *params(old);
  const auto bound = [&](const char* name, std::int64_t q) {
    return editor_.add_constant(name_of(old) + name, Tensor::scalar(static_cast<float>(q - p.zero_point[0]) * p.scale[0]));
  };
  const ValueId lowest = bound("_low", low);
  const ValueId highest = bound("_high", high);
  const ValueId result = fresh(name_of(old) + "_clipped");
  add("Clip", name_of(old) + "_Clip", {real, lowest, highest}, {result});
  return result;
}

bool ExportBuilder::activation_needed(const Node& node) const {
  if (!node.has("activation")) return false;
  const QuantParams* p = params(node.output(0));
  if (p == nullptr) return true;
  const OutputGrid grid = output_grid(*p, node);
  return grid.qmin != p->qmin() || grid.qmax != p->qmax();
}

ValueId ExportBuilder::activation(const Node& node, ValueId real) {
  const std::string base = node.name + "_activation";
  const ValueId y = fresh(base);
  if (node.get_string("activation", "") == "Relu") {
    add("Relu", base, {real}, {y});
    return y;
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto bound = [&](const char* attribute, float none) {
    const float x = node.get_float(attribute, none);
    return x == none ? kNoValue : editor_.add_constant(base + (none > 0 ? "_max" : "_min"), Tensor::scalar(x));
  };
  const ValueId low = bound("activation_min", -kInfinity);
  const ValueId high = bound("activation_max", kInfinity);
  add("Clip", base, {real, low, high}, {y});
  return y;
}

void ExportBuilder::write_edge(const Node& node) {
  const ValueId from = node.input(0);
  const ValueId to = node.output(0);
  if (node.op_type == "QuantizeLinear" || node.op_type == "Requantize") {
    ValueId real = node.op_type == "Requantize" ? dequantized(from) : value(from);
    const QuantParams& p = *params(to);
    if (!grid_is_whole_type(p)) real = clipped_to_codes(real, to, p.qmin(), p.qmax());
    quantize_into(real, to);
  } else {
    const ValueId q = value(from);
    const Parameters p = parameters(from);
    std::vector<ValueId> inputs{q, p.scale};
    if (p.zero_point != kNoValue) inputs.push_back(p.zero_point);
    const NodeId id = add("DequantizeLinear", node.name, std::move(inputs), {value(to)});
    if (const auto* channel = std::get_if<PerChannel>(&params(from)->granularity)) editor_.set_attribute(id, "axis", channel->axis);
    if (const auto* block = std::get_if<PerBlock>(&params(from)->granularity)) {
      editor_.set_attribute(id, "axis", block->axis);
      editor_.set_attribute(id, "block_size", block->block_size);
    }
  }
}

namespace {

// The node as ONNX knows it: without what nibble fused into it.
Node standard_node(const Node& node) {
  Node result = node;
  for (const char* attribute : {"activation", "activation_min", "activation_max"}) {
    if (const auto it = result.attributes.find(attribute); it != result.attributes.end()) result.attributes.erase(it);
  }
  return result;
}

}  // namespace

void ExportBuilder::add_standard(Node node) {
  if (!is_step(node)) {
    editor_.add_node(std::move(node));
    return;
  }
  const auto constant = [&](const char* name) { return editor_.add_constant(node.name + "_" + name, Tensor::scalar(node.get_float(name, 0))); };
  const ValueId reached = fresh(node.name + "_reached");
  add("GreaterOrEqual", node.name + "_GreaterOrEqual", {node.input(0), constant("threshold")}, {reached});
  add("Where", node.name, {reached, constant("above"), constant("below")}, {node.output(0)});
}

void ExportBuilder::write_float_node(const Node& node) {
  Node written = standard_node(is_base_products(node) ? one_layer(node) : node);
  for (ValueId& input : written.inputs) {
    if (is_base_products(node)) break;  // they are there already
    if (params(input) != nullptr)
      fail(ErrorCode::kUnsupported, "node '{}' ({}) is float, but its input '{}' holds integers", node.name, node.op_type, name_of(input));
    input = value(input);
  }
  for (ValueId& output : written.outputs) output = value(output);
  if (!node.has("activation")) {
    add_standard(std::move(written));
    return;
  }
  const ValueId target = written.outputs.at(0);
  const ValueId inner = fresh(name_of(node.outputs[0]) + "_before_activation");
  written.outputs[0] = inner;
  add_standard(std::move(written));
  const ValueId y = activation(node, inner);
  // The activation's node writes the value that the others read.
  const NodeId last = graph_.value(y).producer;
  editor_.set_outputs(last, {target});
}

void ExportBuilder::write_integer_node_as_float(const Node& node) {
  const bool bases = is_base_products(node);
  Node written = standard_node(bases ? one_layer(node) : node);
  const auto bound = bound_operand(model_.graph, node);
  for (std::size_t i = 0; i < written.inputs.size() && !bases; ++i) {
    ValueId& input = written.inputs[i];
    if (bound == i) input = real_constant(input);
    else input = params(input) != nullptr ? dequantized(input) : value(input);
  }
  std::vector<ValueId> reals;
  for (const ValueId output : node.outputs) reals.push_back(output == kNoValue ? kNoValue : fresh(name_of(output) + "_real"));
  written.outputs = reals;
  add_standard(std::move(written));
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    const ValueId output = node.outputs[i];
    if (output == kNoValue) continue;
    if (params(output) == nullptr)
      fail(ErrorCode::kUnsupported, "node '{}' ({}): some of its outputs are integers and some are not", node.name, node.op_type);
    ValueId real = reals[i];
    const QuantParams& p = *params(output);
    const bool active = i == 0 && activation_needed(node);
    // What only moves codes of the same grid cannot leave it; what a Pad brings in can. The two values of a step should lie on it.
    const float fill = movement_of(model_.graph, node).fill.value_or(0.0F);
    const float low = static_cast<float>(p.qmin() - p.zero_point[0]) * p.scale[0];
    const float high = static_cast<float>(p.qmax() - p.zero_point[0]) * p.scale[0];
    const auto within = [&](const char* name) { return node.get_float(name, 0) >= low && node.get_float(name, 0) <= high; };
    const bool leaves_grid = !grid_is_whole_type(p) && (!is_tied(node) || fill < low || fill > high) && !(is_step(node) && within("above") && within("below"));
    if (active || leaves_grid) {
      // Quantized twice, with the same parameters: the clamps commute, so the integers are those of one quantization, and a runtime that
      // fuses the op with the QuantizeLinear behind it still can.
      const Parameters scale = parameters(output);
      const ValueId wide = fresh(name_of(output) + "_before_activation");
      add("QuantizeLinear", node.name + "_QuantizeLinear", {real, scale.scale, scale.zero_point}, {wide});
      const ValueId back = fresh(name_of(output) + "_before_activation_dequantized");
      add("DequantizeLinear", node.name + "_DequantizeLinear", {wide, scale.scale, scale.zero_point}, {back});
      const OutputGrid grid = output_grid(p, node);
      real = leaves_grid ? clipped_to_codes(back, output, grid.qmin, grid.qmax) : activation(node, back);
    }
    quantize_into(real, output);
  }
}

void ExportBuilder::write_nodes(QuantFormat format) {
  for (const Node& node : model_.graph.nodes()) {
    const bool reads = params(node.input(0)) != nullptr;
    const bool writes = params(node.output(0)) != nullptr;
    const bool edge = (node.op_type == "QuantizeLinear" && writes) || (node.op_type == "DequantizeLinear" && reads) ||
                      (node.op_type == "Requantize" && node.domain == "nibble");
    if (edge)
      write_edge(node);
    else if (!writes && format == QuantFormat::kQOperator && write_matmul_nbits(node))
      continue;
    else if (!writes)
      write_float_node(node);
    else if (format == QuantFormat::kQdq || !write_integer_node_as_operator(node))
      write_integer_node_as_float(node);
  }
}

Graph ExportBuilder::finish(const ExportOptions& options) {
  std::vector<ValueId> outputs;
  for (const ValueId id : model_.graph.outputs()) outputs.push_back(value(id));
  editor_.set_outputs(std::move(outputs));
  editor_.set_metadata("nibble.law", to_string(model_.law));
  for (const auto& [key, text] : options.metadata) editor_.set_metadata("nibble." + key, text);

  const int source_opset = model_.graph.opset("");
  std::set<std::string> domains;
  for (const Node& node : graph_.nodes()) domains.insert(node.domain);
  for (const std::string& domain : domains) {
    if (domain.empty()) continue;
    const int version = model_.graph.opset(domain);
    editor_.set_opset(domain, version != 0 ? version : 1);
  }
  editor_.set_opset("", source_opset);
  editor_.finish();
  return raise_opset(std::move(graph_), std::max(source_opset, lowest_opset_));
}

Graph export_graph(const QuantizedGraph& model, const ExportOptions& options) {
  ExportBuilder builder(model, options.weights);
  builder.write_nodes(options.format);
  return builder.finish(options);
}

}  // namespace nibble
