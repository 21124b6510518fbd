// Ops that compute: integer nodes, with the activation and the bias that belong to them.
#include <algorithm>
#include <cmath>
#include <limits>

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

// Scales that are computed in another order differ in their last bits; a bias under them is the same bias.
constexpr double kSameScale = 1e-5;
// True where rounding to the grid and clamping to [qmin, qmax] clips at these bounds already.
bool implied_by_grid(const ActivationBounds& bounds, const QuantParams& params) {
  const auto q = [&](float x) { return quantize(x, params.scale[0], params.zero_point[0], params.qmin(), params.qmax()); };
  const bool low = bounds.low == -std::numeric_limits<float>::infinity() || q(bounds.low) <= params.qmin();
  const bool high = bounds.high == std::numeric_limits<float>::infinity() || q(bounds.high) >= params.qmax();
  return low && high;
}
}  // namespace

std::optional<Target> QuantizedRebuilder::find_target(ValueId old, Absorb absorb) const {
  if (old == kNoValue || outputs_.contains(old) || consumers_[at(old)].empty()) return std::nullopt;
  Target target;
  const auto& readers = consumers_[at(old)];
  if (absorb == Absorb::kActivation && readers.size() == 1) {
    const Node& reader = old_.node(readers[0]);
    if (const auto bounds = activation_bounds(old_, reader); bounds && reader.input(0) == old) {
      auto behind = find_target(reader.output(0), Absorb::kNothing);
      if (!behind) return std::nullopt;
      behind->activation = readers[0];
      behind->bounds = *bounds;
      return behind;
    }
  }
  for (const NodeId n : readers) {
    const Node& reader = old_.node(n);
    if (!is_quantize_linear(reader) || reader.input(0) != old || reader.output(0) == kNoValue) return std::nullopt;
    const auto params = read_params(old_, reader);
    if (!params || !params->per_tensor() || params->type.bit_width > 16) return std::nullopt;
    if (target.quantizers.empty())
      target.params = *params;
    else if (!(target.params == *params))
      return std::nullopt;
    target.quantizers.push_back(n);
  }
  return target;
}

bool QuantizedRebuilder::compute(const Node& node, QuantRule rule, LayerInfo& layer) {
  const auto no = [&](std::string why) {
    layer.reason = std::move(why);
    return false;
  };
  for (std::size_t i = 1; i < node.outputs.size(); ++i) {
    if (node.outputs[i] != kNoValue) return no("it has more than one output");
  }
  const auto target = find_target(node.output(0), Absorb::kActivation);
  if (!target) return no("its output is not quantized");

  Node integer = node;
  const std::size_t bias = rule == QuantRule::kCompute && node.op_type != "MatMul" ? 2 : std::numeric_limits<std::size_t>::max();
  const Operands operands = operands_of(old_, node);
  std::vector<std::size_t> data = operands.activations;
  if (operands.weights) data.push_back(*operands.weights);
  for (const std::size_t i : data) {
    if (node.input(i) == kNoValue) return no("an input is left out");
    const ValueId quant = slots_[at(node.inputs[i])].quant;
    if (holds_integers(node.inputs[i])) return no("it works on the integers themselves");
    if (out_params(quant) == nullptr)
      return no(i == 1 && rule == QuantRule::kCompute ? "its weights are not quantized"
                                                      : fmt::format("its input '{}' is not quantized", old_.value(node.inputs[i]).name));
    integer.inputs[i] = quant;
  }
  const TensorType type = old_.value(target->quantizers[0] == kNoNode ? node.output(0) : old_.node(target->quantizers[0]).input(0)).type;
  QuantParams params = target->params;
  if (!set_activation(*target, node, integer)) return no("it has an activation already");
  // Checked before anything is added, with a value that stands for the output.
  const ValueId first_output = old_.node(target->quantizers[0]).output(0);
  const ValueId output = add_integers(old_.value(first_output).name, type, params);
  integer.outputs = {output};
  for (std::size_t i = 0; i < integer.inputs.size(); ++i) {
    if (i != bias && std::find(data.begin(), data.end(), i) == data.end()) integer.inputs[i] = real(integer.inputs[i]);
  }
  if (node.input(bias) != kNoValue) integer.inputs[bias] = kNoValue;
  bool fits = node.op_type != "Gemm" || settle_gemm(node, integer, layer);
  if (fits) {
    layer.reason = why_not(integer, rule);
    fits = layer.reason.empty();
  }
  if (fits && node.input(bias) != kNoValue) fits = add_bias(node, node.inputs[bias], integer, layer);
  if (!fits) {
    // The name goes back to the QuantizeLinear that will need it.
    editor_.rename_value(output, editor_.fresh_value_name(old_.value(first_output).name + "_dropped"));
    return false;
  }
  take_target(*target, output);
  editor_.add_node(std::move(integer));
  return true;
}

