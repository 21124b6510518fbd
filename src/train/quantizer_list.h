// The rows of the methods' files; quantizer_table.cc puts them in order.
#pragma once

#include "train/quantizer.h"

namespace nibble::train {

extern const QuantizerRow kEma;
extern const QuantizerRow kLsq;
extern const QuantizerRow kPact;
extern const QuantizerRow kSawb;

}  // namespace nibble::train
