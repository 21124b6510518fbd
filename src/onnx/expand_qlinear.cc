// QOperator form -> Q/DQ form, one op after the other: what follows needs to know one form only.
#include <algorithm>
#include <array>
#include <string>

#include "onnx/qdq_nodes.h"
#include "ops/fail.h"
#include "ops/op.h"

namespace nibble {
namespace {

// Where an op keeps its operands.
struct QLinearForm {
  std::string_view domain;
  std::string_view name;
  std::string_view float_op;
  int data_inputs;  // triples (x, scale, zero_point) at the front; the output's scale and zero point follow. 0: QLinearConcat's order
};

constexpr std::array kForms = {
    QLinearForm{"", "QLinearMatMul", "MatMul", 2},
    QLinearForm{"", "QLinearConv", "Conv", 2},  // and the bias, last
    QLinearForm{"com.microsoft", "QLinearAdd", "Add", 2},
    QLinearForm{"com.microsoft", "QLinearMul", "Mul", 2},
    QLinearForm{"com.microsoft", "QLinearSigmoid", "Sigmoid", 1},
    QLinearForm{"com.microsoft", "QLinearLeakyRelu", "LeakyRelu", 1},
    QLinearForm{"com.microsoft", "QLinearSoftmax", "Softmax", 1},
    QLinearForm{"com.microsoft", "QLinearGlobalAveragePool", "GlobalAveragePool", 1},
    QLinearForm{"com.microsoft", "QLinearAveragePool", "AveragePool", 1},
    QLinearForm{"com.microsoft", "QLinearConcat", "Concat", 0},
    QLinearForm{"com.microsoft", "QGemm", "Gemm", 2},  // (a, b, C, y_scale, y_zero_point)
};

const QLinearForm* form_of(const Node& node) {
  for (const QLinearForm& form : kForms) {
    if (form.domain == node.domain && form.name == node.op_type) return &form;
  }
  return nullptr;
}

class Expander {
 public:
  explicit Expander(Graph& graph) : graph_(graph), editor_(graph) {}

  void run() {
    const auto node_count = static_cast<NodeId>(graph_.nodes().size());
    for (NodeId n = 0; n < node_count; ++n) {
      const Node node = graph_.node(n);
      if (const QLinearForm* form = form_of(node))
        expand(n, node, *form);
      else if (is_quantize_linear(node))
        remember(node.output(0), node.input(1), node.input(2));
      else if (node.domain.empty() && node.op_type == "Clip")
        wrap_clip(n, node);
      else
        wrap_movement(n, node);
    }
    editor_.finish();
  }

 private:
  struct ScaleAndZero {
    ValueId scale = kNoValue;
    ValueId zero_point = kNoValue;
  };

  bool constant_or_absent(ValueId id) const { return id == kNoValue || graph_.is_constant(id); }
  bool single(ValueId id) const { return id == kNoValue || graph_.value(id).constant->size() == 1; }

  void remember(ValueId q, ValueId scale, ValueId zero_point) {
    if (q != kNoValue && constant_or_absent(scale) && constant_or_absent(zero_point) && scale != kNoValue && single(scale))
      params_[q] = {scale, zero_point};
  }

  ValueId dequantize(ValueId q, ValueId scale, ValueId zero_point, std::int64_t axis) {
    const ValueId x = editor_.add_value(graph_.value(q).name + "_dequantized");
    Node node;
    node.op_type = "DequantizeLinear";
    node.name = graph_.value(x).name;
    node.inputs = {q, scale};
    if (zero_point != kNoValue) node.inputs.push_back(zero_point);
    node.outputs = {x};
    node.attributes.emplace("axis", axis);
    editor_.add_node(std::move(node));
    return x;
  }
  // The node that made `q` must have let go of it.
  ValueId quantize_into(ValueId q, ValueId scale, ValueId zero_point) {
    const ValueId y = editor_.add_value(graph_.value(q).name + "_real");
    Node node;
    node.op_type = "QuantizeLinear";
    node.name = graph_.value(q).name + "_quantize";
    node.inputs = {y, scale};
    if (zero_point != kNoValue) node.inputs.push_back(zero_point);
    node.outputs = {q};
    editor_.add_node(std::move(node));
    remember(q, scale, zero_point);
    return y;
  }

  // An output's zero point that is left out has the type of the data.
  ValueId output_zero_point(ValueId given, ValueId data) {
    if (given != kNoValue || integer_type_of(graph_, data) != DataType::kInt8) return given;
    return editor_.add_constant("zero_point", Tensor::scalar<std::int8_t>(0));
  }

  // The axis of per-channel weights.
  static std::int64_t channel_axis(const Node& node, const Tensor* weight, std::string_view float_op) {
    if (float_op == "Conv") return 0;
    if (float_op == "Gemm") return node.get_int("transB", 0) != 0 ? 0 : 1;
    return weight != nullptr ? weight->rank() - 1 : 1;
  }

