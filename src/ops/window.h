// Sliding windows: the attributes that convolutions and pools share, and the output sizes that follow from them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nibble/graph.h"

namespace nibble::nn {

// One spatial axis of a window operation. Input index of output o and tap k: o * stride - pad_begin + k * dilation.
struct WindowAxis {
  std::int64_t in = -1;  // -1: unknown (inference only)
  std::int64_t out = -1;
  std::int64_t kernel = 1, stride = 1, dilation = 1;
  std::int64_t pad_begin = 0, pad_end = 0;

  std::int64_t extent() const { return (kernel - 1) * dilation + 1; }
};

enum class AutoPad { kNotSet, kSameUpper, kSameLower, kValid };

struct WindowAttributes {
  std::vector<std::int64_t> kernel, strides, dilations;
  std::vector<std::int64_t> pads;  // begins, then ends
  AutoPad auto_pad = AutoPad::kNotSet;
  bool ceil_mode = false;
};

// Reads and checks kernel_shape, strides, dilations, pads, auto_pad and ceil_mode for `spatial` axes. `weight_kernel` holds the sizes of a
// weight's spatial axes (-1: unknown), which kernel_shape must repeat; empty: the op has no weight and kernel_shape is required.
WindowAttributes read_window(const Node& node, std::size_t spatial, std::span<const std::int64_t> weight_kernel);

// Output sizes and resolved pads of a forward window op. `in` holds the spatial sizes, -1 where unknown. A last window of ceil_mode that
// would start past the input and its begin padding is dropped, as PyTorch and ONNX Runtime do.
std::vector<WindowAxis> resolve_window(const Node& node, const WindowAttributes& attributes, std::span<const std::int64_t> in);

// ConvTranspose: `in` and `out` keep the op's own direction, out = stride * (in - 1) + output_padding + extent - pads. Where a size is asked for
// (output_shape, SAME), the pads follow from it.
std::vector<WindowAxis> resolve_transposed_window(const Node& node, std::span<const std::int64_t> in, std::span<const std::int64_t> weight_kernel);

// The sizes behind the first two axes of a type or shape.
std::vector<std::int64_t> spatial_sizes(const TensorType& type);
std::vector<std::int64_t> spatial_sizes(const Shape& shape);

}  // namespace nibble::nn
