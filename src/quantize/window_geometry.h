// Sizes and steps of convolutions and pools over concrete shapes, for the simulation and the runtime.
#pragma once

#include <cstdint>
#include <vector>

#include "nibble/graph.h"

namespace nibble {

// One entry a spatial axis. Conv and pools: input index = output * stride + tap * dilation - pad_begin. ConvTranspose: the same with input and
// output exchanged.
struct Window {
  std::vector<std::int64_t> input, output, kernel, stride, dilation, pad_begin, pad_end;
};
// x [N, C, in...], w [O, C/g, kernel...]. Throws Error{kInvalidModel} naming the node.
Window conv_window(const Node& node, const Shape& x, const Shape& w);
// x [N, C, in...], w [C, O/g, kernel...].
Window conv_transpose_window(const Node& node, const Shape& x, const Shape& w);
// MaxPool, AveragePool.
Window pool_window(const Node& node, const Shape& x);

// Where one tap of one output lies, both counted row-major.
struct Tap {
  bool inside = false;    // on the input
  bool padded = false;    // on the input or its pads: what count_include_pad counts
  std::int64_t flat = 0;  // within one plane of the input, row-major; where it is inside
};
Tap tap_of(const Window& window, std::int64_t output, std::int64_t tap);

}  // namespace nibble
