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

// The kernels have two spatial axes. A global pool of more folds them into one.
bool kernels_take(const Window& w) {
  if (w.input.size() <= 2) return true;
  return w.kernel == w.input && std::all_of(w.output.begin(), w.output.end(), [](std::int64_t o) { return o == 1; }) &&
         std::all_of(w.pad_begin.begin(), w.pad_begin.end(), [](std::int64_t p) { return p == 0; });
}

kernels::PoolCall pool_call(const Shape& x, const Window& w) {
  const std::size_t rank = w.input.size();
  kernels::PoolCall call;
  call.channels = call.ld_src = call.ld_dst = x[1];
  call.batch = x[0];
  if (rank > 2) {
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

// What a window over any number of spatial axes sees of one plane of the plain layout.
struct WindowSum {
  std::int64_t sum = 0;   // of the stored codes inside of the image
  std::int32_t best = 0;  // their maximum
  std::int64_t inside = 0;
  std::int64_t padded = 0;  // positions inside of the padded image
};

WindowSum look_through(const Window& w, const std::uint8_t* plane, std::int64_t position) {
  WindowSum result;
  const std::int64_t taps = element_count(w.kernel);
  for (std::int64_t t = 0; t < taps; ++t) {
    const auto [inside, padded, flat] = tap_of(w, position, t);
    result.padded += padded ? 1 : 0;
    if (!inside) continue;
    ++result.inside;
    result.sum += plane[flat];
    result.best = std::max<std::int32_t>(result.best, plane[flat]);
  }
  return result;
}

// Three spatial axes and more: `finish` makes the output's code of what each window sees.
template <typename Finish>
void add_plain_pool_step(PlanBuilder& plan, const Node& node, const Shape& x, const Window& window, const char* kernel, Finish finish) {
  const Ref src = plan.read(node, node.input(0), Layout::kPlain);
  const Ref dst = plan.write(node, node.output(0), Layout::kPlain);
  const std::int64_t planes = x[0] * x[1];
  const std::int64_t in_plane = element_count(window.input);
  const std::int64_t out_plane = element_count(window.output);
  const auto shared = plan.own(Window(window));
  plan.add_step(node, kernel, 0, [=](const RunContext& run) {
    run.pool->parallel_for(planes, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t plane = begin; plane < end; ++plane) {
        for (std::int64_t p = 0; p < out_plane; ++p)
          run.ptr(dst)[plane * out_plane + p] = finish(look_through(*shared, run.in(src) + plane * in_plane, p));
      }
    });
  });
}

// Multipliers of an average over 1 ... `largest` elements.
kernels::RequantizeTable average_table(const PlanBuilder& plan, const Node& node, std::int64_t largest, bool only_whole) {
  std::vector<Requantizer> per_count;
  for (std::int64_t count = 1; count <= largest; ++count)
    per_count.push_back(average_requantizer(plan.model(), node, only_whole ? largest : count));
  const QuantParams& out = plan.params(node.output(0));
  return {per_count, largest, stored_output_grid(output_grid(out, node), out)};
}

void add_average_step(PlanBuilder& plan, const Node& node, const kernels::PoolCall& call, kernels::PadCount pad_count, const Ref& src,
                      const Ref& dst) {
  // One multiplier a count: windows at the border have fewer elements.
  const std::int64_t largest = std::max<std::int64_t>(1, call.kernel_h * call.kernel_w);
  const bool only_whole = call.out_h == 1 && call.out_w == 1 && call.kernel_h == call.in_h && call.kernel_w == call.in_w;
  const auto table = plan.own(average_table(plan, node, largest, only_whole));
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
  const QuantParams& out = plan.params(node.output(0));
  const OutputGrid grid = stored_output_grid(output_grid(out, node), out);
  if (!kernels_take(w)) {
    return add_plain_pool_step(plan, node, x, w, "qpool_max_plain", [grid](const WindowSum& seen) {
      return static_cast<std::uint8_t>(std::clamp<std::int64_t>(seen.best, grid.qmin, grid.qmax));
    });
  }
  kernels::PoolCall call = pool_call(x, w);
  const Rows src = plan.read_rows(node, node.input(0), Layout::kChannelsLast);
  const Rows dst = plan.write_rows(node, node.output(0), Layout::kChannelsLast);
  call.ld_src = src.ld;
  call.ld_dst = dst.ld;
  const kernels::Isa isa = plan.isa();
  const std::int64_t rows = call.batch * call.out_h;
  const std::int64_t grain = plan.grain(rows, static_cast<double>(call.out_w * call.kernel_h * call.kernel_w * call.channels) / 32.0);
  plan.add_step(node, kernels::max_pool_kernel_name(isa), 0, [=](const RunContext& run) {
    kernels::PoolCall c = call;
    c.src = run.in(src.ref);
    c.dst = run.ptr(dst.ref);
    run.pool->parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
      kernels::qpool_max(isa, c, static_cast<std::int32_t>(grid.qmin), static_cast<std::int32_t>(grid.qmax), begin, end);
    });
  });
}

