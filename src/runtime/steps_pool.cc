// Pools and means.
#include <algorithm>

#include "base/fail.h"
#include "kernels/qpool/qpool.h"
#include "quantize/node_arithmetic.h"
#include "quantize/window_geometry.h"
#include "runtime/plan_builder.h"

namespace nibble {
namespace {

// The whole image as one window.
Window global_window(const Shape& x) {
  Window w;
  for (std::size_t d = 2; d < x.size(); ++d) {
    w.input.push_back(x[d]);
    w.kernel.push_back(x[d]);
  }
  const std::size_t rank = w.input.size();
  w.output.assign(rank, 1);
  w.stride.assign(rank, 1);
  w.dilation.assign(rank, 1);
  w.pad_begin.assign(rank, 0);
  w.pad_end.assign(rank, 0);
  return w;
}

// Windows over all three spatial axes of a volume fold into two where the last is whole: only global pools of 3-D are taken.
kernels::PoolCall pool_call(const Node& node, const Shape& x, const Window& w) {
  const std::size_t rank = w.input.size();
  kernels::PoolCall call;
  call.channels = call.ld_src = call.ld_dst = x[1];
  call.batch = x[0];
  if (rank > 2) {
    const bool global = w.kernel == w.input && std::all_of(w.output.begin(), w.output.end(), [](std::int64_t o) { return o == 1; }) &&
                        std::all_of(w.pad_begin.begin(), w.pad_begin.end(), [](std::int64_t p) { return p == 0; });
    if (!global) fail(ErrorCode::kUnsupported, "node '{}' ({}): the integer runtime pools over one or two spatial axes", node.name, node.op_type);
    call.in_w = call.kernel_w = element_count(w.input);
    return call;
  }
  call.in_w = w.input[rank - 1];
  call.out_w = w.output[rank - 1];
  call.kernel_w = w.kernel[rank - 1];
  call.stride_w = w.stride[rank - 1];
  call.dilation_w = w.dilation[rank - 1];
  call.pad_left = w.pad_begin[rank - 1];
  call.pad_right = w.pad_end[rank - 1];
  if (rank == 2) {
    call.in_h = w.input[0];
    call.out_h = w.output[0];
    call.kernel_h = w.kernel[0];
    call.stride_h = w.stride[0];
    call.dilation_h = w.dilation[0];
    call.pad_top = w.pad_begin[0];
    call.pad_bottom = w.pad_end[0];
  }
  return call;
}

void add_average_step(PlanBuilder& plan, const Node& node, const kernels::PoolCall& call, kernels::PadCount pad_count, const Ref& src, const Ref& dst) {
  // One multiplier a count: windows at the border have fewer elements.
  const std::int64_t largest = std::max<std::int64_t>(1, call.kernel_h * call.kernel_w);
  std::vector<Requantizer> per_count;
  const bool only_whole = call.out_h == 1 && call.out_w == 1 && call.kernel_h == call.in_h && call.kernel_w == call.in_w;
  for (std::int64_t count = 1; count <= largest; ++count)
    per_count.push_back(average_requantizer(plan.model(), node, only_whole ? largest : count));
  const QuantParams& out = plan.params(node.output(0));
  const auto table = plan.own(kernels::RequantizeTable(per_count, largest, stored_output_grid(output_grid(out, node), out)));
  const std::int32_t zero_point = stored_grid(plan.params(node.input(0))).zero_point;
  const kernels::Isa isa = plan.isa();
  const std::int64_t rows = call.batch * call.out_h;
  const std::int64_t grain = plan.grain(rows, static_cast<double>(call.out_w * largest * call.channels) / 16.0);
  plan.add_step(node, kernels::average_pool_kernel_name(isa), 0, [=](const RunContext& run) {
    kernels::PoolCall c = call;
    c.src = run.in(src);
    c.dst = run.ptr(dst);
    run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      kernels::qpool_average(isa, c, zero_point, pad_count, table->view(), begin, end);
    });
  });
}

}  // namespace

