#include "ops/ops_math.h"

namespace nibble {

std::span<const OpDef* const> math_ops() { return {}; }

}  // namespace nibble