  ValueId bias_scale(const Node& node, ValueId src_scale, ValueId wei_scale) {
    // QGemm's accumulator is worth alpha a_scale b_scale.
    const float alpha = node.op_type == "QGemm" ? node.get_float("alpha", 1.0F) : 1.0F;
    const float src = cast(*graph_.value(src_scale).constant, DataType::kFloat32).data<float>()[0];
    const Tensor wei = cast(*graph_.value(wei_scale).constant, DataType::kFloat32);
    Tensor product(DataType::kFloat32, wei.size() == 1 ? Shape{} : Shape{wei.size()});
    auto out = product.mutable_data<float>();
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = alpha * (src * wei.data<float>()[i]);
    return editor_.add_constant(graph_.value(node.output(0)).name + "_bias_scale", std::move(product));
  }

  void expand(NodeId id, const Node& node, const QLinearForm& form) {
    const bool channels_last = node.get_int("channels_last", 0) != 0;
    const std::size_t rank = channels_last ? image_rank(node) : 0;
    if (channels_last && rank < 3) return;
    const bool is_concat = form.data_inputs == 0;
    std::vector<std::array<ValueId, 3>> data;
    ScaleAndZero out;
    ValueId bias = kNoValue;
    if (is_concat) {
      out = {node.input(0), node.input(1)};
      for (std::size_t i = 2; i + 2 < node.inputs.size() + 1; i += 3) data.push_back({node.input(i), node.input(i + 1), node.input(i + 2)});
    } else {
      const auto count = static_cast<std::size_t>(form.data_inputs);
      for (std::size_t i = 0; i < count; ++i) data.push_back({node.input(3 * i), node.input(3 * i + 1), node.input(3 * i + 2)});
      std::size_t next = 3 * count;
      if (form.name == "QGemm") bias = node.input(next++);
      out = {node.input(next), node.input(next + 1)};
      if (form.name == "QLinearConv") bias = node.input(next + 2);
    }
    if (data.empty()) fail_node(node, "has no data inputs");
    for (const auto& [x, scale, zero_point] : data) {
      if (x == kNoValue || scale == kNoValue) fail_node(node, "lacks an input or its scale");
      if (!constant_or_absent(scale) || !constant_or_absent(zero_point)) return;
    }
    if (!constant_or_absent(out.scale) || !constant_or_absent(out.zero_point)) return;
    if (out.scale == kNoValue && form.name != "QGemm") fail_node(node, "lacks the scale of its output");
    // Only weights may have more than one scale.
    for (std::size_t i = 0; i < data.size(); ++i) {
      if ((i != 1 || data.size() != 2) && !single(data[i][1])) return;
    }

    Node plain;
    plain.name = node.name;
    plain.op_type = std::string(form.float_op);
    plain.attributes = node.attributes;
    plain.attributes.erase("channels_last");
    if (form.name == "QLinearSoftmax") plain.attributes.erase("opset");
    for (std::size_t i = 0; i < data.size(); ++i) {
      const auto& [x, scale, zero_point] = data[i];
      const Tensor* constant = graph_.is_constant(x) ? &*graph_.value(x).constant : nullptr;
      plain.inputs.push_back(dequantize(x, scale, zero_point, channel_axis(node, constant, form.float_op)));
    }
    if (channels_last) plain.inputs[0] = transpose(plain.inputs[0], graph_.value(data[0][0]).name, to_channels_first(rank));
    if (bias != kNoValue) plain.inputs.push_back(dequantize(bias, bias_scale(node, data[0][1], data[1][1]), kNoValue, 0));
    const ValueId result = node.output(0);
    const ValueId zero_point = output_zero_point(out.zero_point, data[0][0]);
    editor_.remove_node(id);
    plain.outputs = {out.scale == kNoValue ? result : quantize_into(result, out.scale, zero_point)};
    if (channels_last) plain.outputs[0] = transpose_into(plain.outputs[0], to_channels_last(rank));
    editor_.add_node(std::move(plain));
  }

