// Constant folding. Values that follow from constants and shapes alone (infer_types() knows them: shape arithmetic) and nodes whose inputs
// are all constants become initializers. Two things are kept out on purpose: quantization operators (folding a DequantizeLinear would bring
// a small model's weights back to float), and results that are much larger than what they are made from (Expand, Tile, ConstantOfShape
// ...).
#include <algorithm>
#include <array>

#include "base/checked.h"
#include "ops/op.h"
#include "passes/pass_list.h"
#include "passes/rewriter.h"

namespace nibble {
namespace {

// A result up to kSmallBytes is always welcome; a larger one may be kGrowth times its inputs, and never above kLargeBytes.
constexpr std::int64_t kSmallBytes = std::int64_t{1} << 20;
constexpr std::int64_t kLargeBytes = std::int64_t{64} << 20;
constexpr std::int64_t kGrowth = 4;

bool is_excluded(const Node& node) {
  constexpr std::array<std::string_view, 8> kNames = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
                                                      "RandomNormal",   "RandomUniform",    "Multinomial",
                                                      "Bernoulli",      "RandomNormalLike"};
  return !node.domain.empty() || std::find(kNames.begin(), kNames.end(), node.op_type) != kNames.end();
}

std::optional<std::int64_t> bytes_of(const TensorType& type) {
  if (!type.fully_known()) return std::nullopt;
  std::int64_t bytes = static_cast<std::int64_t>(element_size(type.dtype));
  for (const Dim& dim : type.dims) {
    const auto product = checked_mul(bytes, dim.size);
    if (!product) return std::nullopt;
    bytes = *product;
  }
  return bytes;
}

// Why the node cannot be evaluated here, or an empty string.
std::string refusal(const Node& node, const Rewriter& rewriter, const InferredGraph& known) {
  const OpDef* op = find_op(node.domain, node.op_type);
  if (op == nullptr || op->evaluate == nullptr) return "nibble cannot evaluate this operator";
  std::int64_t input_bytes = 0;
  for (const ValueId id : node.inputs) {
    if (id != kNoValue) input_bytes += static_cast<std::int64_t>(rewriter.constant(id)->size_bytes());
  }
  for (const ValueId id : node.outputs) {
    if (id == kNoValue) continue;
    const auto bytes = bytes_of(known.types[static_cast<std::size_t>(id)]);
    if (!bytes) return fmt::format("the size of '{}' is unknown", rewriter.value(id).name);
    if (*bytes > kLargeBytes || (*bytes > kSmallBytes && *bytes > kGrowth * input_bytes))
      return fmt::format("'{}' would grow from {} to {} bytes", rewriter.value(id).name, input_bytes, *bytes);
  }
  return {};
}

}  // namespace

void fold_constants(Graph& graph, PassReport& report) {
  const InferredGraph known = infer_types(graph);
  Rewriter rewriter(graph, report);
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    const Node& node = rewriter.node(id);
    if (node.outputs.empty() || is_excluded(node)) continue;
    const auto inferred = [&](ValueId v) { return v == kNoValue || known.constants[static_cast<std::size_t>(v)].has_value(); };
    const bool from_shapes = std::all_of(node.outputs.begin(), node.outputs.end(), inferred);
    const bool from_constants =
        std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId v) { return v == kNoValue || rewriter.constant(v) != nullptr; });
    if (!from_shapes && !from_constants) continue;
    const bool makes_output = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) { return rewriter.is_output(v); });
    if (makes_output) {
      if (node.op_type != "Identity") rewriter.declined(node.name, "{}: its constant result is an output of the graph", node.op_type);
      continue;
    }
    std::vector<Tensor> results;
    if (from_shapes) {
      for (const ValueId v : node.outputs) results.push_back(v == kNoValue ? Tensor() : *known.constants[static_cast<std::size_t>(v)]);
    } else {
      if (const std::string why = refusal(node, rewriter, known); !why.empty()) {
        rewriter.declined(node.name, "{}: {}", node.op_type, why);
        continue;
      }
      std::vector<const Tensor*> inputs;
      for (const ValueId v : node.inputs) inputs.push_back(rewriter.constant(v));
      results = evaluate_node({.node = node, .opset = rewriter.graph().opset(node.domain), .inputs = inputs});
    }
    const std::string name = node.name;
    const std::vector<ValueId> outputs = node.outputs;
    rewriter.applied(name, "{} became an initializer", node.op_type);
    rewriter.remove_node(id);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i] != kNoValue) rewriter.editor().set_constant(outputs[i], std::move(results[i]));
    }
  }
  rewriter.finish();
}

}  // namespace nibble
