#include "ops/evaluate.h"

#include <algorithm>
#include <tuple>

namespace nibble {

const OpDef& require_op(const Node& node, int opset) {
  const OpDef* op = find_op(node.domain, node.op_type);
  if (op == nullptr)
    fail(ErrorCode::kUnsupported,
         "node '{}': operator {} of domain '{}' (opset {}) is not supported; `nibble list ops` names those that are", node.name,
         node.op_type, node.domain.empty() ? "ai.onnx" : node.domain, opset);
  return *op;
}

void check_arity(const OpDef& op, const Node& node) {
  const auto check = [&](std::size_t found, int min, int max, std::string_view what) {
    const auto count = static_cast<std::int64_t>(found);
    if (count < min || (max >= 0 && count > max)) {
      const std::string expected = max < 0      ? fmt::format("at least {}", min)
                                   : min == max ? fmt::format("{}", min)
                                                : fmt::format("{} to {}", min, max);
      fail_node(node, "has {} {}, expected {}", count, what, expected);
    }
  };
  check(node.inputs.size(), op.min_inputs, op.max_inputs, "inputs");
  check(node.outputs.size(), op.min_outputs, op.max_outputs, "outputs");
  for (int i = 0; i < op.min_inputs; ++i) {
    if (node.inputs[static_cast<std::size_t>(i)] == kNoValue) fail_node(node, "input {} is required but left out", i);
  }
}

std::vector<Tensor> evaluate_node(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const OpDef& op = require_op(node, ctx.opset);
  check_arity(op, node);
  if (op.evaluate == nullptr) fail(ErrorCode::kUnsupported, "node '{}' ({}): nibble cannot run this operator", node.name, node.op_type);
  for (int i = 0; i < op.min_inputs; ++i) {
    if (!ctx.has_input(static_cast<std::size_t>(i))) fail_node(node, "input {} has no value", i);
  }
  return naming_node(node, [&] {
    std::vector<Tensor> outputs = op.evaluate(ctx);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] != kNoValue && (i >= outputs.size() || !outputs[i].defined()))
        fail(ErrorCode::kUnsupported, "node '{}' ({}): output {} is not computed by nibble", node.name, node.op_type, i);
    }
    return outputs;
  });
}

std::vector<OpInfo> list_ops() {
  std::vector<OpInfo> result;
  for (const OpDef* op : op_table()) {
    const bool integer = op->rule != QuantRule::kFloat && op->rule != QuantRule::kNotReal;
    result.push_back({.domain = std::string(op->domain), .name = std::string(op->name), .integer = integer, .note = std::string(op->note)});
  }
  std::sort(result.begin(), result.end(),
            [](const OpInfo& a, const OpInfo& b) { return std::tie(a.domain, a.name) < std::tie(b.domain, b.name); });
  return result;
}

}  // namespace nibble