bool QuantizedRebuilder::set_activation(const Target& target, const Node& node, Node& integer) const {
  if (implied_or_absent(target)) return true;
  if (node.has("activation")) return false;
  const bool relu = old_.node(target.activation).op_type == "Relu";
  integer.attributes.insert_or_assign("activation", std::string(relu ? "Relu" : "Clip"));
  if (!relu) {
    integer.attributes.insert_or_assign("activation_min", target.bounds.low);
    integer.attributes.insert_or_assign("activation_max", target.bounds.high);
  }
  return true;
}

void QuantizedRebuilder::take_target(const Target& target, ValueId output) {
  if (target.activation != kNoNode) done_[at(target.activation)] = true;
  for (const NodeId n : target.quantizers) {
    const ValueId q = old_.node(n).output(0);
    // Graph outputs keep their own QuantizeLinear's name through a Requantize of equal parameters.
    slots_[at(q)].quant = n == target.quantizers[0] ? output : alias(output, q);
    done_[at(n)] = true;
  }
}

ValueId QuantizedRebuilder::alias(ValueId quant, ValueId old) {
  if (!outputs_.contains(old)) return quant;
  const QuantParams params = *out_params(quant);
  const TensorType type = out_.graph.value(quant).type;
  const ValueId id = add_integers(old_.value(old).name, type, params);
  Node node;
  node.op_type = "Requantize";
  node.domain = "nibble";
  node.name = old_.value(old).name;
  node.inputs = {quant};
  node.outputs = {id};
  editor_.add_node(std::move(node));
  return id;
}

bool QuantizedRebuilder::implied_or_absent(const Target& target) {
  return target.activation == kNoNode || implied_by_grid(target.bounds, target.params);
}

bool QuantizedRebuilder::settle_gemm(const Node& node, Node& integer, LayerInfo& layer) {
  const float alpha = node.get_float("alpha", 1.0F);
  if (alpha != 1.0F) {
    if (!(alpha > 0.0F) || !std::isfinite(alpha) || !out_.graph.is_constant(integer.inputs[1])) {
      layer.reason = "its alpha cannot go into the scale of its weights";
      return false;
    }
    QuantParams params = *out_params(integer.inputs[1]);
    for (float& scale : params.scale) scale *= alpha;
    // Copies: adding a constant moves the values.
    const std::string name = out_.graph.value(integer.inputs[1]).name;
    const Tensor codes = *out_.graph.value(integer.inputs[1]).constant;
    const ValueId scaled = editor_.add_constant(name, codes);
    set_params(scaled, std::move(params));
    integer.inputs[1] = scaled;
  }
  integer.attributes.erase("alpha");
  integer.attributes.erase("beta");
  return true;
}

std::optional<Tensor> QuantizedRebuilder::real_constant(ValueId old) const {
  const ValueId quant = slots_[at(old)].quant;
  if (const QuantParams* params = out_params(quant); params != nullptr && out_.graph.is_constant(quant)) {
    const Tensor q = cast(*out_.graph.value(quant).constant, DataType::kInt32);
    Tensor real(DataType::kFloat32, q.shape());
    nibble::dequantize(q.data<std::int32_t>(), q.shape(), *params, real.mutable_data<float>());
    return real;
  }
  if (!old_.is_constant(old) || !is_float(old_.value(old).constant->type())) return std::nullopt;
  return cast(*old_.value(old).constant, DataType::kFloat32);
}

