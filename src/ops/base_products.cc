#include "ops/base_products.h"

#include "ops/op_util.h"

namespace nibble {
namespace {

constexpr int kOpset = 13;  // of the operator inside

Node inner_node(const Node& node, const BaseOperands& operands) {
  Node inner = node;
  inner.domain.clear();
  inner.op_type = layer_op(node);
  inner.inputs = {operands.activation(node, 0), operands.weight(node, 0)};
  if (operands.bias) inner.inputs.push_back(node.input(*operands.bias));
  return inner;
}

void infer(InferContext& ctx) {
  const BaseOperands operands = base_operands(ctx.node);
  const Node inner = inner_node(ctx.node, operands);
  const auto pick = [&](const auto& all) {
    auto some = std::vector{all[0], all[operands.activations]};
    if (operands.bias) some.push_back(all[*operands.bias]);
    return some;
  };
  const auto inputs = pick(ctx.inputs);
  const auto constants = pick(ctx.constants);
  InferContext inside{.node = inner, .opset = kOpset, .inputs = inputs, .constants = constants, .outputs = ctx.outputs, .constant_outputs = ctx.constant_outputs};
  find_op("", inner.op_type)->infer(inside);
  ctx.outputs = std::move(inside.outputs);
}

Tensor sum_of(const EvalContext& ctx, std::size_t first, std::size_t count) {
  Tensor sum = required(ctx, first);
  check_type(ctx.node, first, sum.type(), type_bit(DataType::kFloat32));
  auto total = sum.mutable_data<float>();
  for (std::size_t i = first + 1; i < first + count; ++i) {
    const Tensor& x = required(ctx, i);
    if (x.type() != sum.type() || x.shape() != sum.shape()) fail_node(ctx.node, "inputs {} and {} differ in type or shape", first, i);
    const auto values = x.data<float>();
    for (std::size_t k = 0; k < total.size(); ++k) total[k] += values[k];
  }
  return sum;
}

std::vector<Tensor> evaluate(const EvalContext& ctx) {
  const BaseOperands operands = base_operands(ctx.node);
  const Tensor x = sum_of(ctx, 0, operands.activations);
  const Tensor w = sum_of(ctx, operands.activations, operands.weights);
  std::vector<const Tensor*> inputs = {&x, &w};
  if (operands.bias) inputs.push_back(ctx.inputs[*operands.bias]);
  const Node inner = inner_node(ctx.node, operands);
  return evaluate_node({.node = inner, .opset = kOpset, .inputs = inputs, .mode = ctx.mode, .pool = ctx.pool});
}

constexpr OpDef kOps[] = {{.name = "BaseProducts",
                           .domain = "nibble",
                           .min_inputs = 2,
                           .max_inputs = -1,
                           .infer = infer,
                           .evaluate = evaluate,
                           .rule = QuantRule::kCompute}};

}  // namespace

std::string layer_op(const Node& node) { return is_base_products(node) ? node.get_string("op_type", "") : node.op_type; }

BaseOperands base_operands(const Node& node) {
  const std::int64_t activations = node.get_int("activations", 0);
  const std::int64_t weights = node.get_int("weights", 0);
  const auto given = static_cast<std::int64_t>(node.inputs.size());
  const std::string op = layer_op(node);
  if (op != "Conv" && op != "ConvTranspose" && op != "Gemm" && op != "MatMul") fail_node(node, "op_type is '{}', expected a layer with weights", op);
  const bool fits = activations >= 1 && weights >= 1 && activations <= given && weights <= given - activations && given - activations - weights <= 1;
  if (!fits) fail_node(node, "has {} inputs for {} activations and {} weights", given, activations, weights);
  BaseOperands operands{.activations = static_cast<std::size_t>(activations), .weights = static_cast<std::size_t>(weights), .bias = std::nullopt};
  if (given > activations + weights && node.inputs.back() != kNoValue) operands.bias = node.inputs.size() - 1;
  return operands;
}

Node product_of(const Node& node, std::size_t i, std::size_t j) {
  const BaseOperands operands = base_operands(node);
  Node product = inner_node(node, operands);
  product.inputs = {operands.activation(node, i), operands.weight(node, j)};
  for (const char* attribute : {"op_type", "activations", "weights", "activation", "activation_min", "activation_max"}) {
    if (const auto it = product.attributes.find(attribute); it != product.attributes.end()) product.attributes.erase(it);
  }
  return product;
}

std::span<const OpDef> base_products_ops() { return kOps; }

}  // namespace nibble
