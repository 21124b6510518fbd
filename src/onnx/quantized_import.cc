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
#include <cmath>
#include <limits>
#include <set>

#include "base/fail.h"
#include "nibble/onnx.h"
#include "numeric/quantize.h"
#include "onnx/qdq_nodes.h"
#include "ops/fail.h"
#include "ops/op.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"

namespace nibble {
namespace {

std::size_t at(std::int32_t id) { return static_cast<std::size_t>(id); }

// Scales that are computed in another order differ in their last bits; a bias under them is the same bias.
constexpr double kSameScale = 1e-5;
// Bits of activations and weights of integer nodes.
constexpr int kWidestInteger = 8;

// True where rounding to the grid and clamping to [qmin, qmax] clips at these bounds already.
bool implied_by_grid(const ActivationBounds& bounds, const QuantParams& params) {
  const auto q = [&](float x) { return quantize(x, params.scale[0], params.zero_point[0], params.qmin(), params.qmax()); };
  const bool low = bounds.low == -std::numeric_limits<float>::infinity() || q(bounds.low) <= params.qmin();
  const bool high = bounds.high == std::numeric_limits<float>::infinity() || q(bounds.high) >= params.qmax();
  return low && high;
}

// What reads a value, if that is nothing but QuantizeLinear nodes of one set of parameters, with one activation before them at most.
struct Target {
  QuantParams params;
  std::vector<NodeId> quantizers;
  NodeId activation = kNoNode;
  ActivationBounds bounds;
};

class Rebuilder {
 public:
  explicit Rebuilder(Graph old) : old_(std::move(old)), consumers_(old_.consumers()), editor_(out_.graph), slots_(old_.values().size()) {}

