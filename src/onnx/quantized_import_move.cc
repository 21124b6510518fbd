// Ops that move elements: quant in, quant out.
#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "nibble/onnx.h"
#include "numeric/quantize.h"
#include "onnx/quantized_rebuilder.h"
#include "ops/fail.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

}  // namespace

bool QuantizedRebuilder::move(const Node& node, LayerInfo& layer) {
  const Movement movement = movement_of(old_, node);
  if (!movement.moves) {
    layer.reason = "it would need arithmetic in this form";
    return false;
  }
  const std::optional<std::size_t> bound = real_bound(node);
  std::vector<ValueId> quants;
  for (std::size_t i = 0; i < movement.data_inputs; ++i) {
    if (bound == i) continue;
    const ValueId old = node.input(i);
    const ValueId quant = old == kNoValue ? kNoValue : slots_[at(old)].quant;
    if (old != kNoValue && holds_integers(old)) {
      layer.reason = "it works on the integers themselves";
      return false;
    }
    if (out_params(quant) == nullptr) {
      layer.reason = "its input is not quantized";
      return false;
    }
    quants.push_back(quant);
  }
  if (std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return id == kNoValue || is_constant_quant(id); }))
    return move_constant(node, quants, layer);

  for (const ValueId quant : quants) {
    const QuantParams& have = *out_params(quant);
    if (have.per_tensor() && have.type.bit_width <= kWidestInteger) continue;
    layer.reason = have.per_tensor() ? "more than 16 bits have no integer form" : "it joins a constant that has several scales";
    return false;
  }
  QuantParams params = *out_params(quants[0]);
  const auto target = node.outputs.size() == 1 ? find_target(node.outputs[0], Absorb::kNothing) : std::nullopt;
  const bool alike = std::all_of(quants.begin(), quants.end(), [&](ValueId id) { return same_grid(*out_params(id), params); });
  if (!alike) {
    // Inputs under different parameters are brought to the output's; without an output that asks for some, that would be a choice.
    if (!target) {
      layer.reason = "its inputs have different scales and its output is not quantized";
      return false;
    }
    params = target->params;
  }
  if (movement.fill && !(target && same_grid(target->params, params)) && !on_grid(*movement.fill, params)) {
    layer.reason = fmt::format("its value {} is not on the grid of its input", *movement.fill);
    return false;
  }
  if (bound) {
    // A bound of reals becomes one of codes; where another quantization follows, it must not be rounded twice.
    const Tensor reals = *old_.value(node.inputs[*bound]).constant;
    const auto on_this_grid = [&](float x) { return on_grid(x, params); };
    if (!(target && same_grid(target->params, params)) && !std::ranges::all_of(reals.data<float>(), on_this_grid)) {
      layer.reason = "its bounds are not on the grid of its input";
      return false;
    }
    const ValueId codes = editor_.add_constant(old_.value(node.inputs[*bound]).name + "_quantized", quantize_tensor(reals, params));
    set_params(codes, params);
    quants.insert(quants.begin() + static_cast<std::ptrdiff_t>(*bound), codes);
  }
  Node moved = node;
  std::vector<TensorType> types;
  for (const ValueId output : node.outputs) types.push_back(output == kNoValue ? TensorType{} : old_.value(output).type);
  for (std::size_t i = 0; i < quants.size(); ++i) {
    moved.inputs[i] = same_grid(*out_params(quants[i]), params) ? quants[i] : requantize(quants[i], params, layer);
  }
  for (std::size_t i = quants.size(); i < moved.inputs.size(); ++i) moved.inputs[i] = real(moved.inputs[i]);
  for (std::size_t i = 0; i < moved.outputs.size(); ++i) {
    ValueId& output = moved.outputs[i];
    if (output == kNoValue) continue;
    const ValueId id = add_integers(integer_name(output, params), types[i], params);
    slots_[at(output)].quant = id;
    output = id;
  }
  layer.reason = why_not(moved, QuantRule::kTied);
  if (!layer.reason.empty()) {
    for (const ValueId output : node.outputs) {
      if (output != kNoValue) slots_[at(output)].quant = kNoValue;
    }
    return false;
  }
  editor_.add_node(std::move(moved));
  return true;
}

