// What a target will not take: each value's grid and each layer's weights against the target's limits.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "nibble/quantize.h"
#include "ops/op.h"
#include "quantize/integer_form.h"
#include "quantize/node_arithmetic.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

class Checker {
 public:
  Checker(const QuantizedGraph& model, const TargetLimits& limits) : model_(model), limits_(limits) {}

  std::vector<TargetFinding> run() {
    for (const Node& node : model_.graph.nodes()) check(node);
    return std::move(findings_);
  }

 private:
  void report(const Node& node, std::string reason) {
    findings_.push_back({.node = node.name, .op_type = node.op_type, .reason = std::move(reason)});
  }

  // The element type in the file.
  static std::string type_name(const QuantParams& params, bool constant) {
    const bool four = constant && params.type.bit_width <= 4;
    return std::string(params.type.is_signed ? "int" : "uint") + (four ? "4" : params.type.bit_width <= 8 ? "8" : "16");
  }

  void check_grid(const Node& node, const std::string& what, const QuantParams& params, const TargetLimits::Tensors& limits, bool constant) {
    const std::string type = type_name(params, constant);
    if (!limits.types.empty() && std::find(limits.types.begin(), limits.types.end(), type) == limits.types.end())
      report(node, fmt::format("{} {}; the target takes {}", what, type, fmt::join(limits.types, ", ")));
    if (!limits.zero_points && !params.symmetric()) report(node, what + " a zero point; the target takes none");
    if (limits_.power_of_two_scales && std::any_of(params.scale.begin(), params.scale.end(), [](float s) {
          int exponent = 0;
          return std::frexp(s, &exponent) != 0.5F;
        }))
      report(node, what + " a scale that is no power of two");
  }

  void check_weights(const Node& node, ValueId id, const TargetLimits::Tensors& limits) {
    const QuantParams& params = *model_.params_of(id);
    check_grid(node, "its weights have", params, limits, true);
    if (const auto* block = std::get_if<PerBlock>(&params.granularity)) {
      if (std::find(limits.block_sizes.begin(), limits.block_sizes.end(), block->block_size) == limits.block_sizes.end())
        report(node, limits.block_sizes.empty() ? fmt::format("its weights lie in blocks of {}; the target takes none here", block->block_size)
                                                : fmt::format("its weights lie in blocks of {}; the target takes {}", block->block_size,
                                                              fmt::join(limits.block_sizes, ", ")));
    } else if (!params.per_tensor() && !limits.per_channel) {
      report(node, "its weights have a scale for each channel; the target takes one");
    }
    if (limits.full_range && limits.code_bits == 0) return;
    const std::vector<std::int32_t> codes = codes_of(*model_.graph.value(id).constant);
    const auto lowest = params.qmin() < 0 && !params.type.narrow_range ? params.qmin() : params.qmin() - 1;
    if (!limits.full_range && std::any_of(codes.begin(), codes.end(), [&](std::int32_t q) { return q == lowest; }))
      report(node, fmt::format("its weights use the code {}, which the target does not", lowest));
    if (limits.code_bits > 0) {
      std::int32_t largest = 0;
      for (const std::int32_t w : centred_codes(node, *model_.graph.value(id).constant, params)) largest = std::max(largest, std::abs(w));
      if (largest >= 1 << (limits.code_bits - 1))
        report(node, fmt::format("its weights reach {}: with more than {} bits, pairs of products saturate the target's 16-bit sums (--reduce-range)", largest,
                                 limits.code_bits));
    }
  }

  void check(const Node& node) {
    if (node.op_type == "DynamicQuantizeLinear" && !limits_.dynamic) report(node, "the target takes no dynamic quantization");
    const bool reads = node.input(0) != kNoValue && model_.params_of(node.input(0)) != nullptr;
    const bool writes = node.output(0) != kNoValue && model_.params_of(node.output(0)) != nullptr;
    if (!writes) {
      check_weight_only(node);
      return;
    }
    for (const ValueId v : node.outputs) {
      if (v == kNoValue || model_.params_of(v) == nullptr) continue;
      check_grid(node, node.op_type == "QuantizeLinear" ? "it makes" : "its output has", *model_.params_of(v), limits_.activations, false);
    }
    if (!reads || node.op_type == "QuantizeLinear") return;
    if (std::find(limits_.unsupported_ops.begin(), limits_.unsupported_ops.end(), node.op_type) != limits_.unsupported_ops.end())
      report(node, "the target has no integer form of it");
    const Operands operands = operands_of(model_.graph, node);
    if (operands.weights) check_weights(node, node.input(*operands.weights), limits_.weights);
  }

  // A float layer whose weights come from integers.
  void check_weight_only(const Node& node) {
    if (node.op_type == "DequantizeLinear" || node.inputs.size() < 2 || node.inputs[1] == kNoValue) return;
    const OpDef* op = find_op(node.domain, node.op_type);
    if (op == nullptr || op->rule != QuantRule::kCompute) return;
    const NodeId producer = model_.graph.value(node.inputs[1]).producer;
    if (producer == kNoNode || model_.graph.node(producer).op_type != "DequantizeLinear") return;
    const ValueId codes = model_.graph.node(producer).input(0);
    if (!model_.graph.is_constant(codes) || model_.params_of(codes) == nullptr) return;
    if (!limits_.weight_only) return report(node, "its weights are integers and its activations float; the target takes no such layers");
    check_weights(node, codes, *limits_.weight_only);
  }

  const QuantizedGraph& model_;
  const TargetLimits& limits_;
  std::vector<TargetFinding> findings_;
};

}  // namespace

std::vector<TargetFinding> check_target(const QuantizedGraph& model, const TargetLimits& limits) { return Checker(model, limits).run(); }

}  // namespace nibble
