// Relu and Clip become attributes of the node that makes their input: "activation" = "Relu" or "Clip" with "activation_min" and
// "activation_max". In integers the clamp of the requantization then does their work for nothing. The fused node's output is the
// activation's: the value before it no longer exists, and no range is observed for it.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "passes/bounds.h"
#include "passes/pass_list.h"
#include "passes/rewriter.h"

namespace nibble {
namespace {

// Producers that honour the attribute (ops/fused_activation.h).
constexpr std::array<std::string_view, 7> kHeads = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul"};

std::string describe(const Bounds& bounds) {
  if (bounds.lo == 0 && std::isinf(bounds.hi)) return "Relu";
  return fmt::format("Clip [{}, {}]", bounds.lo, bounds.hi);
}

// The bounds that a node already carries.
Bounds fused_bounds(const Node& node) {
  Bounds bounds;
  const std::string name = node.get_string("activation", "");
  if (name == "Relu") bounds.lo = 0;
  if (name == "Clip") {
    bounds.lo = static_cast<double>(node.get_float("activation_min", -std::numeric_limits<float>::infinity()));
    bounds.hi = static_cast<double>(node.get_float("activation_max", std::numeric_limits<float>::infinity()));
  }
  return bounds;
}

}  // namespace

void fuse_activation(Graph& graph, PassReport& report) {
  Rewriter rewriter(graph, report);
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    const Node& node = rewriter.node(id);
    if (rewriter.is_removed(id) || !node.domain.empty() || (node.op_type != "Relu" && node.op_type != "Clip")) continue;
    const auto bounds = bounds_of(rewriter, id);
    if (!bounds) {
      rewriter.declined(node.name, "Clip: its bounds are not constant reals");
      continue;
    }
    const ValueId x = node.input(0);
    const NodeId head = rewriter.producer(x);
    if (head == kNoNode) continue;
    const Node& before = rewriter.node(head);
    if (!before.domain.empty() || std::find(kHeads.begin(), kHeads.end(), before.op_type) == kHeads.end()) continue;
    if (!rewriter.has_one_use(x)) {
      rewriter.declined(node.name, "{} after {} '{}': {}", node.op_type, before.op_type, before.name, rewriter.uses_text(x));
      continue;
    }
    const TensorType& type = rewriter.value(x).type;
    if (type.dtype != DataType::kUndefined && !is_float(type.dtype)) continue;
    const Bounds all = then(fused_bounds(before), *bounds);
    if (!(bounds->lo <= bounds->hi)) {
      rewriter.declined(node.name, "Clip: its lower bound {} lies above its upper bound {}", bounds->lo, bounds->hi);
      continue;
    }
    const std::string name = node.name;
    const std::string head_name = before.name;
    rewriter.absorb(head, id);
    GraphEditor& editor = rewriter.editor();
    for (const char* attribute : {"activation_min", "activation_max"}) editor.remove_attribute(head, attribute);
    if (all.lo == 0 && std::isinf(all.hi)) {
      editor.set_attribute(head, "activation", std::string("Relu"));
    } else {
      editor.set_attribute(head, "activation", std::string("Clip"));
      if (std::isfinite(all.lo)) editor.set_attribute(head, "activation_min", static_cast<float>(all.lo));
      if (std::isfinite(all.hi)) editor.set_attribute(head, "activation_max", static_cast<float>(all.hi));
    }
    rewriter.applied(name, "{} fused into '{}'", describe(all), head_name);
  }
  rewriter.finish();
}

}  // namespace nibble
