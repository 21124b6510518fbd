// The walk that turns a graph with Q/DQ pairs into a QuantizedGraph; quantized_import.cc tells the story, quantized_import_move.cc and
// quantized_import_compute.cc have the ops that move values and those that compute.
#pragma once

#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "nibble/quantize.h"
#include "onnx/qdq_nodes.h"
#include "ops/op.h"

namespace nibble {

// Bits of activations and weights of integer nodes.
inline constexpr int kWidestInteger = 16;

// What reads a value, if that is nothing but QuantizeLinear nodes of one set of parameters, with one activation before them at most.
struct Target {
  QuantParams params;
  std::vector<NodeId> quantizers;
  NodeId activation = kNoNode;
  ActivationBounds bounds;
};

class QuantizedRebuilder {
 public:
  explicit QuantizedRebuilder(Graph old)
      : old_(std::move(old)), consumers_(old_.consumers()), editor_(out_.graph), slots_(old_.values().size()) {}

  QuantizedGraph run();

 private:
  struct Slot {
    ValueId real = kNoValue;
    ValueId quant = kNoValue;  // for a QuantizeLinear's output: its integers
  };

  // --- the new graph ----------------------------------------------------------------------------------------------------------------

  void start();
  void set_params(ValueId id, QuantParams params);
  // Why a node whose operands are new values cannot be an integer node; empty if it can.
  std::string why_not(const Node& node, QuantRule rule);
  ValueId add_value(const std::string& name, TensorType type) { return editor_.add_value(name, std::move(type)); }
  ValueId add_integers(const std::string& name, TensorType type, const QuantParams& params);
  // A constant of the file as it is.
  ValueId plain_constant(ValueId old);
  // A constant of integers under these parameters; one a set of parameters.
  ValueId integer_constant(ValueId old, QuantParams params);
  // The reals of an old value.
  ValueId real(ValueId old);
  ValueId dequantize(ValueId quant, const std::string& name, TensorType type);
  // The integers of a QuantizeLinear for a reader that is not part of the quantization (a Cast, a MatMulInteger ...): without parameters,
  // made by a QuantizeLinear as ONNX has it.
  ValueId plain_integers(ValueId old);

  // --- nodes ------------------------------------------------------------------------------------------------------------------------

  void read_dequantize(const Node& node);
  const QuantParams* out_params(ValueId id) const;
  bool only_dequantized(ValueId q, const QuantParams& params) const;
  void read_quantize(const Node& node);
  // The same integers mean the same reals, and neither clamps what the other lets through.
  static bool same_grid(const QuantParams& a, const QuantParams& b);
  // The node as the file has it, on reals.
  void copy(const Node& node);
  void read_node(const Node& node);

  // --- ops that move elements: quant in, quant out ----------------------------------------------------------------------------------

  bool move(const Node& node, LayerInfo& layer);
  // A QuantizeLinear's output: whoever reads it without a DequantizeLinear means the integers, not the reals that `quant` stands for. (What
  // moves integers has got its edges before: expand_qlinear_ops.)
  bool holds_integers(ValueId old) const;
  // The input of a Min or Max that is a constant of reals.
  std::optional<std::size_t> real_bound(const Node& node) const;
  static bool on_grid(float x, const QuantParams& params);
  bool is_constant_quant(ValueId old) const;
  // Weights that go through a Transpose or the like: moved now.
  bool move_constant(const Node& node, const std::vector<ValueId>& quants, LayerInfo& layer);
  ValueId requantize(ValueId quant, const QuantParams& params, LayerInfo& layer);
  // The name of the integers of an old real value: that of the QuantizeLinear that would have made them, where there is one.
  std::string integer_name(ValueId old, const QuantParams& params) const;

  // --- ops that compute -------------------------------------------------------------------------------------------------------------

  enum class Absorb { kNothing, kActivation };

  std::optional<Target> find_target(ValueId old, Absorb absorb) const;
  bool compute(const Node& node, QuantRule rule, LayerInfo& layer);
  // The activation in front of the target as an attribute. False: there is one already.
  bool set_activation(const Target& target, const Node& node, Node& integer) const;
  // `output` is what the target's quantizers would make.
  void take_target(const Target& target, ValueId output);
  ValueId alias(ValueId quant, ValueId old);
  static bool implied_or_absent(const Target& target);
  // alpha goes into the weights' scale; beta is settled with the bias.
  bool settle_gemm(const Node& node, Node& integer, LayerInfo& layer);
  // The real values of a constant, dequantized where it holds integers.
  std::optional<Tensor> real_constant(ValueId old) const;
  bool add_bias(const Node& node, ValueId old, Node& integer, LayerInfo& layer);
  // The constant that a DequantizeLinear's output comes from, for its name.
  ValueId quant_source(ValueId old) const;

  // --- layers of sums (quantized_import_bases.cc) ------------------------------------------------------------------------------------

  bool compute_bases(const Node& node, LayerInfo& layer);
  // The integers that a sum adds up, in order; false where something else is in it.
  bool collect_bases(ValueId old, bool constants, std::vector<ValueId>& quants) const;
  bool weight_bases(ValueId old, std::vector<ValueId>& quants);
  bool add_base_bias(const Node& node, Node& integer);
  bool same_shape(ValueId a, ValueId b) const;

  // --- the end ----------------------------------------------------------------------------------------------------------------------

  void finish();
  void prove();

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

}  // namespace nibble
