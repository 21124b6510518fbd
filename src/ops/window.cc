#include "ops/window.h"

#include <algorithm>

#include "ops/fail.h"
#include "ops/nn_common.h"

namespace nibble::nn {
namespace {

// Attributes and sizes above these are nonsense, and keeping below them keeps the products inside int64.
constexpr std::int64_t kMaxAttribute = std::int64_t{1} << 30;
constexpr std::int64_t kMaxSize = std::int64_t{1} << 40;

std::vector<std::int64_t> read_list(const Node& node, std::string_view name, std::size_t count, std::int64_t fallback, std::int64_t min) {
  const auto list = node.get_ints(name);
  if (!list || list->empty()) return std::vector<std::int64_t>(count, fallback);
  if (list->size() != count) fail_node(node, "attribute '{}' has {} entries, expected {}", name, list->size(), count);
  for (const std::int64_t v : *list) {
    if (v < min || v > kMaxAttribute) fail_node(node, "attribute '{}' holds {}, expected {} to {}", name, v, min, kMaxAttribute);
  }
  return *list;
}

}  // namespace

WindowAttributes read_window(const Node& node, std::size_t spatial, std::span<const std::int64_t> weight_kernel) {
  WindowAttributes result;
  if (weight_kernel.empty() && !node.has("kernel_shape")) fail_node(node, "attribute 'kernel_shape' is missing");
  result.kernel = read_list(node, "kernel_shape", spatial, -1, 1);
  for (std::size_t i = 0; i < weight_kernel.size(); ++i) {
    if (weight_kernel[i] < 0) continue;
    if (weight_kernel[i] == 0 || weight_kernel[i] > kMaxAttribute) fail_node(node, "the weight has a kernel of size {}", weight_kernel[i]);
    if (result.kernel[i] >= 0 && result.kernel[i] != weight_kernel[i])
      fail_node(node, "kernel_shape says {} on axis {}, the weight has {}", result.kernel[i], i, weight_kernel[i]);
    result.kernel[i] = weight_kernel[i];
  }
  result.strides = read_list(node, "strides", spatial, 1, 1);
  result.dilations = read_list(node, "dilations", spatial, 1, 1);
  result.pads = read_list(node, "pads", 2 * spatial, 0, 0);
  const std::string auto_pad = node.get_string("auto_pad", "NOTSET");
  if (auto_pad == "SAME_UPPER")
    result.auto_pad = AutoPad::kSameUpper;
  else if (auto_pad == "SAME_LOWER")
    result.auto_pad = AutoPad::kSameLower;
  else if (auto_pad == "VALID")
    result.auto_pad = AutoPad::kValid;
  else if (auto_pad != "NOTSET" && !auto_pad.empty())
    fail_node(node, "auto_pad is '{}', expected NOTSET, SAME_UPPER, SAME_LOWER or VALID", auto_pad);
  if (result.auto_pad != AutoPad::kNotSet) std::fill(result.pads.begin(), result.pads.end(), 0);
  result.ceil_mode = node.get_int("ceil_mode", 0) != 0;
  return result;
}

std::vector<WindowAxis> resolve_window(const Node& node, const WindowAttributes& attributes, std::span<const std::int64_t> in) {
  std::vector<WindowAxis> axes(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) {
    WindowAxis& axis = axes[i];
    axis.in = in[i];
    axis.kernel = attributes.kernel[i];
    axis.stride = attributes.strides[i];
    axis.dilation = attributes.dilations[i];
    axis.pad_begin = attributes.pads[i];
    axis.pad_end = attributes.pads[i + in.size()];
    if (axis.in < 0) continue;
    if (axis.in > kMaxSize) fail_node(node, "an input of size {} is too large", axis.in);
    const bool same = attributes.auto_pad == AutoPad::kSameUpper || attributes.auto_pad == AutoPad::kSameLower;
    if (same) axis.out = (axis.in + axis.stride - 1) / axis.stride;
    if (axis.kernel < 0) continue;
    if (same) {
      const std::int64_t total = std::max<std::int64_t>((axis.out - 1) * axis.stride + axis.extent() - axis.in, 0);
      axis.pad_begin = attributes.auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
      axis.pad_end = total - axis.pad_begin;
      continue;
    }
    const std::int64_t room = axis.in + axis.pad_begin + axis.pad_end - axis.extent();
    if (room < 0)
      fail_node(node, "the window spans {} but the padded input has {} on spatial axis {}", axis.extent(),
                axis.in + axis.pad_begin + axis.pad_end, i);
    axis.out = room / axis.stride + 1;
    if (attributes.ceil_mode && attributes.auto_pad == AutoPad::kNotSet && room % axis.stride != 0 &&
        axis.out * axis.stride < axis.in + axis.pad_begin)
      ++axis.out;
  }
  return axes;
}

std::vector<WindowAxis> resolve_transposed_window(const Node& node, std::span<const std::int64_t> in,
                                                  std::span<const std::int64_t> weight_kernel) {
  const std::size_t spatial = in.size();
  const WindowAttributes window = read_window(node, spatial, weight_kernel);
  std::vector<std::int64_t> output_padding(spatial, 0);
  if (const auto list = node.get_ints("output_padding"); list && !list->empty()) {
    if (list->size() != spatial) fail_node(node, "attribute 'output_padding' has {} entries, expected {}", list->size(), spatial);
    output_padding = *list;
  }
  std::vector<std::int64_t> output_shape = node.get_ints("output_shape").value_or(std::vector<std::int64_t>{});
  if (output_shape.size() == spatial + 2) output_shape.erase(output_shape.begin(), output_shape.begin() + 2);
  const bool sized = !output_shape.empty();
  if (sized && output_shape.size() != spatial)
    fail_node(node, "attribute 'output_shape' has {} entries, expected {}", output_shape.size(), spatial);
  std::vector<WindowAxis> axes(spatial);
  for (std::size_t i = 0; i < spatial; ++i) {
    WindowAxis& axis = axes[i];
    axis.in = in[i];
    axis.kernel = window.kernel[i];
    axis.stride = window.strides[i];
    axis.dilation = window.dilations[i];
    axis.pad_begin = window.pads[i];
    axis.pad_end = window.pads[i + spatial];
    if (output_padding[i] < 0 || output_padding[i] > kMaxAttribute) fail_node(node, "output_padding is {}, expected 0 or more", output_padding[i]);
    const bool same = window.auto_pad == AutoPad::kSameUpper || window.auto_pad == AutoPad::kSameLower;
    if (sized) {
      axis.out = output_shape[i];
      if (axis.out < 1 || axis.out > kMaxAttribute) fail_node(node, "output_shape is {}, expected 1 or more", axis.out);
    }
    if (axis.in < 0 || axis.kernel < 0) continue;
    if (axis.in > kMaxAttribute) fail_node(node, "an input of size {} is too large", axis.in);
    const std::int64_t whole = axis.stride * (axis.in - 1) + output_padding[i] + axis.extent();
    if (same && !sized) axis.out = axis.in * axis.stride;
    if (sized || same) {
      // The pads follow from the size that is asked for; SAME_UPPER puts the odd one at the end.
      const std::int64_t total = std::max<std::int64_t>(whole - axis.out, 0);
      axis.pad_begin = window.auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
      axis.pad_end = total - axis.pad_begin;
    } else {
      axis.out = whole - axis.pad_begin - axis.pad_end;
      if (axis.out < 0 || (axis.out == 0 && axis.in > 0)) fail_node(node, "the pads leave no output on spatial axis {}", i);
    }
  }
  return axes;
}

std::vector<std::int64_t> spatial_sizes(const TensorType& type) {
  std::vector<std::int64_t> sizes;
  for (std::size_t i = 2; i < type.dims.size(); ++i) sizes.push_back(type.dims[i].size);
  return sizes;
}

std::vector<std::int64_t> spatial_sizes(const Shape& shape) {
  return {shape.begin() + std::min<std::ptrdiff_t>(2, std::ssize(shape)), shape.end()};
}

}  // namespace nibble::nn
