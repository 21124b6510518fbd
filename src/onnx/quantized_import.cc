// Quantization that a graph holds as nodes -> QuantizedGraph.
//
// Every form is first brought to one: Q/DQ pairs around float ops (expand_qlinear_ops). Then one walk in topological order rebuilds the
// graph. For each old value it keeps what stands for it in the new graph:
//
//   real      a value of reals (or plain integers: shapes, indices)
//   quant     integers with parameters such that real == DequantizeLinear(quant), exactly
//
// A DequantizeLinear creates no node: its output simply has the `quant` of its input. Ops that move elements map quant to quant. An op that
// computes becomes an integer node where all of its data have a `quant` and everything that reads it (after an activation, perhaps) is a
// QuantizeLinear of one set of parameters, whose output it then computes itself. Whoever needs the reals of a value that has only a quant
// gets a DequantizeLinear made for it. So the integers are those of the file; only the places of the edges change.
#include <algorithm>

#include "base/fail.h"
#include "nibble/onnx.h"
#include "numeric/quantize.h"
#include "onnx/matmul_nbits.h"
#include "onnx/quantized_rebuilder.h"
#include "ops/fail.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "quantize/step_form.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

}  // namespace

QuantizedGraph QuantizedRebuilder::run() {
  start();
  done_.assign(old_.nodes().size(), false);
  for (NodeId n = 0; n < static_cast<NodeId>(old_.nodes().size()); ++n) {
    if (done_[at(n)]) continue;
    const Node& node = old_.node(n);
    if (is_dequantize_linear(node))
      read_dequantize(node);
    else if (is_quantize_linear(node))
      read_quantize(node);
    else
      read_node(node);
  }
  finish();
  return std::move(out_);
}

void QuantizedRebuilder::start() {
  editor_.set_name(old_.name());
  editor_.set_ir_version(old_.ir_version());
  for (const auto& [domain, version] : old_.opsets()) editor_.set_opset(domain, version);
  for (const auto& [key, value] : old_.metadata()) editor_.set_metadata(key, value);
  if (const auto it = old_.metadata().find("nibble.law"); it != old_.metadata().end()) {
    for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint, RequantizeLaw::kShift}) {
      if (to_string(law) == it->second) out_.law = law;
    }
  }
  // The names that the outside knows are taken first.
  for (const ValueId id : old_.inputs()) slots_[at(id)].real = editor_.add_input(old_.value(id).name, old_.value(id).type);
  for (const ValueId id : old_.outputs()) outputs_.insert(id);
}

void QuantizedRebuilder::set_params(ValueId id, QuantParams params) {
  if (out_.params.size() <= at(id)) out_.params.resize(at(id) + 1);
  out_.params[at(id)] = std::move(params);
}

std::string QuantizedRebuilder::why_not(const Node& node, QuantRule rule) {
  out_.params.resize(out_.graph.values().size());
  // The judge is asked about the float form of the node: its operands stand for float values.
  float_types_.resize(out_.graph.values().size(), TensorType{.dtype = DataType::kFloat32, .has_rank = true, .dims = {}});
  if (const auto why = why_not_integer(out_.graph, node, float_types_)) return *why;
  for (const std::size_t i : operands_of(out_.graph, node).activations) {
    const QuantParams* params = out_params(node.input(i));
    if (!params->per_tensor()) return "activations with a scale for each channel have no integer form";
    if (params->type.bit_width > kWidestInteger) return "more than 16 bits have no integer form";
  }
  if (out_params(node.output(0))->type.bit_width > kWidestInteger) return "more than 16 bits have no integer form";
  if (rule != QuantRule::kCompute || !out_.graph.is_constant(node.input(1))) return {};
  const QuantParams& wei = *out_params(node.input(1));
  if (wei.type.bit_width > kWidestInteger) return "weights of more than 16 bits have no integer form";
  if (std::holds_alternative<PerBlock>(wei.granularity)) {
    try {
      centred_codes(node, *out_.graph.value(node.input(1)).constant, wei);
    } catch (const Error&) {
      return "the scales of its weights' blocks have no common unit";
    }
    return {};
  }
  if (const auto* channel = std::get_if<PerChannel>(&wei.granularity)) {
    if (weight_channel_axis(node, out_.graph.value(node.input(1)).constant->shape()) != channel->axis)
      return "the scales of its weights do not lie along its output channels";
  }
  return {};
}

