// The operators of tensors: element-wise functions, reductions, shapes, indexing, constants.
#pragma once

#include <span>

#include "ops/op.h"

namespace nibble {
std::span<const OpDef* const> math_ops();
}  // namespace nibble
