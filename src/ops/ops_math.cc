#include "ops/ops_math.h"

#include <vector>

#include "ops/math_families.h"

namespace nibble {

std::span<const OpDef* const> math_ops() {
  static const std::vector<const OpDef*> table = [] {
    std::vector<const OpDef*> rows;
    for (const auto family : {elementwise_binary_ops(), elementwise_variadic_ops(), elementwise_unary_ops(), activation_ops(), cast_ops(),
                              constant_ops(), shape_ops(), layout_ops(), split_ops(), slice_ops(), pad_ops(), gather_ops(), scatter_ops(),
                              indexing_ops(), sequence_axis_ops(), top_ops(), reduce_ops(), einsum_ops(), det_ops()}) {
      for (const OpDef& op : family) rows.push_back(&op);
    }
    return rows;
  }();
  return table;
}

}  // namespace nibble
