// Layers whose weights or activations are sums of bases, in standard operators: DequantizeLinear for each of them and Add; weights of which at most one base
// is not 0 as a table of reals and indices into it.
#include <algorithm>
#include <bit>
#include <cmath>

#include "onnx/base_table.h"
#include "onnx/export_builder.h"
#include "ops/base_products.h"
#include "quantize/weights.h"

namespace nibble {

ValueId ExportBuilder::real_of(ValueId old) { return params(old) != nullptr ? dequantized(old) : value(old); }

ValueId ExportBuilder::sum_of(const std::string& name, const std::vector<ValueId>& olds) {
  ValueId sum = real_of(olds.at(0));
  for (std::size_t i = 1; i < olds.size(); ++i) {
    const std::string step = name + (i + 1 < olds.size() ? "_" + std::to_string(i) : "");
    const ValueId longer = fresh(step);
    add("Add", step, {sum, real_of(olds[i])}, {longer});
    sum = longer;
  }
  return sum;
}

ValueId ExportBuilder::unpacked(const std::string& name, const PackedWeights& weights, const Shape& shape) {
  std::vector<ValueId> inputs = {editor_.add_constant(name + "_packed", weights.data)};
  if (weights.table) inputs.push_back(editor_.add_constant(name + "_table", *weights.table));
  const ValueId codes = editor_.add_value(name);
  const NodeId node = add(kUnpackBits, name + "_UnpackBits", std::move(inputs), {codes}, "nibble");
  editor_.set_attribute(node, "bits", std::int64_t{weights.bits});
  editor_.set_attribute(node, "signed", std::int64_t{weights.is_signed ? 1 : 0});
  editor_.set_attribute(node, "shape", std::vector<std::int64_t>(shape));
  return codes;
}

// As codes -1, 0, 1, each with a scale of its own: ONNX Runtime computes what follows from float constants when it loads a model, and rounds float weights
// that it then finds between Q/DQ to int8 grids of its own. What comes from a DequantizeLinear it leaves alone.
ValueId ExportBuilder::table_reals(const std::string& name, const Tensor& reals) {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
  for (const float x : reals.data<float>()) {
    codes.push_back(static_cast<std::int8_t>(x > 0 ? 1 : x < 0 ? -1 : 0));
    scales.push_back(x == 0 ? 1.0F : std::abs(x));
  }
  const Shape flat = {reals.size()};
  const ValueId entries = fresh(reals.rank() == 1 ? name : name + "_entries");
  const NodeId node = add("DequantizeLinear", name + "_DequantizeLinear",
                          {editor_.add_constant(name + "_codes", Tensor::from<std::int8_t>(flat, codes)),
                           editor_.add_constant(name + "_scales", Tensor::from<float>(flat, scales))},
                          {entries});
  editor_.set_attribute(node, "axis", std::int64_t{0});
  if (reals.rank() == 1) return entries;
  const ValueId result = fresh(name);
  const ValueId to = editor_.add_constant(name + "_shape", Tensor::from<std::int64_t>({reals.rank()}, reals.shape()));
  add("Reshape", name + "_Reshape", {entries, to}, {result});
  return result;
}

ValueId ExportBuilder::looked_up(const std::string& name, const BaseTable& table) {
  const Shape& shape = table.indices.shape();
  // The rows of the indices that the table has rows for.
  Shape flat = shape;
  if (table.channel_axis == 0 && shape.size() > 2) flat = {shape[0], element_count(shape) / shape[0]};
  const Tensor indices = Tensor::from<std::uint8_t>(flat, table.indices.data<std::uint8_t>());
  const int bits = std::max(1, static_cast<int>(std::bit_width(static_cast<std::size_t>(table.columns) - 1)));
  const auto packed = storage_ == WeightStorage::kPacked ? pack_weights(indices, {.bit_width = bits, .is_signed = false}) : std::nullopt;
  const ValueId codes = packed ? unpacked(name + "_indices", *packed, flat) : editor_.add_constant(name + "_indices", indices);
  const ValueId wide = fresh(name + "_wide_indices");
  constexpr std::int64_t kOnnxInt32 = 6;
  editor_.set_attribute(add("Cast", name + "_Cast", {codes}, {wide}), "to", kOnnxInt32);
  const ValueId reals = table_reals(name + "_table", table.reals);
  const ValueId found = fresh(flat == shape ? name : name + "_rows");
  if (!table.channel_axis) {
    editor_.set_attribute(add("Gather", name + "_Gather", {reals, wide}, {found}), "axis", std::int64_t{0});
  } else {
    editor_.set_attribute(add("GatherElements", name + "_GatherElements", {reals, wide}, {found}), "axis", std::int64_t{*table.channel_axis == 0 ? 1 : 0});
  }
  if (flat == shape) return found;
  const ValueId result = fresh(name);
  const ValueId to = editor_.add_constant(name + "_shape", Tensor::from<std::int64_t>({static_cast<std::int64_t>(shape.size())}, shape));
  add("Reshape", name + "_Reshape", {found, to}, {result});
  return result;
}

Node ExportBuilder::one_layer(const Node& node) {
  const BaseOperands operands = base_operands(node);
  std::vector<ValueId> activations(node.inputs.begin(), node.inputs.begin() + static_cast<std::ptrdiff_t>(operands.activations));
  std::vector<ValueId> weights;
  std::vector<WeightBase> bases;
  for (std::size_t j = 0; j < operands.weights; ++j) {
    weights.push_back(operands.weight(node, j));
    if (const QuantParams* p = params(weights[j])) bases.push_back({.codes = *model_.graph.value(weights[j]).constant, .params = *p});
  }
  Node layer = product_of(node, 0, 0);
  const auto table = bases.size() == weights.size() ? table_of(bases) : std::nullopt;
  layer.inputs = {sum_of(node.name + "_activations", activations),
                  table ? looked_up(node.name + "_weights", *table) : sum_of(node.name + "_weights", weights)};
  if (operands.bias) layer.inputs.push_back(real_of(node.input(*operands.bias)));
  return layer;
}

}  // namespace nibble