ValueId QuantizedRebuilder::add_integers(const std::string& name, TensorType type, const QuantParams& params) {
  type.dtype = storage_type(params.type);
  const ValueId id = editor_.add_value(name, std::move(type));
  set_params(id, params);
  return id;
}

ValueId QuantizedRebuilder::plain_constant(ValueId old) {
  ValueId& real = slots_[at(old)].real;
  if (real == kNoValue) real = editor_.add_constant(old_.value(old).name, *old_.value(old).constant);
  return real;
}

ValueId QuantizedRebuilder::integer_constant(ValueId old, QuantParams params) {
  Tensor tensor = *old_.value(old).constant;
  if (params.type.bit_width == 4) tensor = cast(tensor, storage_type(params.type));
  if (params.type.is_signed && params.type.bit_width <= 8 && params.symmetric()) {
    // A grid whose lowest value nobody uses bounds accumulators more tightly.
    const auto data = tensor.data<std::int8_t>();
    const std::int64_t lowest = params.type.qmin();
    params.type.narrow_range = std::find(data.begin(), data.end(), lowest) == data.end();
  }
  for (const auto& [known, id] : integer_constants_[old]) {
    if (known == params) return id;
  }
  const ValueId id = editor_.add_constant(old_.value(old).name, std::move(tensor));
  set_params(id, params);
  integer_constants_[old].emplace_back(std::move(params), id);
  return id;
}

ValueId QuantizedRebuilder::real(ValueId old) {
  if (old == kNoValue) return kNoValue;
  Slot& slot = slots_[at(old)];
  if (slot.real != kNoValue) return slot.real;
  const Value& value = old_.value(old);
  if (value.constant) return plain_constant(old);
  if (slot.quant == kNoValue)
    fail(ErrorCode::kInvalidModel, "value '{}' is used in a way that its quantization does not allow", value.name);
  if (value.producer != kNoNode && is_quantize_linear(old_.node(value.producer))) return plain_integers(old);
  return slot.real = dequantize(slot.quant, value.name, value.type);
}

ValueId QuantizedRebuilder::dequantize(ValueId quant, const std::string& name, TensorType type) {
  if (type.dtype == DataType::kUndefined) type.dtype = DataType::kFloat32;
  const ValueId x = add_value(name, std::move(type));
  Node node;
  node.op_type = "DequantizeLinear";
  node.name = name + "_dequantize";
  node.inputs = {quant};
  node.outputs = {x};
  editor_.add_node(std::move(node));
  return x;
}

ValueId QuantizedRebuilder::plain_integers(ValueId old) {
  Slot& slot = slots_[at(old)];
  const Node& quantizer = old_.node(old_.value(old).producer);
  const ValueId x = dequantize(slot.quant, old_.value(old).name + "_dequantized", {});
  const ValueId q = add_value(old_.value(old).name + "_integers", old_.value(old).type);
  Node node = quantizer;
  node.name = quantizer.name + "_plain";
  node.inputs[0] = x;
  for (std::size_t i = 1; i < node.inputs.size(); ++i) node.inputs[i] = real(node.inputs[i]);
  node.outputs = {q};
  editor_.add_node(std::move(node));
  return slot.real = q;
}

