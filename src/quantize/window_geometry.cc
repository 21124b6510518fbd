#include "quantize/window_geometry.h"

#include <algorithm>

#include "ops/fail.h"

namespace nibble {
namespace {

std::vector<std::int64_t> ints_or(const Node& node, const char* name, std::size_t count, std::int64_t fallback) {
  auto values = node.get_ints(name).value_or(std::vector<std::int64_t>(count, fallback));
  if (values.empty()) values.assign(count, fallback);
  if (values.size() != count) fail_node(node, "attribute '{}' has {} elements, {} are needed", name, values.size(), count);
  return values;
}

// Everything but the output sizes and the automatic padding.
Window read(const Node& node, const Shape& x, std::vector<std::int64_t> kernel) {
  if (x.size() < 3) fail_node(node, "its input {} has no spatial axis", to_string(x));
  Window w;
  w.input.assign(x.begin() + 2, x.end());
  const std::size_t rank = w.input.size();
  if (kernel.size() != rank) fail_node(node, "its window has {} axes, its input {}", kernel.size(), rank);
  w.kernel = std::move(kernel);
  w.stride = ints_or(node, "strides", rank, 1);
  w.dilation = ints_or(node, "dilations", rank, 1);
  const std::vector<std::int64_t> pads = ints_or(node, "pads", 2 * rank, 0);
  w.pad_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
  w.pad_end.assign(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end());
  for (std::size_t d = 0; d < rank; ++d) {
    if (w.kernel[d] < 1 || w.stride[d] < 1 || w.dilation[d] < 1)
      fail_node(node, "kernel, strides and dilations must be at least 1");
  }
  w.output.assign(rank, 0);
  return w;
}

void forward_sizes(const Node& node, Window& w, bool ceil_mode) {
  const std::string auto_pad = node.get_string("auto_pad", "NOTSET");
  for (std::size_t d = 0; d < w.input.size(); ++d) {
    const std::int64_t extent = (w.kernel[d] - 1) * w.dilation[d] + 1;
    if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
      w.output[d] = (w.input[d] + w.stride[d] - 1) / w.stride[d];
      const std::int64_t total = std::max<std::int64_t>(0, (w.output[d] - 1) * w.stride[d] + extent - w.input[d]);
      w.pad_begin[d] = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
      w.pad_end[d] = total - w.pad_begin[d];
      continue;
    }
    if (auto_pad == "VALID") w.pad_begin[d] = w.pad_end[d] = 0;
    const std::int64_t room = w.input[d] + w.pad_begin[d] + w.pad_end[d] - extent;
    if (room < 0) fail_node(node, "its window of {} does not fit into {} padded elements", extent, w.input[d] + w.pad_begin[d] + w.pad_end[d]);
    w.output[d] = (room + (ceil_mode ? w.stride[d] - 1 : 0)) / w.stride[d] + 1;
    // A window that would start in the end padding is no window.
    if (ceil_mode && (w.output[d] - 1) * w.stride[d] >= w.input[d] + w.pad_begin[d]) --w.output[d];
  }
}

}  // namespace

Window conv_window(const Node& node, const Shape& x, const Shape& w) {
  Window window = read(node, x, {w.begin() + 2, w.end()});
  const std::int64_t groups = node.get_int("group", 1);
  if (groups < 1 || x[1] != w[1] * groups || w[0] % groups != 0)
    fail_node(node, "input {} and weights {} do not fit together in {} groups", to_string(x), to_string(w), groups);
  forward_sizes(node, window, false);
  return window;
}

Window conv_transpose_window(const Node& node, const Shape& x, const Shape& w) {
  Window window = read(node, x, {w.begin() + 2, w.end()});
  const std::size_t rank = window.input.size();
  const std::int64_t groups = node.get_int("group", 1);
  if (groups < 1 || x[1] != w[0] || x[1] % groups != 0)
    fail_node(node, "input {} and weights {} do not fit together in {} groups", to_string(x), to_string(w), groups);
  const std::vector<std::int64_t> extra = ints_or(node, "output_padding", rank, 0);
  const auto wanted = node.get_ints("output_shape");
  const std::string auto_pad = node.get_string("auto_pad", "NOTSET");
  for (std::size_t d = 0; d < rank; ++d) {
    const std::int64_t full = (window.input[d] - 1) * window.stride[d] + (window.kernel[d] - 1) * window.dilation[d] + 1 + extra[d];
    const bool same = auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER";
    if (wanted || same) {
      window.output[d] = wanted ? (*wanted)[wanted->size() - rank + d] : window.input[d] * window.stride[d];
      const std::int64_t total = std::max<std::int64_t>(0, full - window.output[d]);
      // ConvTranspose's rule: the odd element goes to the end for SAME_UPPER, to the beginning otherwise.
      window.pad_begin[d] = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
      window.pad_end[d] = total - window.pad_begin[d];
    } else {
      window.output[d] = full - window.pad_begin[d] - window.pad_end[d];
    }
    if (window.output[d] < 0) fail_node(node, "its padding is larger than its output");
  }
  return window;
}

Window pool_window(const Node& node, const Shape& x) {
  Window window = read(node, x, node.get_ints("kernel_shape").value_or(std::vector<std::int64_t>{}));
  forward_sizes(node, window, node.get_int("ceil_mode", 0) != 0);
  return window;
}

}  // namespace nibble