  // How many axes the images of a pool have; 0 where nothing says so.
  std::size_t image_rank(const Node& node) const {
    if (const auto kernel = node.get_ints("kernel_shape")) return kernel->size() + 2;
    const ValueId x = node.input(0);
    return x != kNoValue && graph_.value(x).type.has_rank ? graph_.value(x).type.dims.size() : 0;
  }
  static std::vector<std::int64_t> to_channels_first(std::size_t rank) {
    std::vector<std::int64_t> perm = {0, static_cast<std::int64_t>(rank) - 1};
    for (std::size_t i = 1; i + 1 < rank; ++i) perm.push_back(static_cast<std::int64_t>(i));
    return perm;
  }
  static std::vector<std::int64_t> to_channels_last(std::size_t rank) {
    std::vector<std::int64_t> perm = {0};
    for (std::size_t i = 2; i < rank; ++i) perm.push_back(static_cast<std::int64_t>(i));
    perm.push_back(1);
    return perm;
  }
  ValueId transpose(ValueId x, const std::string& name, std::vector<std::int64_t> perm) {
    const ValueId y = editor_.add_value(name + "_channels_first");
    add_transpose(x, y, std::move(perm));
    return y;
  }
  // What the transposition that makes `y` reads.
  ValueId transpose_into(ValueId y, std::vector<std::int64_t> perm) {
    const ValueId x = editor_.add_value(graph_.value(y).name + "_channels_first");
    add_transpose(x, y, std::move(perm));
    return x;
  }
  void add_transpose(ValueId x, ValueId y, std::vector<std::int64_t> perm) {
    Node node;
    node.op_type = "Transpose";
    node.name = graph_.value(y).name + "_transpose";
    node.inputs = {x};
    node.outputs = {y};
    node.attributes.emplace("perm", std::move(perm));
    editor_.add_node(std::move(node));
  }

  void wrap_movement(NodeId id, const Node& node) {
    const Movement movement = movement_of(graph_, node);
    if (!movement.moves) return;
    const auto first = params_.find(node.input(0));
    if (first == params_.end()) return;
    const ScaleAndZero params = first->second;
    const auto same = [&](ValueId a, ValueId b) {
      return a == b || (a != kNoValue && b != kNoValue && bit_equal(*graph_.value(a).constant, *graph_.value(b).constant));
    };
    for (std::size_t i = 1; i < movement.data_inputs; ++i) {
      const auto other = params_.find(node.input(i));
      if (other == params_.end() || !same(other->second.scale, params.scale) || !same(other->second.zero_point, params.zero_point)) return;
    }
    ValueId fill = kNoValue;
    if (movement.fill) {
      // What fills the integers is an integer: the real value is its dequantization.
      const float scale = cast(*graph_.value(params.scale).constant, DataType::kFloat32).data<float>()[0];
      const std::int64_t zero = params.zero_point == kNoValue ? 0 : to_int64s(*graph_.value(params.zero_point).constant)[0];
      if (node.inputs.size() < 2) return;  // before opset 11 a Pad was for floats
      fill = editor_.add_constant(node.name + "_fill", Tensor::scalar((*movement.fill - static_cast<float>(zero)) * scale));
    }
    Node moved = node;
    for (std::size_t i = 0; i < movement.data_inputs; ++i) moved.inputs[i] = dequantize(node.inputs[i], params.scale, params.zero_point, 1);
    if (fill != kNoValue) {
      moved.inputs.resize(std::max<std::size_t>(3, moved.inputs.size()), kNoValue);
      moved.inputs[2] = fill;
    }
    editor_.remove_node(id);
    for (ValueId& output : moved.outputs) {
      if (output != kNoValue) output = quantize_into(output, params.scale, params.zero_point);
    }
    editor_.add_node(std::move(moved));
  }

  // A Clip of integers: the same Clip of reals between the edges, its bounds dequantized.
  void wrap_clip(NodeId id, const Node& node) {
    const auto known = params_.find(node.input(0));
    if (known == params_.end()) return;
    const ScaleAndZero params = known->second;
    const float scale = cast(*graph_.value(params.scale).constant, DataType::kFloat32).data<float>()[0];
    const std::int64_t zero = params.zero_point == kNoValue ? 0 : to_int64s(*graph_.value(params.zero_point).constant)[0];
    Node real = node;
    for (std::size_t i = 1; i < node.inputs.size(); ++i) {
      const ValueId bound = node.inputs[i];
      if (bound == kNoValue) continue;
      if (!graph_.is_constant(bound) || !is_integer(graph_.value(bound).constant->type()) || graph_.value(bound).constant->size() != 1)
        return;
      const std::int64_t q = to_int64s(*graph_.value(bound).constant)[0];
      real.inputs[i] = editor_.add_constant(graph_.value(bound).name + "_real", Tensor::scalar(static_cast<float>(q - zero) * scale));
    }
    real.inputs[0] = dequantize(node.inputs[0], params.scale, params.zero_point, 1);
    editor_.remove_node(id);
    real.outputs = {quantize_into(node.output(0), params.scale, params.zero_point)};
    editor_.add_node(std::move(real));
  }

  Graph& graph_;
  GraphEditor editor_;
  std::unordered_map<ValueId, ScaleAndZero> params_;
};

}  // namespace

void expand_qlinear_ops(Graph& graph) { Expander(graph).run(); }

}  // namespace nibble