void QuantizedRebuilder::read_dequantize(const Node& node) {
  const ValueId q = node.input(0);
  const ValueId x = node.output(0);
  if (q == kNoValue || x == kNoValue) return copy(node);
  const auto params = read_params(old_, node);
  if (!params) return copy(node);
  if (old_.is_constant(q)) {
    const Tensor& tensor = *old_.value(q).constant;
    if (params->granularity.index() != 0 &&
        scale_count(params->granularity, tensor.shape()) != static_cast<std::int64_t>(params->scale.size()))
      fail_node(node, "its scales do not fit its input {}", to_string(tensor.shape()));
    slots_[at(x)].quant = integer_constant(q, *params);
    return;
  }
  if (!params->per_tensor()) return copy(node);
  // Integers that enter the graph as such get their parameters from the first node that says what they mean.
  if (old_.value(q).producer == kNoNode && only_dequantized(q, *params)) {
    slots_[at(q)].quant = slots_[at(q)].real;
    set_params(slots_[at(q)].real, *params);
    editor_.set_type(slots_[at(q)].real, [&] {
      TensorType type = old_.value(q).type;
      type.dtype = element_type_of(params->type);
      return type;
    }());
  }
  const ValueId quant = slots_[at(q)].quant;
  const QuantParams* known = out_params(quant);
  if (known == nullptr || !(*known == *params)) return copy(node);
  slots_[at(x)].quant = quant;
}

const QuantParams* QuantizedRebuilder::out_params(ValueId id) const {
  if (id == kNoValue || at(id) >= out_.params.size() || !out_.params[at(id)]) return nullptr;
  return &*out_.params[at(id)];
}

bool QuantizedRebuilder::only_dequantized(ValueId q, const QuantParams& params) const {
  if (outputs_.contains(q)) return false;
  return std::all_of(consumers_[at(q)].begin(), consumers_[at(q)].end(), [&](NodeId n) {
    return is_dequantize_linear(old_.node(n)) && old_.node(n).input(0) == q && read_params(old_, old_.node(n)) == params;
  });
}

void QuantizedRebuilder::read_quantize(const Node& node) {
  const ValueId x = node.input(0);
  const ValueId q = node.output(0);
  if (x == kNoValue || q == kNoValue) return copy(node);
  const auto params = read_params(old_, node);
  if (!params || !params->per_tensor() || params->type.bit_width > 16) return copy(node);
  const ValueId quant = slots_[at(x)].quant;
  const QuantParams* have = out_params(quant);
  const bool own_name = outputs_.contains(q);
  if (have != nullptr && same_grid(*have, *params) && !own_name) {
    slots_[at(q)].quant = quant;
    return;
  }
  Node edge;
  edge.name = node.name;
  if (have != nullptr && have->per_tensor() && have->type.bit_width <= kWidestInteger && params->type.bit_width <= kWidestInteger) {
    edge.op_type = "Requantize";
    edge.domain = "nibble";
    edge.inputs = {quant};
  } else {
    edge.op_type = "QuantizeLinear";
    edge.inputs = {real(x)};
  }
  const ValueId id = add_integers(old_.value(q).name, old_.value(x).type, *params);
  edge.outputs = {id};
  editor_.add_node(std::move(edge));
  slots_[at(q)].quant = id;
}

bool QuantizedRebuilder::same_grid(const QuantParams& a, const QuantParams& b) {
  return a.per_tensor() && b.per_tensor() && a.scale == b.scale && a.zero_point == b.zero_point && a.qmin() >= b.qmin() &&
         a.qmax() <= b.qmax() && element_type_of(a.type) == element_type_of(b.type);
}

void QuantizedRebuilder::copy(const Node& node) {
  Node copied = node;
  for (ValueId& input : copied.inputs) input = real(input);
  for (ValueId& output : copied.outputs) {
    if (output == kNoValue) continue;
    Slot& slot = slots_[at(output)];
    slot.real = add_value(old_.value(output).name, old_.value(output).type);
    output = slot.real;
  }
  editor_.add_node(std::move(copied));
}

