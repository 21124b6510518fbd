// The story of a quantization: plan which nodes become integer nodes and on which grids, then rewrite the graph so that every value of such a node
// is an integer, with explicit edges to the float world.
#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include "base/fail.h"
#include "nibble/quantize.h"
#include "numeric/qparams.h"
#include "ops/op.h"
#include "quantize/base_products_form.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "quantize/plan.h"
#include "quantize/reform.h"
#include "quantize/step_form.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

class Rewriter {
 public:
  Rewriter(const Graph& source, const RangeTable& ranges, const QuantScheme& scheme)
      : source_(source),
        ranges_(ranges),
        plan_(plan_quantization(source, ranges, scheme)),
        scheme_(scheme),
        result_{.graph = source, .params = {}, .law = scheme.law, .layers = {}, .warnings = plan_.warnings},
        editor_(result_.graph) {}

  QuantizedGraph run() {
    // Ids of the source stay valid in the editor until finish(): new values and nodes are only appended.
    make_integer_values();
    for (NodeId n = 0; n < static_cast<NodeId>(source_.nodes().size()); ++n) {
      if (plan_.integer[index(n)]) rewrite_integer_node(n);
      else rewrite_float_node(n);
      if (plan_.reformed[index(n)]) reform_weights(n);
    }
    rewrite_outputs();
    editor_.finish();

    // Beyond this point ids are final.
    result_.params.resize(result_.graph.values().size());
    for (std::size_t v = 0; v < result_.params.size(); ++v) {
      const auto it = params_by_name_.find(result_.graph.values()[v].name);
      if (it != params_by_name_.end()) result_.params[v] = it->second;
    }
    describe_layers();
    verify(result_);
    return std::move(result_);
  }

 private:
  bool made_of_integers(ValueId v) const {
    const NodeId producer = source_.value(v).producer;
    return producer != kNoNode && plan_.integer[index(producer)];
  }

  void set_params(ValueId v, const QuantParams& params) { params_by_name_.insert_or_assign(result_.graph.value(v).name, params); }

  TensorType integer_type(ValueId v, const QuantParams& params) const {
    TensorType type = plan_.types[index(v)];
    type.dtype = storage_type(params.type);
    return type;
  }

  // Every value with a grid gets its integer form: the value itself where an integer node makes it, else a QuantizeLinear beside it.
  void make_integer_values() {
    integer_of_.assign(source_.values().size(), kNoValue);
    float_of_.assign(source_.values().size(), kNoValue);
    for (ValueId v = 0; v < static_cast<ValueId>(source_.values().size()); ++v) {
      if (!plan_.grid[index(v)]) continue;
      const QuantParams& params = *plan_.grid[index(v)];
      if (made_of_integers(v)) {
        if (source_.is_graph_output(v)) {
          // The outside knows the float value by this name.
          const std::string name = source_.value(v).name;
          editor_.rename_value(v, editor_.fresh_value_name(name + "_quantized"));
          float_of_[index(v)] = editor_.add_value(name, plan_.types[index(v)]);
          add_edge("DequantizeLinear", v, float_of_[index(v)]);
        }
        integer_of_[index(v)] = v;
        editor_.set_type(v, integer_type(v, params));
        set_params(v, params);
      } else {
        const ValueId q = editor_.add_value(source_.value(v).name + "_quantized", integer_type(v, params));
        add_edge("QuantizeLinear", v, q);
        integer_of_[index(v)] = q;
        set_params(q, params);
      }
    }
  }

  void add_edge(const char* op, ValueId from, ValueId to) {
    Node node;
    node.name = result_.graph.value(to).name + "_" + op;
    node.op_type = op;
    node.inputs = {from};
    node.outputs = {to};
    editor_.add_node(std::move(node));
  }

  // The float form of a value that integer nodes make.
  ValueId float_of(ValueId v) {
    if (v == kNoValue || !made_of_integers(v)) return v;
    if (float_of_[index(v)] == kNoValue) {
      float_of_[index(v)] = editor_.add_value(source_.value(v).name + "_dequantized", plan_.types[index(v)]);
      add_edge("DequantizeLinear", v, float_of_[index(v)]);
    }
    return float_of_[index(v)];
  }

  void rewrite_float_node(NodeId n) {
    std::vector<ValueId> inputs = source_.node(n).inputs;
    for (ValueId& input : inputs) input = float_of(input);
    editor_.set_inputs(n, std::move(inputs));
  }

