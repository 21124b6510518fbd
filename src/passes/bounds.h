// Relu and Clip as one thing: an interval that values are clamped to.
#pragma once

#include <limits>
#include <optional>

#include "passes/rewriter.h"

namespace nibble {

struct Bounds {
  double lo = -std::numeric_limits<double>::infinity();
  double hi = std::numeric_limits<double>::infinity();
};

// The bounds of a Relu, or of a Clip whose bounds are constants; nullopt for any other node. A bound of +-FLT_MAX (the default before opset
// 11) counts as none.
std::optional<Bounds> bounds_of(const Rewriter& rewriter, NodeId id);
// x clamped to `inner`, then to `outer`, is x clamped to this.
Bounds then(const Bounds& inner, const Bounds& outer);

}  // namespace nibble
