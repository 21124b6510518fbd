#include "train/torch_windows.h"

#include <torch/torch.h>

#include <limits>

#include "base/fail.h"
#include "ops/window.h"

namespace nibble::train {
namespace {

// The windows over a tensor's spatial axes, in the forms that torch takes them.
struct Windows {
  std::vector<std::int64_t> kernel, stride, dilation;
  std::vector<std::int64_t> begin, end;  // padding
  bool even = true;                      // the padding of both sides is equal

  explicit Windows(const std::vector<nn::WindowAxis>& axes) {
    for (const nn::WindowAxis& axis : axes) {
      kernel.push_back(axis.kernel);
      stride.push_back(axis.stride);
      dilation.push_back(axis.dilation);
      begin.push_back(axis.pad_begin);
      // Up to the end of the last window, which ceil_mode lets stand out.
      const std::int64_t reached = (axis.out - 1) * axis.stride + axis.extent() - axis.pad_begin;
      end.push_back(std::max(axis.pad_end, reached - axis.in));
      even = even && begin.back() == end.back();
    }
  }
  // Last axis first, as constant_pad_nd wants them.
  std::vector<std::int64_t> padding() const {
    std::vector<std::int64_t> result;
    for (std::size_t i = begin.size(); i-- > 0;) {
      result.push_back(begin[i]);
      result.push_back(end[i]);
    }
    return result;
  }
  bool pads() const {
    return std::any_of(begin.begin(), begin.end(), [](auto p) { return p != 0; }) ||
           std::any_of(end.begin(), end.end(), [](auto p) { return p != 0; });
  }
};

std::vector<std::int64_t> spatial_sizes_of(const torch::Tensor& x) { return {x.sizes().begin() + 2, x.sizes().end()}; }

// Pools over one spatial axis get a second one of one element.
torch::Tensor as_image(const torch::Tensor& x) { return x.dim() == 3 ? x.unsqueeze(-1) : x; }

// Number of spatial axes of the node's input: pools of torch know one and two.
std::size_t pool_axes(const OpSite& site) {
  const TensorType& type = site.known.types[static_cast<std::size_t>(site.node.input(0))];
  const std::size_t rank =
      type.has_rank ? type.dims.size() : site.node.get_ints("kernel_shape").value_or(std::vector<std::int64_t>{}).size() + 2;
  if (rank != 3 && rank != 4)
    fail(ErrorCode::kUnsupported, "node '{}' ({}): training pools over one or two spatial axes, its input has rank {}", site.node.name,
         site.node.op_type, rank);
  return rank - 2;
}

void complete(Windows& windows) {
  if (windows.kernel.size() != 1) return;
  windows.kernel.push_back(1);
  windows.stride.push_back(1);
  windows.dilation.push_back(1);
  windows.begin.push_back(0);
  windows.end.push_back(0);
}

torch::Tensor restored(torch::Tensor y, const torch::Tensor& x) { return x.dim() == 3 ? y.squeeze(-1) : y; }

}  // namespace

TorchOp make_conv(const OpSite& site) {
  const Node node = site.node;
  const Shape weight = site.graph.is_constant(node.input(1)) ? site.graph.value(node.input(1)).constant->shape() : Shape{};
  if (weight.size() < 3)
    fail(ErrorCode::kUnsupported, "node '{}' ({}): training needs constant weights with spatial axes", node.name, node.op_type);
  const nn::WindowAttributes attributes = nn::read_window(node, weight.size() - 2, std::span(weight).subspan(2));
  const std::int64_t groups = node.get_int("group", 1);
  return [node, attributes, groups](const std::vector<torch::Tensor>& inputs, const StepInfo&) {
    torch::Tensor x = inputs[0];
    const Windows windows(nn::resolve_window(node, attributes, spatial_sizes_of(x)));
    const torch::Tensor bias = inputs.size() > 2 ? inputs[2] : torch::Tensor();
    const std::vector<std::int64_t> none(windows.begin.size(), 0);
    if (!windows.even) x = at::constant_pad_nd(x, windows.padding(), 0);
    return at::convolution(x, inputs[1], bias, windows.stride, windows.even ? windows.begin : none, windows.dilation, false, none, groups);
  };
}

TorchOp make_max_pool(const OpSite& site) {
  const Node node = site.node;
  if (node.output(1) != kNoValue)
    fail(ErrorCode::kUnsupported, "node '{}' ({}): training has no indices of maxima", node.name, node.op_type);
  const nn::WindowAttributes attributes = nn::read_window(node, pool_axes(site), {});
  return [node, attributes](const std::vector<torch::Tensor>& inputs, const StepInfo&) {
    Windows windows(nn::resolve_window(node, attributes, spatial_sizes_of(inputs[0])));
    complete(windows);
    torch::Tensor x = as_image(inputs[0]);
    bool own = windows.even;  // torch pads by half a window at most
    for (std::size_t i = 0; i < windows.begin.size(); ++i) own = own && 2 * windows.begin[i] <= windows.kernel[i];
    if (!own) x = at::constant_pad_nd(x, windows.padding(), -std::numeric_limits<double>::infinity());
    const std::vector<std::int64_t> none(windows.begin.size(), 0);
    return restored(torch::max_pool2d(x, windows.kernel, windows.stride, own ? windows.begin : none, windows.dilation), inputs[0]);
  };
}

TorchOp make_average_pool(const OpSite& site) {
  const Node node = site.node;
  const nn::WindowAttributes attributes = nn::read_window(node, pool_axes(site), {});
  for (const std::int64_t d : attributes.dilations) {
    if (d != 1)
      fail(ErrorCode::kUnsupported, "node '{}' ({}): training averages windows without dilation, not {}", node.name, node.op_type, d);
  }
  const bool count_padding = node.get_int("count_include_pad", 0) != 0;
  return [node, attributes, count_padding](const std::vector<torch::Tensor>& inputs, const StepInfo&) {
    const std::vector<nn::WindowAxis> axes = nn::resolve_window(node, attributes, spatial_sizes_of(inputs[0]));
    Windows windows(axes);
    complete(windows);
    const torch::Tensor x = as_image(inputs[0]);
    if (!windows.pads()) return restored(torch::avg_pool2d(x, windows.kernel, windows.stride), inputs[0]);
    // Sums over padded windows, divided by what counts in each.
    const std::vector<std::int64_t> none = {0, 0};
    const torch::Tensor sums =
        at::avg_pool2d(at::constant_pad_nd(x, windows.padding(), 0), windows.kernel, windows.stride, none, false, true, 1);
    torch::Tensor counted = torch::ones({1, 1, x.size(2), x.size(3)}, x.options());
    if (count_padding) {
      std::vector<std::int64_t> declared;
      for (std::size_t i = windows.begin.size(); i-- > 0;) {
        declared.push_back(i < axes.size() ? axes[i].pad_begin : 0);
        declared.push_back(i < axes.size() ? axes[i].pad_end : 0);
      }
      counted = at::constant_pad_nd(counted, declared, 1);
    }
    std::vector<std::int64_t> rest = windows.padding();
    if (count_padding) {
      for (std::size_t i = 0; i < windows.begin.size(); ++i) {
        const std::size_t axis = windows.begin.size() - 1 - i;
        rest[2 * i] -= axis < axes.size() ? axes[axis].pad_begin : 0;
        rest[2 * i + 1] -= axis < axes.size() ? axes[axis].pad_end : 0;
      }
    }
    const torch::Tensor counts =
        at::avg_pool2d(at::constant_pad_nd(counted, rest, 0), windows.kernel, windows.stride, none, false, true, 1);
    return restored(sums / counts, inputs[0]);
  };
}

}  // namespace nibble::train
