#include "passes/bounds.h"

#include <algorithm>
#include <cmath>

namespace nibble {
namespace {

constexpr double kFloatMax = std::numeric_limits<float>::max();

// One bound of a Clip that hands them over as inputs; false: not a constant real scalar.
bool read_bound(const Rewriter& rewriter, ValueId id, double& bound) {
  if (id == kNoValue) return true;
  const Tensor* tensor = rewriter.constant(id);
  if (tensor == nullptr || tensor->size() != 1 || !is_real(*tensor)) return false;
  bound = to_doubles(*tensor)[0];
  return !std::isnan(bound);
}

}  // namespace

std::optional<Bounds> bounds_of(const Rewriter& rewriter, NodeId id) {
  if (id == kNoNode || rewriter.is_removed(id)) return std::nullopt;
  Bounds bounds;
  if (rewriter.is(id, "Relu")) {
    bounds.lo = 0;
    return bounds;
  }
  if (!rewriter.is(id, "Clip")) return std::nullopt;
  const Node& node = rewriter.node(id);
  if (rewriter.graph().opset("") >= 11) {
    if (!read_bound(rewriter, node.input(1), bounds.lo) || !read_bound(rewriter, node.input(2), bounds.hi)) return std::nullopt;
  } else {
    bounds.lo = static_cast<double>(node.get_float("min", -std::numeric_limits<float>::max()));
    bounds.hi = static_cast<double>(node.get_float("max", std::numeric_limits<float>::max()));
    if (std::isnan(bounds.lo) || std::isnan(bounds.hi)) return std::nullopt;
  }
  if (bounds.lo <= -kFloatMax) bounds.lo = -std::numeric_limits<double>::infinity();
  if (bounds.hi >= kFloatMax) bounds.hi = std::numeric_limits<double>::infinity();
  return bounds;
}

Bounds then(const Bounds& inner, const Bounds& outer) {
  // ONNX: Clip is min(max(x, lo), hi), so where lo > hi everything becomes hi; callers refuse such bounds.
  return {.lo = std::min(std::max(inner.lo, outer.lo), outer.hi), .hi = std::min(std::max(inner.hi, outer.lo), outer.hi)};
}

}  // namespace nibble
