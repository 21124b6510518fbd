#include "quantize/node_arithmetic.h"

#include <algorithm>
#include <limits>

#include "base/fail.h"
#include "numeric/quantize.h"
#include "ops/fused_activation.h"
#include "ops/op.h"
#include "quantize/integer_form.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

[[noreturn]] void fail_law(const QuantizedGraph& model, const Node& node, double multiplier) {
  fail(ErrorCode::kUnsupported,
       "node '{}' ({}): the multiplier {} cannot be held by law {}; use --law float32, or leave the node in float (--nodes-to-exclude)", node.name,
       node.op_type, multiplier, to_string(model.law));
}

const QuantParams& params_or_fail(const QuantizedGraph& model, const Node& node, ValueId id) {
  const QuantParams* params = id == kNoValue ? nullptr : model.params_of(id);
  if (params == nullptr) fail(ErrorCode::kInvalidModel, "node '{}' ({}): an operand has no quantization parameters", node.name, node.op_type);
  return *params;
}

}  // namespace

OutputGrid output_grid(const QuantParams& params, const Node& node) {
  OutputGrid grid{.zero_point = params.zero_point[0], .qmin = params.qmin(), .qmax = params.qmax()};
  const FusedActivation activation = fused_activation(node);
  if (!activation.present) return grid;
  const auto code = [&](float x) { return quantize(x, params.scale[0], grid.zero_point, params.qmin(), params.qmax()); };
  if (activation.low > -std::numeric_limits<float>::infinity()) grid.qmin = std::max<std::int64_t>(grid.qmin, code(activation.low));
  if (activation.high < std::numeric_limits<float>::infinity()) grid.qmax = std::min<std::int64_t>(grid.qmax, code(activation.high));
  grid.qmax = std::max(grid.qmax, grid.qmin);
  return grid;
}

std::vector<Requantizer> compute_requantizers(const QuantizedGraph& model, const Node& node) {
  const QuantParams& src = params_or_fail(model, node, node.input(0));
  const QuantParams& wei = params_or_fail(model, node, node.input(1));
  const QuantParams& dst = params_or_fail(model, node, node.output(0));
  std::vector<Requantizer> result;
  const auto& weights = model.graph.value(node.input(1)).constant;
  for (const float scale : weights ? channel_scales(node, weights->shape(), wei) : wei.scale) {
    const auto requantizer = make_requantizer(model.law, src.scale[0], scale, dst.scale[0]);
    if (!requantizer)
      fail_law(model, node, static_cast<double>(src.scale[0]) * static_cast<double>(scale) / static_cast<double>(dst.scale[0]));
    result.push_back(*requantizer);
  }
  if (node.op_type == "ConvTranspose" && result.size() > 1) {
    // Scales along axis 1 repeat in every group.
    const std::size_t one_group = result.size();
    for (std::int64_t g = 1; g < node.get_int("group", 1); ++g) result.insert(result.end(), result.begin(), result.begin() + static_cast<std::ptrdiff_t>(one_group));
  }
  return result;
}

Adder node_adder(const QuantizedGraph& model, const Node& node) {
  const QuantParams& a = params_or_fail(model, node, node.input(0));
  const QuantParams& b = params_or_fail(model, node, node.input(1));
  const QuantParams& c = params_or_fail(model, node, node.output(0));
  const auto adder = make_adder(model.law, node.op_type == "Sub" ? AddKind::kSub : AddKind::kAdd, a.scale[0], a.zero_point[0], b.scale[0],
                                b.zero_point[0], c.scale[0], c.zero_point[0]);
  if (!adder) fail_law(model, node, static_cast<double>(std::max(a.scale[0], b.scale[0])) / static_cast<double>(c.scale[0]));
  return *adder;
}

Requantizer mul_requantizer(const QuantizedGraph& model, const Node& node) {
  const QuantParams& a = params_or_fail(model, node, node.input(0));
  const QuantParams& b = params_or_fail(model, node, node.input(1));
  const QuantParams& c = params_or_fail(model, node, node.output(0));
  const auto requantizer = make_requantizer(model.law, a.scale[0], b.scale[0], c.scale[0]);
  if (!requantizer) fail_law(model, node, static_cast<double>(a.scale[0]) * static_cast<double>(b.scale[0]) / static_cast<double>(c.scale[0]));
  return *requantizer;
}

