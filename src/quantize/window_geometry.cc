// The sizes and pads themselves are those of shape inference (ops/window.h): were they computed twice, a plan could give a step more room
// than the step fills, or less.
#include "quantize/window_geometry.h"

#include <algorithm>

#include "ops/fail.h"
#include "ops/window.h"

namespace nibble {
namespace {

Window of_axes(const std::vector<nn::WindowAxis>& axes) {
  Window w;
  for (const nn::WindowAxis& axis : axes) {
    w.input.push_back(axis.in);
    w.output.push_back(axis.out);
    w.kernel.push_back(axis.kernel);
    w.stride.push_back(axis.stride);
    w.dilation.push_back(axis.dilation);
    w.pad_begin.push_back(axis.pad_begin);
    w.pad_end.push_back(axis.pad_end);
  }
  return w;
}

void check(const Node& node, const Shape& x, const Shape& w, std::size_t input_axis, std::int64_t per_group) {
  const std::int64_t groups = node.get_int("group", 1);
  if (x.size() < 3 || w.size() != x.size() || groups < 1 || x[1] % groups != 0 || w[0] % groups != 0 || w[input_axis] != x[1] / per_group)
    fail_node(node, "input {} and weights {} do not fit together in {} groups", to_string(x), to_string(w), groups);
}

}  // namespace

Window conv_window(const Node& node, const Shape& x, const Shape& w) {
  check(node, x, w, 1, std::max<std::int64_t>(1, node.get_int("group", 1)));
  const std::vector<std::int64_t> in = nn::spatial_sizes(x);
  return of_axes(nn::resolve_window(node, nn::read_window(node, in.size(), nn::spatial_sizes(w)), in));
}

Window conv_transpose_window(const Node& node, const Shape& x, const Shape& w) {
  check(node, x, w, 0, 1);
  return of_axes(nn::resolve_transposed_window(node, nn::spatial_sizes(x), nn::spatial_sizes(w)));
}

Window pool_window(const Node& node, const Shape& x) {
  if (x.size() < 3) fail_node(node, "its input {} has no spatial axis", to_string(x));
  const std::vector<std::int64_t> in = nn::spatial_sizes(x);
  return of_axes(nn::resolve_window(node, nn::read_window(node, in.size(), {}), in));
}

Tap tap_of(const Window& window, std::int64_t output, std::int64_t tap) {
  Tap result{.inside = true, .padded = true};
  std::int64_t step = 1;
  for (std::size_t d = window.kernel.size(); d-- > 0;) {
    const std::int64_t i = output % window.output[d] * window.stride[d] + tap % window.kernel[d] * window.dilation[d] - window.pad_begin[d];
    output /= window.output[d];
    tap /= window.kernel[d];
    result.inside = result.inside && i >= 0 && i < window.input[d];
    result.padded = result.padded && i < window.input[d] + window.pad_end[d];
    result.flat += i * step;
    step *= window.input[d];
  }
  return result;
}

}  // namespace nibble