bool QuantizedRebuilder::add_bias(const Node& node, ValueId old, Node& integer, LayerInfo& layer) {
  const auto values = real_constant(old);
  if (!values) {
    layer.reason = "its bias is not constant";
    return false;
  }
  const QuantParams& src = *out_params(integer.inputs[0]);
  const QuantParams& wei = *out_params(integer.inputs[1]);
  const Value& weight = out_.graph.value(integer.inputs[1]);
  const bool gemm = node.op_type == "Gemm";
  std::int64_t channels = values->size();
  if (weight.type.fully_known() && !weight.type.dims.empty()) {
    const Shape shape = weight.type.shape();
    if (gemm && shape.size() == 2)
      channels = node.get_int("transB", 0) != 0 ? shape[0] : shape[1];
    else if (node.op_type == "ConvTranspose" && shape.size() > 1)
      channels = shape[1] * node.get_int("group", 1);
    else if (!gemm)
      channels = shape[0];
  }
  const Shape& bias_shape = values->shape();
  const bool row = bias_shape.empty() || bias_shape.back() == values->size();
  if (!row || (values->size() != channels && values->size() != 1)) {
    layer.reason = fmt::format("its bias of shape {} is not one value for each of {} channels", to_string(bias_shape), channels);
    return false;
  }
  const double beta = gemm ? static_cast<double>(node.get_float("beta", 1.0F)) : 1.0;

  QuantParams params{.type = {.bit_width = 32, .is_signed = true}, .granularity = PerTensor{}, .scale = {}, .zero_point = {}};
  if (!wei.per_tensor()) params.granularity = PerChannel{.axis = 0};
  for (const float scale : channel_scales(integer, out_.graph.value(integer.inputs[1]).constant->shape(), wei)) params.scale.push_back(src.scale[0] * scale);
  params.zero_point.assign(params.scale.size(), 0);
  if (params.scale.size() != 1 && static_cast<std::int64_t>(params.scale.size()) != channels) {
    layer.reason = "its weights' scales are not one for each output channel";
    return false;
  }
  for (const float scale : params.scale) {
    if (!(scale > 0.0F) || !std::isfinite(scale)) {
      layer.reason = "the scale of its bias is outside of what float holds";
      return false;
    }
  }

  // The file's own integers where their scale is what the accumulator has; else the nearest ones.
  const ValueId quant = slots_[at(old)].quant;
  const QuantParams* have = out_params(quant);
  bool same = beta == 1.0 && have != nullptr && have->symmetric() && have->type.bit_width == 32 && values->size() == channels &&
              (have->scale.size() == 1 || have->scale.size() == static_cast<std::size_t>(channels));
  const auto scale_of = [&](const QuantParams& p, std::int64_t i) {
    return static_cast<double>(p.scale[p.scale.size() == 1 ? 0 : static_cast<std::size_t>(i)]);
  };
  for (std::int64_t i = 0; same && i < channels; ++i)
    same = std::abs(scale_of(*have, i) - scale_of(params, i)) <= kSameScale * scale_of(params, i);
  Tensor integers(DataType::kInt32, {channels});
  auto q = integers.mutable_data<std::int32_t>();
  if (same) {
    const auto file = out_.graph.value(quant).constant->data<std::int32_t>();
    std::copy(file.begin(), file.end(), q.begin());
  } else {
    for (std::int64_t i = 0; i < channels; ++i) {
      const auto index = static_cast<std::size_t>(i);
      const double b = beta * static_cast<double>(values->data<float>()[values->size() == 1 ? 0 : index]);
      const double rounded = std::nearbyint(b / scale_of(params, i));
      if (!(std::abs(rounded) <= static_cast<double>(std::numeric_limits<std::int32_t>::max()))) {
        layer.reason = fmt::format("its bias {} needs more than 32 bits at the scale {}", b, scale_of(params, i));
        return false;
      }
      q[index] = static_cast<std::int32_t>(rounded);
    }
    layer.notes.push_back(have != nullptr ? "the bias was brought to the scale of the accumulator" : "the float bias was made an integer");
  }
  const ValueId id = editor_.add_constant(old_.value(quant_source(old)).name, std::move(integers));
  set_params(id, std::move(params));
  integer.inputs[2] = id;
  return true;
}

ValueId QuantizedRebuilder::quant_source(ValueId old) const {
  const NodeId producer = old_.value(old).producer;
  return producer != kNoNode && !old_.node(producer).inputs.empty() ? old_.node(producer).inputs[0] : old;
}

}  // namespace nibble