Requantizer average_requantizer(const QuantizedGraph& model, const Node& node, std::int64_t count) {
  const QuantParams& x = params_or_fail(model, node, node.input(0));
  const QuantParams& y = params_or_fail(model, node, node.output(0));
  Requantizer result{.law = model.law, .multiplier = x.scale[0] / (y.scale[0] * static_cast<float>(count)), .fixed = {}, .shift = 0};
  if (model.law == RequantizeLaw::kFloat32) return result;
  // A count is rarely a power of two: law shift averages with the fixed-point multiplier, too.
  const double exact = static_cast<double>(x.scale[0]) / (static_cast<double>(y.scale[0]) * static_cast<double>(count));
  const auto fixed = fixed_point_multiplier(exact);
  if (!fixed) fail_law(model, node, exact);
  result.law = RequantizeLaw::kFixedPoint;
  result.fixed = *fixed;
  return result;
}

std::vector<std::int32_t> unary_table(const QuantizedGraph& model, const Node& node) {
  const QuantParams& x = params_or_fail(model, node, node.input(0));
  const QuantParams& y = params_or_fail(model, node, node.output(0));
  const auto entries = static_cast<std::int64_t>(x.qmax() - x.qmin() + 1);
  std::vector<std::int32_t> table(static_cast<std::size_t>(entries));
  if (node.op_type == "Requantize") {
    if (model.law == RequantizeLaw::kFloat32) {
      for (std::int64_t i = 0; i < entries; ++i)
        table[static_cast<std::size_t>(i)] =
            quantize(dequantize(x.qmin() + i, x.scale[0], x.zero_point[0]), y.scale[0], y.zero_point[0], y.qmin(), y.qmax());
      return table;
    }
    const auto requantizer = make_requantizer(model.law, x.scale[0], 1.0F, y.scale[0]);
    if (!requantizer) fail_law(model, node, static_cast<double>(x.scale[0]) / static_cast<double>(y.scale[0]));
    const OutputGrid grid = output_grid(y, node);
    for (std::int64_t i = 0; i < entries; ++i)
      table[static_cast<std::size_t>(i)] = static_cast<std::int32_t>((*requantizer)(x.qmin() + i - x.zero_point[0], grid));
    return table;
  }
  Tensor reals(DataType::kFloat32, {entries});
  auto in = reals.mutable_data<float>();
  for (std::int64_t i = 0; i < entries; ++i) in[static_cast<std::size_t>(i)] = dequantize(x.qmin() + i, x.scale[0], x.zero_point[0]);
  // Constant operands (Clip's bounds) stay as they are.
  std::vector<const Tensor*> inputs = {&reals};
  for (std::size_t i = 1; i < node.inputs.size(); ++i)
    inputs.push_back(model.graph.is_constant(node.inputs[i]) ? &*model.graph.value(node.inputs[i]).constant : nullptr);
  const EvalContext context{.node = node, .opset = model.graph.opset(node.domain), .inputs = inputs};
  const std::vector<Tensor> outputs = evaluate_node(context);
  const auto out = outputs.at(0).data<float>();
  const OutputGrid grid = output_grid(y, node);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = quantize(out[i], y.scale[0], y.zero_point[0], grid.qmin, grid.qmax);
  return table;
}

std::int32_t quantize_scalar(float x, const QuantParams& params) {
  return quantize(x, params.scale[0], params.zero_point[0], params.qmin(), params.qmax());
}

bool is_wide(const QuantizedGraph& model, const Node& node) {
  const auto wide = [&](ValueId v) {
    const QuantParams* params = v == kNoValue ? nullptr : model.params_of(v);
    return params != nullptr && params->type.bit_width > kKernelBits;
  };
  const Operands operands = operands_of(model.graph, node);
  return std::any_of(node.outputs.begin(), node.outputs.end(), wide) ||
         std::any_of(operands.activations.begin(), operands.activations.end(), [&](std::size_t i) { return wide(node.input(i)); }) ||
         (operands.weights && wide(node.input(*operands.weights)));
}

DataType storage_type(const QuantType& type) {
  if (type.bit_width <= 8) return type.is_signed ? DataType::kInt8 : DataType::kUInt8;
  if (type.bit_width <= 16) return type.is_signed ? DataType::kInt16 : DataType::kUInt16;
  return DataType::kInt32;
}

}  // namespace nibble
