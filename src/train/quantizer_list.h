// The rows of the methods' files; quantizer_table.cc puts them in order.
#pragma once

#include "train/quantizer.h"

namespace nibble::train {

extern const QuantizerRow kDorefa;
extern const QuantizerRow kEma;
extern const QuantizerRow kInq;
extern const QuantizerRow kLsq;
extern const QuantizerRow kPact;
extern const QuantizerRow kSawb;
extern const QuantizerRow kTtq;
extern const QuantizerRow kTwn;
extern const QuantizerRow kWrpn;

}  // namespace nibble::train
