// The rows of the methods' files; quantizer_table.cc puts them in order.
#pragma once

#include "train/quantizer.h"

namespace nibble::train {

extern const QuantizerRow kAbc;
extern const QuantizerRow kBinaryConnect;
extern const QuantizerRow kBnn;
extern const QuantizerRow kDorefa;
extern const QuantizerRow kDynamicFixedPoint;
extern const QuantizerRow kEma;
extern const QuantizerRow kInq;
extern const QuantizerRow kLsq;
extern const QuantizerRow kLsqPlus;
extern const QuantizerRow kPact;
extern const QuantizerRow kRelu1;
extern const QuantizerRow kRelu6;
extern const QuantizerRow kReluClip;
extern const QuantizerRow kSawb;
extern const QuantizerRow kTqt;
extern const QuantizerRow kTtq;
extern const QuantizerRow kTwn;
extern const QuantizerRow kWrpn;
extern const QuantizerRow kXnor;

}  // namespace nibble::train