  QuantizedGraph run() {
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

 private:
  struct Slot {
    ValueId real = kNoValue;
    ValueId quant = kNoValue;  // for a QuantizeLinear's output: its integers
  };

  // --- the new graph ----------------------------------------------------------------------------------------------------------------

  void start() {
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

  void set_params(ValueId id, QuantParams params) {
    if (out_.params.size() <= at(id)) out_.params.resize(at(id) + 1);
    out_.params[at(id)] = std::move(params);
  }
  // Why a node whose operands are new values cannot be an integer node; empty if it can.
  std::string why_not(const Node& node, QuantRule rule) {
    out_.params.resize(out_.graph.values().size());
    // The judge is asked about the float form of the node: its operands stand for float values.
    float_types_.resize(out_.graph.values().size(), TensorType{.dtype = DataType::kFloat32, .has_rank = true, .dims = {}});
    if (const auto why = why_not_integer(out_.graph, node, float_types_)) return *why;
    for (const std::size_t i : operands_of(out_.graph, node).activations) {
      const QuantParams* params = out_params(node.input(i));
      if (!params->per_tensor()) return "activations with a scale for each channel have no integer form";
      if (params->type.bit_width > kWidestInteger) return "more than 8 bits have no integer form";
    }
    if (out_params(node.output(0))->type.bit_width > kWidestInteger) return "more than 8 bits have no integer form";
    if (rule != QuantRule::kCompute || !out_.graph.is_constant(node.input(1))) return {};
    const QuantParams& wei = *out_params(node.input(1));
    if (wei.type.bit_width > kWidestInteger) return "weights of more than 8 bits have no integer form";
    if (std::holds_alternative<PerBlock>(wei.granularity)) return "weights with a scale for each block have no integer form";
    if (const auto* channel = std::get_if<PerChannel>(&wei.granularity)) {
      if (weight_channel_axis(node, out_.graph.value(node.input(1)).constant->shape()) != channel->axis)
        return "the scales of its weights do not lie along its output channels";
    }
    return {};
  }

  ValueId add_value(const std::string& name, TensorType type) { return editor_.add_value(name, std::move(type)); }
  ValueId add_integers(const std::string& name, TensorType type, const QuantParams& params) {
    type.dtype = storage_type(params.type);
    const ValueId id = editor_.add_value(name, std::move(type));
    set_params(id, params);
    return id;
  }

  // A constant of the file as it is.
  ValueId plain_constant(ValueId old) {
    ValueId& real = slots_[at(old)].real;
    if (real == kNoValue) real = editor_.add_constant(old_.value(old).name, *old_.value(old).constant);
    return real;
  }

  // A constant of integers under these parameters; one a set of parameters.
  ValueId integer_constant(ValueId old, QuantParams params) {
    Tensor tensor = *old_.value(old).constant;
    if (params.type.bit_width == 4) tensor = cast(tensor, storage_type(params.type));
    if (params.type.is_signed && params.type.bit_width <= 8 && params.symmetric()) {
      // A grid whose lowest value nobody uses bounds accumulators more tightly.
      const auto data = tensor.data<std::int8_t>();
      params.type.narrow_range = std::all_of(data.begin(), data.end(), [&](std::int8_t q) { return q > params.type.qmin(); });
    }
    for (const auto& [known, id] : integer_constants_[old]) {
      if (known == params) return id;
    }
    const ValueId id = editor_.add_constant(old_.value(old).name, std::move(tensor));
    set_params(id, params);
    integer_constants_[old].emplace_back(std::move(params), id);
    return id;
  }

  // The reals of an old value.
  ValueId real(ValueId old) {
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

  ValueId dequantize(ValueId quant, const std::string& name, TensorType type) {
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

  // The integers of a QuantizeLinear for a reader that is not part of the quantization (a Cast, a MatMulInteger ...): without parameters,
  // made by a QuantizeLinear as ONNX has it.
  ValueId plain_integers(ValueId old) {
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

  // --- nodes ------------------------------------------------------------------------------------------------------------------------

  void read_dequantize(const Node& node) {
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

  const QuantParams* out_params(ValueId id) const {
    if (id == kNoValue || at(id) >= out_.params.size() || !out_.params[at(id)]) return nullptr;
    return &*out_.params[at(id)];
  }

  bool only_dequantized(ValueId q, const QuantParams& params) const {
    if (outputs_.contains(q)) return false;
    return std::all_of(consumers_[at(q)].begin(), consumers_[at(q)].end(), [&](NodeId n) {
      return is_dequantize_linear(old_.node(n)) && old_.node(n).input(0) == q && read_params(old_, old_.node(n)) == params;
    });
  }

  void read_quantize(const Node& node) {
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

  // The same integers mean the same reals, and neither clamps what the other lets through.
  static bool same_grid(const QuantParams& a, const QuantParams& b) {
    return a.per_tensor() && b.per_tensor() && a.scale == b.scale && a.zero_point == b.zero_point && a.qmin() >= b.qmin() &&
           a.qmax() <= b.qmax() && element_type_of(a.type) == element_type_of(b.type);
  }

  // The node as the file has it, on reals.
  void copy(const Node& node) {
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

  void read_node(const Node& node) {
    const OpDef* op = find_op(node.domain, node.op_type);
    LayerInfo layer{.name = node.name, .op_type = node.op_type, .integer = false, .reason = {}, .proof = std::nullopt, .notes = {}};
    const bool tried = op != nullptr && op->rule != QuantRule::kFloat && op->rule != QuantRule::kNotReal;
    layer.integer = tried && (is_tied(node) ? move(node, layer) : compute(node, op->rule, layer));
    if (!layer.integer) {
      if (op == nullptr)
        layer.reason = "nibble does not know this op";
      else if (op->rule == QuantRule::kFloat)
        layer.reason = op->note.empty() ? "the op has no integer form" : std::string(op->note);
      copy(node);
    }
    if (op == nullptr || op->rule != QuantRule::kNotReal) out_.layers.push_back(std::move(layer));
  }

  // --- ops that move elements: quant in, quant out ----------------------------------------------------------------------------------

  bool move(const Node& node, LayerInfo& layer) {
    const Movement movement = movement_of(old_, node);
    if (!movement.moves) {
      layer.reason = "it would need arithmetic in this form";
      return false;
    }
    std::vector<ValueId> quants;
    for (std::size_t i = 0; i < movement.data_inputs; ++i) {
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
      layer.reason = have.per_tensor() ? "more than 8 bits have no integer form" : "it joins a constant that has several scales";
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

  // A QuantizeLinear's output: whoever reads it without a DequantizeLinear means the integers, not the reals that `quant` stands for. (What moves
  // integers has got its edges before: expand_qlinear_ops.)
  bool holds_integers(ValueId old) const {
    const NodeId producer = old_.value(old).producer;
    return producer != kNoNode && is_quantize_linear(old_.node(producer));
  }

  static bool on_grid(float x, const QuantParams& params) {
    const float scale = params.scale[0];
    const std::int32_t zero = params.zero_point[0];
    return params.per_tensor() && fake_quantize(x, scale, zero, params.qmin(), params.qmax()) == x;
  }

  bool is_constant_quant(ValueId old) const {
    const ValueId quant = slots_[at(old)].quant;
    return quant != kNoValue ? out_.graph.is_constant(quant) : old_.is_constant(old);
  }

  // Weights that go through a Transpose or the like: moved now.
  bool move_constant(const Node& node, const std::vector<ValueId>& quants, LayerInfo& layer) {
    QuantParams params = *out_params(quants[0]);
    const Tensor& source = *out_.graph.value(quants[0]).constant;
    if (quants.size() != 1 || node.outputs.size() != 1) {
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

  ValueId requantize(ValueId quant, const QuantParams& params, LayerInfo& layer) {
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

  // The name of the integers of an old real value: that of the QuantizeLinear that would have made them, where there is one.
  std::string integer_name(ValueId old, const QuantParams& params) const {
    for (const NodeId n : consumers_[at(old)]) {
      const Node& reader = old_.node(n);
      if (!is_quantize_linear(reader) || reader.output(0) == kNoValue || outputs_.contains(reader.output(0))) continue;
      if (const auto theirs = read_params(old_, reader); theirs && same_grid(params, *theirs)) return old_.value(reader.output(0)).name;
    }
    return old_.value(old).name + "_quantized";
  }

  // --- ops that compute -------------------------------------------------------------------------------------------------------------

  enum class Absorb { kNothing, kActivation };

  std::optional<Target> find_target(ValueId old, Absorb absorb) const {
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

  bool compute(const Node& node, QuantRule rule, LayerInfo& layer) {
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
    if (!implied_or_absent(*target)) {
      if (node.has("activation")) return no("it has an activation already");
      const bool relu = old_.node(target->activation).op_type == "Relu";
      integer.attributes.insert_or_assign("activation", std::string(relu ? "Relu" : "Clip"));
      if (!relu) {
        integer.attributes.insert_or_assign("activation_min", target->bounds.low);
        integer.attributes.insert_or_assign("activation_max", target->bounds.high);
      }
    }
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
    if (target->activation != kNoNode) done_[at(target->activation)] = true;
    for (const NodeId n : target->quantizers) {
      const ValueId q = old_.node(n).output(0);
      // Graph outputs keep their own QuantizeLinear's name through a Requantize of equal parameters.
      slots_[at(q)].quant = q == first_output ? output : alias(output, q);
      done_[at(n)] = true;
    }
    editor_.add_node(std::move(integer));
    return true;
  }

  ValueId alias(ValueId quant, ValueId old) {
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

  static bool implied_or_absent(const Target& target) {
    return target.activation == kNoNode || implied_by_grid(target.bounds, target.params);
  }

  // alpha goes into the weights' scale; beta is settled with the bias.
  bool settle_gemm(const Node& node, Node& integer, LayerInfo& layer) {
    const float alpha = node.get_float("alpha", 1.0F);
    if (alpha != 1.0F) {
      if (!(alpha > 0.0F) || !std::isfinite(alpha) || !out_.graph.is_constant(integer.inputs[1])) {
        layer.reason = "its alpha cannot go into the scale of its weights";
        return false;
      }
      QuantParams params = *out_params(integer.inputs[1]);
      for (float& scale : params.scale) scale *= alpha;
      const Value weight = out_.graph.value(integer.inputs[1]);
      const ValueId scaled = editor_.add_constant(weight.name, *weight.constant);
      set_params(scaled, std::move(params));
      integer.inputs[1] = scaled;
    }
    integer.attributes.erase("alpha");
    integer.attributes.erase("beta");
    return true;
  }

  // The real values of a constant, dequantized where it holds integers.
  std::optional<Tensor> real_constant(ValueId old) const {
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

  bool add_bias(const Node& node, ValueId old, Node& integer, LayerInfo& layer) {
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
    for (const float scale : wei.scale) params.scale.push_back(src.scale[0] * scale);
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
      layer.notes.push_back(have != nullptr ? "the bias was brought to the scale of the accumulator"
                                            : "the float bias was made an integer");
    }
    const ValueId id = editor_.add_constant(old_.value(quant_source(old)).name, std::move(integers));
    set_params(id, std::move(params));
    integer.inputs[2] = id;
    return true;
  }

  // The constant that a DequantizeLinear's output comes from, for its name.
  ValueId quant_source(ValueId old) const {
    const NodeId producer = old_.value(old).producer;
    return producer != kNoNode && !old_.node(producer).inputs.empty() ? old_.node(producer).inputs[0] : old;
  }

  // --- the end ----------------------------------------------------------------------------------------------------------------------

  void finish() {
    std::vector<ValueId> outputs;
    for (const ValueId old : old_.outputs()) {
      const Value& value = old_.value(old);
      const bool integers = value.producer != kNoNode && is_quantize_linear(old_.node(value.producer)) &&
                            slots_[at(old)].quant != kNoValue && slots_[at(old)].real == kNoValue;
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

  void prove() {
    std::unordered_map<std::string_view, NodeId> nodes;
    for (NodeId n = 0; n < static_cast<NodeId>(out_.graph.nodes().size()); ++n) nodes.emplace(out_.graph.node(n).name, n);
    for (LayerInfo& layer : out_.layers) {
      const auto node = nodes.find(layer.name);
      if (!layer.integer || node == nodes.end()) continue;
      layer.proof = prove_accumulator(out_, node->second);
      if (layer.proof && layer.proof->bits_needed > 32)
        out_.warnings.push_back(fmt::format("node '{}' ({}): its accumulator needs {} bits, more than the 32 of the kernels", layer.name,
                                            layer.op_type, layer.proof->bits_needed));
    }
  }

  Graph old_;
  std::vector<std::vector<NodeId>> consumers_;
  QuantizedGraph out_;
  GraphEditor editor_;
  std::vector<Slot> slots_;
  std::vector<bool> done_;
  std::set<ValueId> outputs_;
  std::vector<TensorType> float_types_;
  std::unordered_map<ValueId, std::vector<std::pair<QuantParams, ValueId>>> integer_constants_;
};

}  // namespace

bool has_quantization(const Graph& graph) {
  return std::any_of(graph.nodes().begin(), graph.nodes().end(), [](const Node& node) {
    const std::string& op = node.op_type;
    return is_quantize_linear(node) || is_dequantize_linear(node) || op.starts_with("QLinear") || op == "QGemm" || op == "ConvInteger" ||
           op == "MatMulInteger" || op == "DynamicQuantizeLinear";
  });
}

QuantizedGraph quantized_from_onnx_graph(Graph graph) {
  fold_constant_nodes(graph);
  expand_qlinear_ops(graph);
  merge_activations(graph);
  pull_quantize_up(graph);
  return Rebuilder(std::move(graph)).run();
}

}  // namespace nibble