void QuantizedRebuilder::read_node(const Node& node) {
  const OpDef* op = find_op(node.domain, node.op_type);
  LayerInfo layer{.name = node.name, .op_type = node.op_type, .integer = false, .reason = {}, .proof = std::nullopt, .notes = {}};
  const bool tried = op != nullptr && op->rule != QuantRule::kFloat && op->rule != QuantRule::kNotReal;
  layer.integer = tried && (is_tied(node) ? move(node, layer) : compute_bases(node, layer) || compute(node, op->rule, layer));
  if (!layer.integer) {
    if (op == nullptr)
      layer.reason = "nibble does not know this op";
    else if (op->rule == QuantRule::kFloat)
      layer.reason = op->note.empty() ? "the op has no integer form" : std::string(op->note);
    copy(node);
  }
  if (op == nullptr || op->rule != QuantRule::kNotReal) out_.layers.push_back(std::move(layer));
}

void QuantizedRebuilder::finish() {
  std::vector<ValueId> outputs;
  for (const ValueId old : old_.outputs()) {
    const Value& value = old_.value(old);
    const bool integers = value.producer != kNoNode && is_quantize_linear(old_.node(value.producer)) && slots_[at(old)].quant != kNoValue &&
                          slots_[at(old)].real == kNoValue;
    ValueId id = integers ? slots_[at(old)].quant : real(old);
    if (out_.graph.value(id).name != value.name) {
      // Two values, one of them wanted by name: a node of its own. (Names of outputs collide only with values that were copied.)
      if (const auto taken = out_.graph.find_value(value.name); taken && *taken != id)
        editor_.rename_value(*taken, editor_.fresh_value_name(value.name + "_inner"));
      editor_.rename_value(id, value.name);
    }
    outputs.push_back(id);
  }
  editor_.set_outputs(std::move(outputs));
  // finish() renumbers the values; their names stay.
  std::unordered_map<std::string, QuantParams> by_name;
  for (std::size_t v = 0; v < out_.params.size(); ++v) {
    if (out_.params[v]) by_name.emplace(out_.graph.values()[v].name, std::move(*out_.params[v]));
  }
  editor_.finish();
  out_.params.assign(out_.graph.values().size(), std::nullopt);
  for (std::size_t v = 0; v < out_.params.size(); ++v) {
    if (auto it = by_name.find(out_.graph.values()[v].name); it != by_name.end()) out_.params[v] = std::move(it->second);
  }
  verify(out_);
  prove();
}

void QuantizedRebuilder::prove() {
  std::unordered_map<std::string_view, NodeId> nodes;
  for (NodeId n = 0; n < static_cast<NodeId>(out_.graph.nodes().size()); ++n) nodes.emplace(out_.graph.node(n).name, n);
  // What only sums of bases were made of is part of their layers now.
  std::erase_if(out_.layers, [&](const LayerInfo& layer) { return !layer.integer && !nodes.contains(layer.name); });
  for (LayerInfo& layer : out_.layers) {
    const auto node = nodes.find(layer.name);
    if (!layer.integer || node == nodes.end()) continue;
    layer.proof = prove_accumulator(out_, node->second);
    if (layer.proof && layer.proof->bits_needed > 32 && !is_wide(out_, out_.graph.node(node->second)))
      out_.warnings.push_back(fmt::format("node '{}' ({}): its accumulator needs {} bits, more than the 32 of the kernels", layer.name,
                                          layer.op_type, layer.proof->bits_needed));
  }
}

bool has_quantization(const Graph& graph) {
  if (graph.metadata().contains("nibble.law")) return true;  // written here; weights of 16 bits leave no other trace
  return std::any_of(graph.nodes().begin(), graph.nodes().end(), [](const Node& node) {
    const std::string& op = node.op_type;
    return is_quantize_linear(node) || is_dequantize_linear(node) || op.starts_with("QLinear") || op == "QGemm" || op == "MatMulNBits" || op == "ConvInteger" ||
           op == "MatMulInteger" || op == "DynamicQuantizeLinear";
  });
}

QuantizedGraph quantized_from_onnx_graph(Graph graph) {
  fold_constant_nodes(graph);
  expand_matmul_nbits(graph);
  expand_qlinear_ops(graph);
  fuse_steps(graph);
  merge_activations(graph);
  pull_quantize_up(graph);
  return QuantizedRebuilder(std::move(graph)).run();
}

}  // namespace nibble
