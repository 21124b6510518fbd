// Nodes that do y = a_c x + b_c with one a and b a channel.
#pragma once

#include <string>
#include <vector>

#include "passes/rewriter.h"

namespace nibble {

struct Affine {
  std::vector<double> a, b;  // one element a channel
};

// A BatchNormalization at inference. Returns why it cannot be read so, or an empty text.
std::string read_batch_norm(const Rewriter& rewriter, const Node& node, Affine& affine);

// A Mul, Div, Add or Sub whose input `side` is x and whose other input is constant: one number, or one number a channel of x, which has
// `rank` axes
// (-1: unknown) with the channels on `channel_axis`. Returns why it cannot be read so, or an empty text.
std::string read_tail(const Rewriter& rewriter, const Node& node, std::size_t side, std::int64_t channels, std::int64_t rank,
                      std::int64_t channel_axis, Affine& affine);

}  // namespace nibble
