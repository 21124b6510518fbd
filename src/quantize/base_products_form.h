// Layers whose weights or activations are sums of codes on several grids (docs/formats.md, "Trained grids"): how they are made of a float graph, and the
// numbers that they are computed with.
#pragma once

#include <span>
#include <vector>

#include "nibble/quantize.h"
#include "numeric/base_requantize.h"
#include "ops/base_products.h"

namespace nibble {

// Every layer that reads a value with RangeEntry::bases becomes a BaseProducts node of the same name. A weight falls into one float constant a base, pinned
// in `ranges`; bases of equal scales are one. Activations are the operands of the sum. True if there was one. Throws Error{kInvalidData} naming the value
// where its bases do not fit what it is.
bool form_base_products(Graph& graph, RangeTable& ranges);
// True where form_base_products() would find something.
bool has_bases(const RangeTable& ranges);

// The bias as int32 codes, one a channel; its step is the smallest power of two under which they stay within +-2^30.
struct BaseBias {
  Tensor codes;
  QuantParams params;
};
BaseBias quantize_base_bias(std::span<const float> bias, std::int64_t channels);

// One an output channel; accumulators in the order (x_1, w_1), (x_1, w_2) ... Throws Error{kUnsupported} naming the node where the law cannot hold them.
std::vector<BaseRequantizer> base_requantizers(const QuantizedGraph& model, const Node& node);

}  // namespace nibble