  // A constant operand of an integer node, on `params`; one copy for each grid.
  ValueId quantized_constant(ValueId v, const QuantParams& params) {
    for (const auto& [other, id] : constants_[v]) {
      if (other == params) return id;
    }
    const ValueId id = editor_.add_constant(source_.value(v).name + "_quantized", quantize_tensor(*source_.value(v).constant, params));
    set_params(id, params);
    constants_[v].emplace_back(params, id);
    return id;
  }

  void note_bound(NodeId n, ValueId real, ValueId integers) {
    const Node& node = source_.node(n);
    for (const double x : to_doubles(*source_.value(real).constant)) {
      if (std::isnan(x)) fail(ErrorCode::kInvalidModel, "node '{}' ({}): a constant operand holds {}; repair the model", node.name, node.op_type, x);
    }
    const std::vector<std::int32_t> codes = codes_of(*result_.graph.value(integers).constant);
    if (codes.empty()) return;
    const auto [lo, hi] = std::minmax_element(codes.begin(), codes.end());
    plan_.notes[index(n)].push_back(fmt::format("bounds of {} channels, at codes {} to {}", codes.size(), *lo, *hi));
  }

  QuantParams grid_of_constant(ValueId v, const Node& node, const TensorScheme& scheme) {
    double lo = 0;
    double hi = 0;
    for (const double x : to_doubles(*source_.value(v).constant)) {
      if (!std::isfinite(x)) fail(ErrorCode::kInvalidModel, "node '{}' ({}): a constant operand holds {}; repair the model", node.name, node.op_type, x);
      lo = std::min(lo, x);
      hi = std::max(hi, x);
    }
    const ScaleZeroPoint q = choose_qparams(lo, hi, scheme.type, scheme.symmetric, scales_of(scheme_.law));
    return {.type = scheme.type, .granularity = PerTensor{}, .scale = {q.scale}, .zero_point = {q.zero_point}};
  }

  void rewrite_integer_node(NodeId n) {
    const Node node = source_.node(n);  // a copy: the editor may move its nodes
    const Operands operands = operands_of(source_, node);
    const NodeScheme& scheme = plan_.schemes[index(n)];
    std::vector<ValueId> inputs = node.inputs;
    for (const std::size_t i : operands.activations) {
      const ValueId v = node.input(i);
      if (!source_.is_constant(v)) {
        inputs[i] = integer_of_[index(v)];
      } else if (is_tied(node)) {
        inputs[i] = quantized_constant(v, *plan_.grid[index(node.output(0))]);
        if (is_bound(node)) note_bound(n, v, inputs[i]);
      } else {
        inputs[i] = quantized_constant(v, grid_of_constant(v, node, scheme.activations));
      }
    }
    if (operands.weights) {
      const ValueId w = node.input(*operands.weights);
      const ValueId b = operands.bias ? node.input(*operands.bias) : kNoValue;
      const auto pinned = ranges_.entries.find(source_.value(w).name);
      const QuantizedWeights q = quantize_weights(
          node, *source_.value(w).constant, b == kNoValue ? nullptr : &*source_.value(b).constant, scheme.weights,
          pinned != ranges_.entries.end() && pinned->second.pinned ? &*pinned->second.pinned : nullptr, plan_.grid[index(node.input(0))]->scale[0],
          plan_.grid[index(node.output(0))]->scale[0], scheme_.law, scheme_.fine_bias);
      inputs[*operands.weights] = shared_weights(w, q);
      if (q.bias) {
        const ValueId bias = editor_.add_constant(source_.value(b).name + "_quantized", *q.bias);
        set_params(bias, q.bias_params);
        inputs[*operands.bias] = bias;
      }
      for (const std::string& note : q.notes) {
        plan_.notes[index(n)].push_back(note);
        if (note.starts_with("widened")) result_.warnings.push_back(fmt::format("node '{}' ({}): {}", node.name, node.op_type, note));
      }
    }
    if (is_base_products(node)) quantize_bases(node, inputs);
    editor_.set_inputs(n, std::move(inputs));
  }