std::optional<std::size_t> QuantizedRebuilder::real_bound(const Node& node) const {
  const auto bound = bound_operand(old_, node);
  if (!bound || slots_[at(node.inputs[*bound])].quant != kNoValue || node.inputs[1 - *bound] == kNoValue) return std::nullopt;
  const Tensor& reals = *old_.value(node.inputs[*bound]).constant;
  if (reals.type() != DataType::kFloat32) return std::nullopt;
  return std::ranges::none_of(reals.data<float>(), [](float x) { return std::isnan(x); }) ? bound : std::nullopt;
}

bool QuantizedRebuilder::holds_integers(ValueId old) const {
  const NodeId producer = old_.value(old).producer;
  return producer != kNoNode && is_quantize_linear(old_.node(producer));
}

bool QuantizedRebuilder::on_grid(float x, const QuantParams& params) {
  const float scale = params.scale[0];
  const std::int32_t zero = params.zero_point[0];
  return params.per_tensor() && fake_quantize(x, scale, zero, params.qmin(), params.qmax()) == x;
}

bool QuantizedRebuilder::is_constant_quant(ValueId old) const {
  const ValueId quant = slots_[at(old)].quant;
  return quant != kNoValue ? out_.graph.is_constant(quant) : old_.is_constant(old);
}

bool QuantizedRebuilder::move_constant(const Node& node, const std::vector<ValueId>& quants, LayerInfo& layer) {
  QuantParams params = *out_params(quants[0]);
  const Tensor& source = *out_.graph.value(quants[0]).constant;
  if (quants.size() != 1 || node.outputs.size() != 1 || is_bound(node)) {
    layer.reason = "it only joins constants";
    return false;
  }
  if (auto* channel = std::get_if<PerChannel>(&params.granularity)) {
    if (node.op_type != "Transpose") {
      layer.reason = "it moves weights that have a scale for each channel";
      return false;
    }
    std::vector<std::int64_t> perm;
    for (std::int64_t i = source.rank(); i-- > 0;) perm.push_back(i);
    if (const auto given = node.get_ints("perm")) perm = *given;
    const auto to = std::find(perm.begin(), perm.end(), channel->axis);
    if (to == perm.end()) fail_node(node, "its perm does not name axis {}", channel->axis);
    channel->axis = to - perm.begin();
  } else if (!params.per_tensor()) {
    layer.reason = "it moves weights that have a scale for each block";
    return false;
  }
  std::vector<const Tensor*> inputs{&source};
  for (std::size_t i = 1; i < node.inputs.size(); ++i)
    inputs.push_back(node.inputs[i] == kNoValue ? nullptr : &*old_.value(node.inputs[i]).constant);
  std::vector<Tensor> moved = evaluate_node({.node = node, .opset = old_.opset(node.domain), .inputs = inputs});
  const ValueId id = editor_.add_constant(old_.value(node.outputs[0]).name + "_quantized", std::move(moved.at(0)));
  set_params(id, std::move(params));
  slots_[at(node.outputs[0])].quant = id;
  return true;
}

ValueId QuantizedRebuilder::requantize(ValueId quant, const QuantParams& params, LayerInfo& layer) {
  const Value& source = out_.graph.value(quant);
  const std::string name = source.name + "_requantized";
  TensorType type = source.type;
  const ValueId id = add_integers(name, std::move(type), params);
  Node node;
  node.op_type = "Requantize";
  node.domain = "nibble";
  node.name = name;
  node.inputs = {quant};
  node.outputs = {id};
  editor_.add_node(std::move(node));
  layer.notes.push_back("an input is requantized to the output's scale");
  return id;
}

std::string QuantizedRebuilder::integer_name(ValueId old, const QuantParams& params) const {
  for (const NodeId n : consumers_[at(old)]) {
    const Node& reader = old_.node(n);
    if (!is_quantize_linear(reader) || reader.output(0) == kNoValue || outputs_.contains(reader.output(0))) continue;
    if (const auto theirs = read_params(old_, reader); theirs && same_grid(params, *theirs)) return old_.value(reader.output(0)).name;
  }
  return old_.value(old).name + "_quantized";
}

}  // namespace nibble
