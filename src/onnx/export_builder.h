// What both export forms share: the new graph, the integers and their parameters as constants, DequantizeLinear and QuantizeLinear nodes.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "nibble/onnx.h"
#include "onnx/base_table.h"
#include "onnx/packed_weights.h"

namespace nibble {

class ExportBuilder {
 public:
  ExportBuilder(const QuantizedGraph& model, WeightStorage weights);

  // Writes every node: those that have no operator form as DequantizeLinear, float op, QuantizeLinear.
  void write_nodes(QuantFormat format);
  // The finished graph, at the lowest opset that holds all of its types.
  Graph finish(const ExportOptions& options);

 private:
  struct Parameters {
    ValueId scale = kNoValue;
    ValueId zero_point = kNoValue;  // none for 32-bit integers: it is 0
  };

  const QuantParams* params(ValueId old) const { return model_.params_of(old); }
  const std::string& name_of(ValueId old) const { return model_.graph.value(old).name; }

  // The value of the new graph that holds what the old one holds: reals, integers, shapes.
  ValueId value(ValueId old);
  Parameters parameters(ValueId old);
  // A DequantizeLinear of its own for each use: ONNX Runtime fuses only those that have one reader.
  ValueId dequantized(ValueId old);
  // The reals that the integers of a constant stand for.
  ValueId real_constant(ValueId old);
  // QuantizeLinear into the value that stands for `old`.
  void quantize_into(ValueId real, ValueId old);
  // A Clip to what the codes [low, high] of `old` stand for: QuantizeLinear itself clamps to its element type, which a grid may not fill.
  ValueId clipped_to_codes(ValueId real, ValueId old, std::int64_t low, std::int64_t high);

  void write_edge(const Node& node);
  void write_float_node(const Node& node);
  void write_integer_node_as_float(const Node& node);
  // The operator forms (export_qoperator.cc). False: the node has none.
  bool write_integer_node_as_operator(const Node& node);
  bool write_qlinear(const Node& node);
  bool write_movement(const Node& node);
  // A product with float activations by 4-bit blocks as MatMulNBits. False: it is no such node.
  bool write_matmul_nbits(const Node& node);
  // (x, scale, zero_point) as inputs of a QLinear operator.
  void append_operand(std::vector<ValueId>& inputs, ValueId old);

  // The packed form of a constant, where it has one and the options ask for it.
  const PackedWeights* packed(ValueId old);
  // How the integers of a value are stored in the file.
  DataType stored_type(ValueId old);

  // Sums of bases (export_bases.cc).
  ValueId real_of(ValueId old);
  ValueId sum_of(const std::string& name, const std::vector<ValueId>& olds);
  ValueId table_reals(const std::string& name, const Tensor& reals);
  ValueId looked_up(const std::string& name, const BaseTable& table);
  // A BaseProducts node as the layer that it is made of, on values of the new graph; its outputs are the old ones.
  Node one_layer(const Node& node);
  // The output of an UnpackBits node.
  ValueId unpacked(const std::string& name, const PackedWeights& weights, const Shape& shape);

  NodeId add(const std::string& op, const std::string& name, std::vector<ValueId> inputs, std::vector<ValueId> outputs,
             const std::string& domain = "");
  // A node whose operands are values of the new graph; what is nibble's own as standard operators.
  void add_standard(Node node);
  ValueId fresh(const std::string& name) { return editor_.add_value(name); }
  // A Relu or Clip node behind `real`.
  ValueId activation(const Node& node, ValueId real);
  // True where the node's activation clips more than its output's grid does.
  bool activation_needed(const Node& node) const;

  const QuantizedGraph& model_;
  WeightStorage storage_;
  std::unordered_map<ValueId, std::optional<PackedWeights>> packed_;
  Graph graph_;
  GraphEditor editor_;
  std::vector<ValueId> values_;  // by old ValueId
  std::unordered_map<ValueId, Parameters> parameters_;
  int lowest_opset_ = 13;
};

}  // namespace nibble