void lower_average_pool(PlanBuilder& plan, const Node& node) {
  const Shape x = plan.shape(node, node.input(0));
  const bool global = node.op_type == "GlobalAveragePool";
  const Window w = global ? global_window(x) : pool_window(node, x);
  const bool include = !global && node.get_int("count_include_pad", 0) != 0;
  if (!kernels_take(w)) {
    const auto table = plan.own(average_table(plan, node, element_count(w.kernel), false));
    const std::int32_t zero_point = stored_grid(plan.params(node.input(0))).zero_point;
    return add_plain_pool_step(plan, node, x, w, "qpool_average_plain", [=](const WindowSum& seen) {
      const std::int64_t count = std::max<std::int64_t>(1, include ? seen.padded : seen.inside);
      return (*table)(seen.sum - zero_point * seen.inside, count - 1);
    });
  }
  kernels::PoolCall call = pool_call(x, w);
  const Rows src = plan.read_rows(node, node.input(0), Layout::kChannelsLast);
  const Rows dst = plan.write_rows(node, node.output(0), Layout::kChannelsLast);
  call.ld_src = src.ld;
  call.ld_dst = dst.ld;
  add_average_step(plan, node, call, include ? kernels::PadCount::kInclude : kernels::PadCount::kExclude, src.ref, dst.ref);
}

namespace {

// The reduced axes are no neighbours: they are brought to the end, and each mean is taken over one run.
void mean_of_distant_axes(PlanBuilder& plan, const Node& node, const Shape& x, const std::vector<bool>& reduced) {
  const Ref src = plan.read(node, node.input(0), Layout::kPlain);
  const Ref gathered = plan.temporary(element_count(x));
  kernels::PoolCall call;
  call.batch = call.in_w = 1;
  Shape extent;
  std::vector<std::int64_t> step;
  for (const bool inner : {false, true}) {
    for (std::size_t d = 0; d < x.size(); ++d) {
      if (reduced[d] != inner) continue;
      extent.push_back(x[d]);
      step.push_back(element_count(std::span(x).subspan(d + 1)));
      (inner ? call.in_w : call.batch) *= x[d];
    }
  }
  const std::int64_t size = element_count(x);
  plan.add_step(node, "gather", 0, [=](const RunContext& run) {
    const std::uint8_t* in = run.in(src);
    std::uint8_t* out = run.ptr(gathered);
    std::vector<std::int64_t> at(extent.size(), 0);
    std::int64_t flat = 0;
    for (std::int64_t i = 0; i < size; ++i) {
      out[i] = in[flat];
      for (std::size_t d = extent.size(); d-- > 0;) {
        flat += step[d];
        if (++at[d] < extent[d]) break;
        at[d] = 0;
        flat -= step[d] * extent[d];
      }
    }
  });
  call.channels = call.ld_src = call.ld_dst = 1;
  call.kernel_w = call.in_w;
  plan.keep(gathered);
  const Ref dst = plan.write(node, node.output(0), Layout::kPlain);
  add_average_step(plan, node, call, kernels::PadCount::kExclude, gathered, dst);
}

}  // namespace

// Over the spatial axes it is a global pool. Over neighbouring axes of the plain layout it is one, too: what lies before is the batch, the
// reduced axes are the pixels, what lies behind the channels.
void lower_reduce_mean(PlanBuilder& plan, const Node& node) {
  const Shape x = plan.shape(node, node.input(0));
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
    for (std::int64_t d = 0; d < rank; ++d)
      physical[static_cast<std::size_t>(physical_axis(d, rank, layout))] = reduced[static_cast<std::size_t>(d)];
  }
  const Shape lies = physical_shape(x, layout);
  kernels::PoolCall call;
  call.batch = call.in_w = call.channels = 1;
  int part = 0;  // 0: before the reduced axes, 1: inside, 2: behind
  for (std::size_t d = 0; d < lies.size(); ++d) {
    if (physical[d]) {
      if (part == 2) return mean_of_distant_axes(plan, node, x, reduced);
      part = 1;
      call.in_w *= lies[d];
    } else {
      if (part == 1) part = 2;
      (part == 0 ? call.batch : call.channels) *= lies[d];
    }
  }
  call.kernel_w = call.in_w;
  call.ld_src = call.ld_dst = call.channels;
  // Where whole rows of channels are averaged, they may lie apart.
  if (spatial && rank > 2) {
    const Rows rows = plan.read_rows(node, node.input(0), layout);
    call.ld_src = rows.ld;
    const Ref dst = plan.write(node, node.output(0), Layout::kPlain);
    return add_average_step(plan, node, call, kernels::PadCount::kExclude, rows.ref, dst);
  }
  const Ref src = plan.read(node, node.input(0), layout);
  // One pixel is left, if the axes are kept: both layouts of it are the same.
  const Ref dst = plan.write(node, node.output(0), Layout::kPlain);
  add_average_step(plan, node, call, kernels::PadCount::kExclude, src, dst);
}

}  // namespace nibble