void lower_max_pool(PlanBuilder& plan, const Node& node) {
  const Shape x = plan.shape(node, node.input(0));
  const Window w = node.op_type == "GlobalMaxPool" ? global_window(x) : pool_window(node, x);
  kernels::PoolCall call = pool_call(node, x, w);
  const Ref src = plan.read(node, node.input(0), Layout::kChannelsLast);
  const Ref dst = plan.write(node, node.output(0), Layout::kChannelsLast);
  const QuantParams& out = plan.params(node.output(0));
  const OutputGrid grid = stored_output_grid(output_grid(out, node), out);
  const kernels::Isa isa = plan.isa();
  const std::int64_t rows = call.batch * call.out_h;
  const std::int64_t grain = plan.grain(rows, static_cast<double>(call.out_w * call.kernel_h * call.kernel_w * call.channels) / 32.0);
  plan.add_step(node, kernels::max_pool_kernel_name(isa), 0, [=](const RunContext& run) {
    kernels::PoolCall c = call;
    c.src = run.in(src);
    c.dst = run.ptr(dst);
    run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      kernels::qpool_max(isa, c, static_cast<std::int32_t>(grid.qmin), static_cast<std::int32_t>(grid.qmax), begin, end);
    });
  });
}

void lower_average_pool(PlanBuilder& plan, const Node& node) {
  const Shape x = plan.shape(node, node.input(0));
  const bool global = node.op_type == "GlobalAveragePool";
  const Window w = global ? global_window(x) : pool_window(node, x);
  const kernels::PoolCall call = pool_call(node, x, w);
  const Ref src = plan.read(node, node.input(0), Layout::kChannelsLast);
  const Ref dst = plan.write(node, node.output(0), Layout::kChannelsLast);
  const bool include = !global && node.get_int("count_include_pad", 0) != 0;
  add_average_step(plan, node, call, include ? kernels::PadCount::kInclude : kernels::PadCount::kExclude, src, dst);
}

// Over the spatial axes it is a global pool. Over neighbouring axes of the plain layout it is one, too: what lies before is the batch, the reduced
// axes are the pixels, what lies behind the channels.
void lower_reduce_mean(PlanBuilder& plan, const Node& node) {
  const Shape x = plan.shape(node, node.input(0));
  const Shape y = plan.shape(node, node.output(0));
  const auto rank = static_cast<std::int64_t>(x.size());
  std::vector<std::int64_t> axes = node.get_ints("axes").value_or(std::vector<std::int64_t>{});
  if (node.input(1) != kNoValue && plan.known(node.input(1)) != nullptr) axes = to_int64s(*plan.known(node.input(1)));
  std::vector<bool> reduced(x.size(), axes.empty() && node.get_int("noop_with_empty_axes", 0) == 0);
  for (const std::int64_t axis : axes) {
    if (axis < -rank || axis >= rank) fail(ErrorCode::kInvalidModel, "node '{}' (ReduceMean): axis {} is out of range", node.name, axis);
    reduced[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)] = true;
  }
  Layout layout = Layout::kPlain;
  std::vector<bool> physical = reduced;
  bool spatial = rank > 2 && !reduced[0] && !reduced[1];
  for (std::int64_t d = 2; d < rank; ++d) spatial = spatial && reduced[static_cast<std::size_t>(d)];
  if (spatial) {
    layout = Layout::kChannelsLast;
    for (std::int64_t d = 0; d < rank; ++d) physical[static_cast<std::size_t>(physical_axis(d, rank, layout))] = reduced[static_cast<std::size_t>(d)];
  }
  const Shape lies = physical_shape(x, layout);
  kernels::PoolCall call;
  call.batch = call.in_w = call.channels = 1;
  int part = 0;  // 0: before the reduced axes, 1: inside, 2: behind
  for (std::size_t d = 0; d < lies.size(); ++d) {
    if (physical[d]) {
      if (part == 2) fail(ErrorCode::kUnsupported, "node '{}' (ReduceMean): its axes are not neighbours; leave it in float (--nodes-to-exclude)", node.name);
      part = 1;
      call.in_w *= lies[d];
    } else {
      if (part == 1) part = 2;
      (part == 0 ? call.batch : call.channels) *= lies[d];
    }
  }
  call.kernel_w = call.in_w;
  call.ld_src = call.ld_dst = call.channels;
  const Ref src = plan.read(node, node.input(0), layout);
  // One pixel is left, if the axes are kept: both layouts of it are the same.
  const Ref dst = plan.write(node, node.output(0), Layout::kPlain);
  static_cast<void>(y);
  add_average_step(plan, node, call, kernels::PadCount::kExclude, src, dst);
}

}  // namespace nibble