  // Every base on the grid that is pinned for it; the bias on a step of its own.
  void quantize_bases(const Node& node, std::vector<ValueId>& inputs) {
    const BaseOperands operands = base_operands(node);
    for (std::size_t j = 0; j < operands.weights; ++j) {
      const ValueId w = operands.weight(node, j);
      inputs[operands.activations + j] = shared_weights(w, base_codes(w));
    }
    if (!operands.bias) return;
    const ValueId b = node.input(*operands.bias);
    const std::int64_t channels = weight_layout(product_of(node, 0, 0), source_.value(operands.weight(node, 0)).constant->shape()).channels;
    const auto values = source_.value(b).constant->data<float>();
    if (values.size() != 1 && static_cast<std::int64_t>(values.size()) != channels)
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): its bias has {} elements for {} output channels", node.name, layer_op(node), values.size(), channels);
    if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): its bias is not finite; repair the model", node.name, layer_op(node));
    const BaseBias bias = quantize_base_bias(values, channels);
    const ValueId id = editor_.add_constant(source_.value(b).name + "_quantized", bias.codes);
    set_params(id, bias.params);
    inputs[*operands.bias] = id;
  }

  // Weights alone: float nodes that read dequantized or widened constants, or the operators of dynamic quantization (quantize/reform.cc).
  void reform_weights(NodeId n) {
    const Node node = result_.graph.node(n);  // a copy, with the inputs that it has by now
    const NodeScheme& scheme = plan_.schemes[index(n)];
    if (is_base_products(node)) return dequantize_bases(n, node);
    const ValueId w = node.input(1);
    const Tensor weights = *source_.value(w).constant;
    if (scheme.form == NodeForm::kFloat16 || scheme.form == NodeForm::kBFloat16) {
      editor_.set_input(n, 1, halved_constant(w, scheme.form));
      return;
    }
    const auto pinned = ranges_.entries.find(source_.value(w).name);
    const QuantParams* parameters = pinned != ranges_.entries.end() && pinned->second.pinned ? &*pinned->second.pinned : nullptr;
    const QuantizedWeights q =
        quantize_weights_alone(node, weights, scheme.form == NodeForm::kDynamic ? dynamic_weights(scheme.weights) : scheme.weights, parameters);
    plan_.notes[index(n)].insert(plan_.notes[index(n)].end(), q.notes.begin(), q.notes.end());
    plan_.notes[index(n)].push_back(describe(q.params, scheme.form));
    if (scheme.form == NodeForm::kDynamic) {
      make_dynamic(editor_, n, source_.value(w).name, q);
      return;
    }
    editor_.set_input(n, 1, dequantized_weights(w, q));
  }

  ValueId dequantized_weights(ValueId w, const QuantizedWeights& q) {
    const ValueId integers = shared_weights(w, q);
    ValueId& real = dequantized_.emplace(integers, kNoValue).first->second;
    if (real == kNoValue) {
      real = editor_.add_value(source_.value(w).name + "_dequantized", make_type(DataType::kFloat32, q.codes.shape()));
      add_edge("DequantizeLinear", integers, real);
    }
    return real;
  }

  QuantizedWeights base_codes(ValueId w) const {
    QuantizedWeights q;
    q.params = *ranges_.entries.at(source_.value(w).name).pinned;
    q.codes = quantize_tensor(*source_.value(w).constant, q.params);
    return q;
  }

  // Weight-only: the float layer adds its bases up.
  void dequantize_bases(NodeId n, const Node& node) {
    const BaseOperands operands = base_operands(node);
    for (std::size_t j = 0; j < operands.weights; ++j) {
      const ValueId w = operands.weight(node, j);
      editor_.set_input(n, operands.activations + j, dequantized_weights(w, base_codes(w)));
    }
    plan_.notes[index(n)].push_back(fmt::format("weights: a sum of {} bases", operands.weights));
  }

  // One copy of 16 bits for all readers, and the Cast that widens it.
  ValueId halved_constant(ValueId w, NodeForm form) {
    ValueId& real = halved_.emplace(std::pair(w, form), kNoValue).first->second;
    if (real != kNoValue) return real;
    const std::string name = source_.value(w).name;
    const DataType type = form == NodeForm::kFloat16 ? DataType::kFloat16 : DataType::kBFloat16;
    const Tensor& weights = *source_.value(w).constant;
    if (form == NodeForm::kFloat16) {
      for (const float x : weights.data<float>()) {
        if (std::isfinite(x) && std::abs(x) > 65504.0F)
          fail(ErrorCode::kUnsupported, "the weights '{}' hold {}, which float16 cannot; use bfloat16", name, x);
      }
    }
    const ValueId half = editor_.add_constant(name + "_" + std::string(to_string(type)), cast(weights, type));
    real = editor_.add_value(name + "_widened", make_type(DataType::kFloat32, weights.shape()));
    Node node;
    node.name = name + "_Cast";
    node.op_type = "Cast";
    node.attributes.insert_or_assign("to", std::int64_t{1});  // FLOAT
    node.inputs = {half};
    node.outputs = {real};
    editor_.add_node(std::move(node));
    return real;
  }

  ValueId shared_weights(ValueId w, const QuantizedWeights& q) {
    for (const auto& [other, id] : constants_[w]) {
      if (other == q.params) return id;
    }
    const ValueId id = editor_.add_constant(source_.value(w).name + "_quantized", q.codes);
    set_params(id, q.params);
    constants_[w].emplace_back(q.params, id);
    return id;
  }

  void rewrite_outputs() {
    std::vector<ValueId> outputs = source_.outputs();
    for (ValueId& output : outputs) output = float_of(output);
    editor_.set_outputs(std::move(outputs));
  }

  void describe_layers() {
    std::unordered_map<std::string_view, std::size_t> source_index;
    for (std::size_t n = 0; n < source_.nodes().size(); ++n) source_index.emplace(source_.nodes()[n].name, n);
    for (NodeId id = 0; id < static_cast<NodeId>(result_.graph.nodes().size()); ++id) {
      const Node& node = result_.graph.node(id);
      const auto it = source_index.find(node.name);
      if (it == source_index.end()) continue;  // an edge
      const OpDef* op = find_op(node.domain, node.op_type);
      if (op != nullptr && op->rule == QuantRule::kNotReal && !plan_.reformed[it->second]) continue;
      LayerInfo layer{.name = node.name, .op_type = layer_op(source_.nodes()[it->second]), .integer = plan_.integer[it->second], .reason = {}, .proof = {},
                      .notes = plan_.notes[it->second]};
      if (!layer.integer) layer.reason = plan_.reason[it->second];
      if (plan_.reformed[it->second]) layer.reason = form_reason(plan_.schemes[it->second].form);
      layer.proof = prove_accumulator(result_, id);
      if (layer.proof && layer.proof->bits_needed > 32 && (!is_wide(result_, node) || is_base_products(node))) {
        fail(ErrorCode::kUnsupported,
             "node '{}' ({}): its accumulator needs {} bits ([{}, {}]) and the kernels have 32; leave it in float (--nodes-to-exclude) or use "
             "fewer bits",
             node.name, node.op_type, layer.proof->bits_needed, layer.proof->lo, layer.proof->hi);
      }
      check_law(node);
      result_.layers.push_back(std::move(layer));
    }
  }

  // Everything that the law must hold, asked now rather than when the model is run.
  void check_law(const Node& node) const {
    if (result_.params_of(node.output(0)) == nullptr || node.op_type == "QuantizeLinear") return;
    const OpDef* op = find_op(node.domain, node.op_type);
    if (op == nullptr) return;
    if (is_base_products(node)) base_requantizers(result_, node);
    else if (op->rule == QuantRule::kCompute) compute_requantizers(result_, node);
    if (node.op_type == "Add" || node.op_type == "Sub") node_adder(result_, node);
    if (node.op_type == "Mul") mul_requantizer(result_, node);
  }

  const Graph& source_;
  const RangeTable& ranges_;
  QuantizationPlan plan_;
  const QuantScheme& scheme_;
  QuantizedGraph result_;
  GraphEditor editor_;
  std::vector<ValueId> integer_of_;  // by source ValueId
  std::vector<ValueId> float_of_;
  std::map<ValueId, std::vector<std::pair<QuantParams, ValueId>>> constants_;
  std::map<ValueId, ValueId> dequantized_;                          // integer weights -> reals
  std::map<std::pair<ValueId, NodeForm>, ValueId> halved_;          // weights -> reals, by way of 16 bits
  std::map<std::string, QuantParams> params_by_name_;
};

}  // namespace

QuantizedGraph quantize(const Graph& graph, const RangeTable& ranges, const QuantScheme& scheme) {
  Graph source = graph;
  fuse_steps(source);
  if (has_bases(ranges)) {
    RangeTable table = ranges;
    form_base_products(source, table);
    return Rewriter(source, table, scheme).run();
  }
  return Rewriter(source, ranges, scheme).run();
}

}  // namespace nibble
