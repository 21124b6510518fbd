// The families of tensor operators, one source file each; ops_math.cc joins them.
#pragma once

#include <span>

#include "ops/op.h"

namespace nibble {
std::span<const OpDef> elementwise_binary_ops();
std::span<const OpDef> elementwise_variadic_ops();
std::span<const OpDef> elementwise_unary_ops();
std::span<const OpDef> activation_ops();
std::span<const OpDef> cast_ops();
std::span<const OpDef> constant_ops();
std::span<const OpDef> shape_ops();
std::span<const OpDef> layout_ops();
std::span<const OpDef> split_ops();
std::span<const OpDef> slice_ops();
std::span<const OpDef> pad_ops();
std::span<const OpDef> gather_ops();
std::span<const OpDef> scatter_ops();
std::span<const OpDef> indexing_ops();
std::span<const OpDef> sequence_axis_ops();
std::span<const OpDef> top_ops();
std::span<const OpDef> reduce_ops();
std::span<const OpDef> einsum_ops();
std::span<const OpDef> det_ops();
}  // namespace nibble
