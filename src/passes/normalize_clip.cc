// Max(x, lo), Min(x, hi) and chains of them with Clip and Relu become one Clip, so that ReLU6 in any spelling looks the same: Clip(x, lo,
// hi) with constant scalar bounds (opset 11 on) or attributes (before). A Clip without bounds is left to itself: it is rare and harmless.
#include <cmath>
#include <limits>

#include "ops/op.h"
#include "passes/bounds.h"
#include "passes/pass_list.h"
#include "passes/rewriter.h"

namespace nibble {
namespace {

// The constant side of a two-input Min or Max: its index, or nothing.
std::optional<std::size_t> constant_side(const Rewriter& rewriter, const Node& node) {
  if (node.inputs.size() != 2) return std::nullopt;
  for (std::size_t i = 0; i < 2; ++i) {
    const Tensor* tensor = rewriter.constant(node.inputs[i]);
    if (tensor != nullptr && tensor->size() == 1 && tensor->rank() <= 1 && is_real(*tensor)) return i;
  }
  return std::nullopt;
}

void make_clip(Rewriter& rewriter, NodeId id, ValueId x, const Bounds& bounds, DataType dtype) {
  GraphEditor& editor = rewriter.editor();
  editor.set_op_type(id, "Clip");
  const std::string stem = rewriter.value(rewriter.node(id).outputs[0]).name;
  if (rewriter.graph().opset("") < 11) {
    rewriter.set_inputs(id, {x});
    if (std::isfinite(bounds.lo)) editor.set_attribute(id, "min", static_cast<float>(bounds.lo));
    if (std::isfinite(bounds.hi)) editor.set_attribute(id, "max", static_cast<float>(bounds.hi));
    return;
  }
  const auto bound = [&](double value, const char* suffix) {
    return std::isfinite(value) ? editor.add_constant(stem + suffix, from_doubles(std::span(&value, 1), {}, dtype)) : kNoValue;
  };
  const ValueId lo = bound(bounds.lo, "_min");
  const ValueId hi = bound(bounds.hi, "_max");
  std::vector<ValueId> inputs = {x, lo};
  if (hi != kNoValue)
    inputs.push_back(hi);
  else if (lo == kNoValue)
    inputs.pop_back();
  rewriter.set_inputs(id, std::move(inputs));
}

}  // namespace

void normalize_clip(Graph& graph, PassReport& report) {
  const InferredGraph known = infer_types(graph);
  Rewriter rewriter(graph, report);
  const NodeId count = rewriter.node_count();
  for (NodeId id = 0; id < count; ++id) {
    if (!rewriter.is(id, "Min") && !rewriter.is(id, "Max")) continue;
    const Node& node = rewriter.node(id);
    const auto side = constant_side(rewriter, node);
    if (!side) continue;
    const ValueId x = node.inputs[1 - *side];
    if (rewriter.constant(x) != nullptr) continue;
    // A one-element vector against a scalar x would raise its rank.
    const TensorType& type = known.types[static_cast<std::size_t>(x)];
    const Tensor& bound = *rewriter.constant(node.inputs[*side]);
    if (bound.rank() > 0 && (!type.has_rank || type.dims.empty())) continue;
    const double value = to_doubles(bound)[0];
    if (std::isnan(value)) continue;
    Bounds bounds;
    if (node.op_type == "Max")
      bounds.lo = value;
    else
      bounds.hi = value;
    const std::string op = node.op_type;
    const DataType dtype = bound.type();
    make_clip(rewriter, id, x, bounds, dtype);
    rewriter.applied(rewriter.node(id).name, "{} against {} became Clip", op, value);
  }
  // Clip or Relu, read by one Clip or Relu: one Clip.
  for (NodeId id = 0; id < count; ++id) {
    if (rewriter.is_removed(id)) continue;
    const auto outer = bounds_of(rewriter, id);
    if (!outer) continue;
    const ValueId x = rewriter.node(id).inputs[0];
    const NodeId head = rewriter.producer(x);
    if (head == kNoNode) continue;
    const auto inner = bounds_of(rewriter, head);
    if (!inner || !rewriter.has_one_use(x)) continue;
    const Bounds both = then(*inner, *outer);
    if (!(both.lo <= both.hi)) continue;
    const ValueId source = rewriter.node(head).inputs[0];
    const std::string head_name = rewriter.node(head).name;
    DataType dtype = DataType::kFloat32;
    if (const TensorType& type = known.types[static_cast<std::size_t>(source)]; type.dtype != DataType::kUndefined) dtype = type.dtype;
    if (!is_float(dtype)) continue;
    for (const char* name : {"min", "max"}) rewriter.editor().remove_attribute(id, name);
    rewriter.set_inputs(id, {source});
    rewriter.remove_node(head);
    make_clip(rewriter, id, source, both, dtype);
    rewriter.applied(rewriter.node(id).name, "took in '{}'", head_name);
  }
  rewriter.finish();
}

}  // namespace nibble
