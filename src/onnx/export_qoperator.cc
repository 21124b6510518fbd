// Integer nodes as operators on integers: ONNX's own (QLinearConv, QLinearMatMul), ONNX Runtime's (domain com.microsoft), and ordinary ops
// where ONNX defines them for integers.
#include <algorithm>
#include <array>

#include "onnx/export_builder.h"
#include "onnx/matmul_nbits.h"
#include "quantize/node_arithmetic.h"

namespace nibble {
namespace {

struct QLinearName {
  std::string_view op;
  std::string_view name;
  std::string_view domain;
  std::size_t operands;  // data inputs; a bias comes besides
};
constexpr std::array kQLinear = {
    QLinearName{"Conv", "QLinearConv", "", 2},
    QLinearName{"MatMul", "QLinearMatMul", "", 2},
    QLinearName{"Gemm", "QGemm", "com.microsoft", 2},
    QLinearName{"Add", "QLinearAdd", "com.microsoft", 2},
    QLinearName{"Mul", "QLinearMul", "com.microsoft", 2},
    QLinearName{"AveragePool", "QLinearAveragePool", "com.microsoft", 1},
    QLinearName{"GlobalAveragePool", "QLinearGlobalAveragePool", "com.microsoft", 1},
    QLinearName{"Sigmoid", "QLinearSigmoid", "com.microsoft", 1},
    QLinearName{"LeakyRelu", "QLinearLeakyRelu", "com.microsoft", 1},
};

// Ops that ONNX Runtime computes on 8-bit integers as on floats.
constexpr std::array<std::string_view, 14> kOnIntegers = {"MaxPool", "Reshape", "Flatten",  "Squeeze", "Unsqueeze", "Transpose", "Slice",
                                                          "Gather",  "Concat",  "Identity", "Split",   "Expand",    "Resize",    "Pad"};

bool eight_bits(const QuantParams& p) { return p.type.bit_width == 8 && !p.type.narrow_range; }

}  // namespace

bool ExportBuilder::write_integer_node_as_operator(const Node& node) { return write_movement(node) || write_qlinear(node); }

bool ExportBuilder::write_movement(const Node& node) {
  if (std::find(kOnIntegers.begin(), kOnIntegers.end(), node.op_type) == kOnIntegers.end() || node.has("activation")) return false;
  for (const ValueId id : node.outputs) {
    if (id == kNoValue) continue;
    if (params(id) == nullptr || params(id)->type.bit_width != 8) return false;
  }
  Node written = node;
  for (ValueId& input : written.inputs) input = value(input);
  for (ValueId& output : written.outputs) output = value(output);
  if (node.op_type == "Pad" && node.get_string("mode", "constant") == "constant") {
    // What fills is a code here: that of the real value.
    const QuantParams& p = *params(node.output(0));
    float fill = 0.0F;
    if (node.input(2) != kNoValue) {
      if (!model_.graph.is_constant(node.input(2))) return false;
      fill = cast(*model_.graph.value(node.input(2)).constant, DataType::kFloat32).data<float>()[0];
    }
    if (node.inputs.size() < 2) return false;  // the form before opset 11
    written.inputs.resize(std::max<std::size_t>(3, written.inputs.size()), kNoValue);
    written.inputs[2] =
        editor_.add_constant(node.name + "_fill", cast(Tensor::scalar<std::int32_t>(quantize_scalar(fill, p)), storage_type(p.type)));
  }
  editor_.add_node(std::move(written));
  return true;
}

void ExportBuilder::append_operand(std::vector<ValueId>& inputs, ValueId old) {
  const Parameters p = parameters(old);
  inputs.insert(inputs.end(), {value(old), p.scale, p.zero_point});
}

bool ExportBuilder::write_qlinear(const Node& node) {
  const auto form = std::find_if(kQLinear.begin(), kQLinear.end(), [&](const QLinearName& f) { return f.op == node.op_type; });
  if (form == kQLinear.end() || node.outputs.size() != 1 || !eight_bits(*params(node.output(0)))) return false;
  for (std::size_t i = 0; i < form->operands; ++i) {
    const QuantParams* p = params(node.input(i));
    // Weights of fewer bits are held in bytes here; activations on a smaller grid would need a clip.
    if (p == nullptr || p->type.bit_width > 8 || std::holds_alternative<PerBlock>(p->granularity)) return false;
    if (model_.graph.is_constant(node.input(i)) ? p->type.bit_width <= 4 : p->type.bit_width != 8) return false;
  }
  if (node.op_type == "AveragePool" && node.get_ints("dilations")) return false;

  const ValueId output = node.output(0);
  std::vector<ValueId> inputs;
  for (std::size_t i = 0; i < form->operands; ++i) append_operand(inputs, node.inputs[i]);
  const ValueId bias = form->operands == 2 ? node.input(2) : kNoValue;
  const Parameters out = parameters(output);
  if (form->op == "Gemm") inputs.push_back(value(bias));
  inputs.insert(inputs.end(), {out.scale, out.zero_point});
  if (form->op == "Conv" && bias != kNoValue) inputs.push_back(value(bias));

  const bool clip = activation_needed(node);
  const ValueId result = clip ? fresh(name_of(output) + "_before_activation") : value(output);
  Node written = node;
  for (const char* attribute : {"activation", "activation_min", "activation_max"}) {
    if (const auto it = written.attributes.find(attribute); it != written.attributes.end()) written.attributes.erase(it);
  }
  if (form->op == "Gemm") {
    if (const auto it = written.attributes.find("beta"); it != written.attributes.end()) written.attributes.erase(it);
  }
  written.op_type = std::string(form->name);
  written.domain = std::string(form->domain);
  written.inputs = std::move(inputs);
  written.outputs = {result};
  editor_.add_node(std::move(written));
  if (clip) {
    // The activation is a clamp of the integers (docs/arithmetic.md, Eq. 20).
    const QuantParams& p = *params(output);
    const OutputGrid grid = output_grid(p, node);
    const auto bound = [&](const char* name, std::int64_t q) {
      return editor_.add_constant(node.name + name, cast(Tensor::scalar<std::int64_t>(q), storage_type(p.type)));
    };
    const ValueId low = bound("_activation_min", grid.qmin);
    const ValueId high = bound("_activation_max", grid.qmax);
    add("Clip", node.name + "_activation", {result, low, high}, {value(output)});
  }
  return true;
}

bool ExportBuilder::write_matmul_nbits(const Node& node) {
  if (node.op_type != "MatMul" && node.op_type != "Gemm") return false;
  const ValueId weights = node.input(1);
  const NodeId producer = weights == kNoValue ? kNoNode : model_.graph.value(weights).producer;
  if (producer == kNoNode || model_.graph.node(producer).op_type != "DequantizeLinear") return false;
  const ValueId codes = model_.graph.node(producer).input(0);
  const bool transposed = node.op_type == "Gemm" && node.get_int("transB", 0) != 0;
  if (!model_.graph.is_constant(codes) || params(codes) == nullptr || packed(codes) != nullptr) return false;
  if (!fits_matmul_nbits(*model_.graph.value(codes).constant, *params(codes), transposed)) return false;
  const ValueId bias = node.op_type == "Gemm" ? node.input(2) : kNoValue;
  if (node.get_int("transA", 0) != 0 || node.get_float("alpha", 1.0F) != 1.0F || node.get_float("beta", 1.0F) != 1.0F) return false;

  const NBitsOperands operands = to_matmul_nbits(*model_.graph.value(codes).constant, *params(codes), transposed);
  if (bias != kNoValue && (!model_.graph.is_constant(bias) || model_.graph.value(bias).constant->size() != operands.n)) return false;
  const std::string base = name_of(codes);
  std::vector<ValueId> inputs = {value(node.input(0)), editor_.add_constant(base + "_nbits", operands.b),
                                 editor_.add_constant(base + "_scales", operands.scales)};
  if (operands.zero_points || bias != kNoValue)
    inputs.push_back(operands.zero_points ? editor_.add_constant(base + "_zero_points", *operands.zero_points) : kNoValue);
  if (bias != kNoValue) inputs.insert(inputs.end(), {kNoValue, value(bias)});

  const ValueId output = value(node.output(0));
  const ValueId result = node.has("activation") ? fresh(name_of(node.output(0)) + "_before_activation") : output;
  const NodeId id = add("MatMulNBits", node.name, std::move(inputs), {result}, "com.microsoft");
  editor_.set_attribute(id, "K", operands.k);
  editor_.set_attribute(id, "N", operands.n);
  editor_.set_attribute(id, "bits", std::int64_t{4});
  editor_.set_attribute(id, "block_size", operands.block_size);
  editor_.set_attribute(id, "accuracy_level", std::int64_t{1});  // float32
  if (node.has("activation")) editor_.set_outputs(graph_.value(activation(node, result)).producer, {output});
  return true;
}

}  // namespace nibble
