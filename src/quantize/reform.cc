#include "quantize/reform.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "base/fail.h"

namespace nibble {
namespace {

// Nodes one behind the other.
class Chain {
 public:
  Chain(GraphEditor& editor, std::string base) : editor_(editor), base_(std::move(base)) {}

  ValueId add(const std::string& op, const std::string& suffix, std::vector<ValueId> inputs) { return add_node(op, suffix, std::move(inputs), 1)[0]; }
  std::vector<ValueId> add_node(const std::string& op, const std::string& suffix, std::vector<ValueId> inputs, std::size_t outputs) {
    Node node;
    node.op_type = op;
    node.name = base_ + suffix;
    node.inputs = std::move(inputs);
    for (std::size_t i = 0; i < outputs; ++i) node.outputs.push_back(editor_.add_value(base_ + suffix + (i > 0 ? "_" + std::to_string(i) : "")));
    nodes_.push_back(std::move(node));
    return nodes_.back().outputs;
  }
  Node& last() { return nodes_.back(); }

  // The last node takes the name, and writes `output`.
  void finish(ValueId output) {
    last().name = base_;
    last().outputs = {output};
    for (Node& node : nodes_) editor_.add_node(std::move(node));
  }

 private:
  GraphEditor& editor_;
  std::string base_;
  std::vector<Node> nodes_;
};

Tensor transposed(const Tensor& matrix) {
  const std::int64_t rows = matrix.shape()[0];
  const std::int64_t columns = matrix.shape()[1];
  Tensor result(matrix.type(), {columns, rows});
  const auto in = matrix.data<std::int8_t>();
  auto out = result.mutable_data<std::int8_t>();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) out[static_cast<std::size_t>(c * rows + r)] = in[static_cast<std::size_t>(r * columns + c)];
  }
  return result;
}

}  // namespace

const char* form_reason(NodeForm form) {
  switch (form) {
    case NodeForm::kInteger: break;
    case NodeForm::kWeightOnly: return "weight-only: integer weights, float activations";
    case NodeForm::kDynamic: return "dynamic: integer weights, activations quantized on the way";
    case NodeForm::kFloat16: return "weights held as float16, computed in float32";
    case NodeForm::kBFloat16: return "weights held as bfloat16, computed in float32";
  }
  return "";
}

std::string describe(const QuantParams& weights, NodeForm form) {
  std::string text = fmt::format("weights {}int{}", weights.type.is_signed ? "" : "u", weights.type.bit_width);
  if (const auto* block = std::get_if<PerBlock>(&weights.granularity)) text += fmt::format(" in blocks of {}", block->block_size);
  else text += weights.per_tensor() ? " per tensor" : " per channel";
  if (form == NodeForm::kDynamic) text += ", activations uint8";
  return text;
}

TensorScheme dynamic_weights(TensorScheme scheme) {
  scheme.type = {.bit_width = std::min(scheme.type.bit_width, 8), .is_signed = true, .narrow_range = scheme.type.narrow_range};
  scheme.symmetric = true;
  scheme.block_size = 0;
  return scheme;
}

void make_dynamic(GraphEditor& editor, NodeId n, const std::string& weight_name, const QuantizedWeights& weights) {
  const Node node = editor.graph().node(n);  // a copy: it goes
  editor.remove_node(n);
  Chain chain(editor, node.name);
  const bool conv = node.op_type == "Conv";
  const bool turned = node.op_type == "Gemm" && node.get_int("transB", 0) != 0;
  const ValueId codes = editor.add_constant(weight_name + "_quantized", turned ? transposed(weights.codes) : weights.codes);
  // Scales of channels line up with the channels of the output.
  Shape scale_shape;
  if (!weights.params.per_tensor()) {
    scale_shape.push_back(static_cast<std::int64_t>(weights.params.scale.size()));
    if (conv) scale_shape.resize(weights.codes.shape().size() - 1, 1);
  }
  const ValueId weight_scale = editor.add_constant(weight_name + "_scale", Tensor::from<float>(scale_shape, weights.params.scale));

  const std::vector<ValueId> q = chain.add_node("DynamicQuantizeLinear", "_quantized", {node.input(0)}, 3);
  const ValueId acc = chain.add(conv ? "ConvInteger" : "MatMulInteger", "_integer", {q[0], codes, q[2]});
  if (conv) {
    for (const auto& [name, value] : node.attributes) {
      if (!name.starts_with("activation")) chain.last().attributes.insert_or_assign(name, value);
    }
  }
  const ValueId real = chain.add("Cast", "_cast", {acc});
  chain.last().attributes.insert_or_assign("to", std::int64_t{1});  // FLOAT
  const ValueId scale = chain.add("Mul", "_scale", {q[1], weight_scale});
  ValueId y = chain.add("Mul", "_scaled", {real, scale});
  if (const ValueId bias = node.op_type == "MatMul" ? kNoValue : node.input(2); bias != kNoValue) {
    ValueId shaped = bias;
    if (conv) {
      const Tensor b = *editor.graph().value(bias).constant;
      Shape shape(weights.codes.shape().size() - 1, 1);
      shape[0] = b.size();
      shaped = editor.add_constant(editor.graph().value(bias).name + "_shaped", b.reshaped(shape));
    }
    y = chain.add("Add", "_biased", {y, shaped});
  }
  if (node.has("activation")) {
    const std::string kind = node.get_string("activation", "");
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const float low = node.get_float("activation_min", -kInfinity);
    const float high = node.get_float("activation_max", kInfinity);
    constexpr int kOpsetOfClipInputs = 11;
    const bool by_attributes = editor.graph().opset("") < kOpsetOfClipInputs;
    std::vector<ValueId> inputs = {y};
    if (kind == "Clip" && !by_attributes)
      inputs.insert(inputs.end(), {editor.add_constant(node.name + "_min", Tensor::scalar(low)), editor.add_constant(node.name + "_max", Tensor::scalar(high))});
    chain.add(kind, "_activation", inputs);
    if (kind == "Clip" && by_attributes) {
      chain.last().attributes.insert_or_assign("min", low);
      chain.last().attributes.insert_or_assign("max", high);
    }
  }
  chain.finish(node.output(0));
}

}  // namespace nibble
