// What a run may say about its methods.
#pragma once

#include <span>

#include "train/quantizer.h"

namespace nibble::train {

// Every option is one of some row of `rows` (null rows are left out) or of the soft staircase. Else Error{kInvalidArgument} that lists
// them.
void check_method_options(std::span<const QuantizerRow* const> rows, const MethodOptions& options);

}  // namespace nibble::train
