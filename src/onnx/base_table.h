// Weights that are sums of bases, of which at most one is +-1 and the others 0: a table of reals, one row a channel where scales differ, and indices.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "nibble/quant_params.h"
#include "nibble/tensor.h"

namespace nibble {

struct WeightBase {
  Tensor codes;
  QuantParams params;
};

struct BaseTable {
  Tensor reals;    // [columns]; [channels, columns] for channels on axis 0; [columns, channels] for axis 1
  Tensor indices;  // uint8, the shape of the weights
  std::int64_t columns = 0;
  std::optional<std::int64_t> channel_axis;  // none: one row for all
};
// Column 0 is 0; then, base by base, its scale where +1 occurs and its negative where -1 does. nullopt where the bases have no such form, or one of them no
// column, or a single base is given.
std::optional<BaseTable> table_of(std::span<const WeightBase> bases);
// Back: codes of 8 bits. nullopt where the table is none of the above.
std::optional<std::vector<WeightBase>> bases_of(const BaseTable& table);

}  // namespace nibble
