// Slice: attributes up to opset 9, inputs from 10 on; steps may be negative.
#include <algorithm>
#include <cstring>
#include <limits>

#include "base/checked.h"
#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

struct Range {
  std::int64_t start = 0, step = 1, count = 0;
};

// One axis, with the clamping of the specification.
Range slice_range(const Node& node, std::int64_t start, std::int64_t end, std::int64_t step, std::int64_t size) {
  if (step == 0) fail_node(node, "a step is 0");
  if (start < 0) start += size;
  if (end < 0) end += size;  // cannot overflow: the two have opposite signs
  if (step > 0) {
    start = std::clamp<std::int64_t>(start, 0, size);
    end = std::clamp<std::int64_t>(end, 0, size);
    if (end <= start) return {.start = start, .step = step, .count = 0};
    return {.start = start, .step = step, .count = (end - start - 1) / step + 1};
  }
  start = std::clamp<std::int64_t>(start, size > 0 ? 0 : -1, size - 1);
  end = std::clamp<std::int64_t>(end, -1, size - 1);
  if (end >= start) return {.start = start, .step = step, .count = 0};
  // -(step + 1) instead of -step: the lowest int64 has no negative.
  const auto stride = static_cast<std::uint64_t>(-(step + 1)) + 1;
  return {.start = start, .step = step, .count = static_cast<std::int64_t>(static_cast<std::uint64_t>(start - end - 1) / stride) + 1};
}

struct SliceArguments {
  std::vector<std::int64_t> starts, ends, axes, steps;
};

template <typename Context>
std::optional<SliceArguments> slice_arguments(const Context& ctx) {
  const Node& node = ctx.node;
  const IntsArgument starts = ints_argument(ctx, "starts", 1);
  const IntsArgument ends = ints_argument(ctx, "ends", 2);
  const IntsArgument axes = ints_argument(ctx, "axes", 3);
  const IntsArgument steps = ints_argument(ctx, "steps", 4);
  if (!starts.given || !ends.given) fail_node(node, "starts or ends are missing");
  for (const IntsArgument* argument : {&starts, &ends, &axes, &steps}) {
    if (argument->given && !argument->values) return std::nullopt;
  }
  SliceArguments result{.starts = *starts.values, .ends = *ends.values, .axes = {}, .steps = {}};
  const std::size_t n = result.starts.size();
  if (axes.given) {
    result.axes = *axes.values;
  } else {
    for (std::size_t i = 0; i < n; ++i) result.axes.push_back(static_cast<std::int64_t>(i));
  }
  result.steps = steps.given ? *steps.values : std::vector<std::int64_t>(n, 1);
  if (result.ends.size() != n || result.axes.size() != n || result.steps.size() != n)
    fail_node(node, "starts, ends, axes and steps have {}, {}, {} and {} elements", n, result.ends.size(), result.axes.size(),
              result.steps.size());
  for (const std::int64_t step : result.steps) {
    if (step == 0) fail_node(node, "a step is 0");
  }
  return result;
}

void infer_slice(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  const auto args = slice_arguments(ctx);
  if (!x.has_rank) {
    set_output(ctx, 0, unknown_rank(x.dtype));
    return;
  }
  TensorType out = x;
  if (!args) {
    // Axes that are known not to be sliced keep their sizes.
    const IntsArgument axes = ints_argument(ctx, "axes", 3);
    if (axes.given && axes.values) {
      for (const std::int64_t axis : normalize_axes(ctx.node, *axes.values, static_cast<std::int64_t>(x.dims.size())))
        out.dims[static_cast<std::size_t>(axis)] = {};
    } else {
      out.dims.assign(x.dims.size(), Dim{});
    }
    set_output(ctx, 0, std::move(out));
    return;
  }
  const auto axes = normalize_axes(ctx.node, args->axes, static_cast<std::int64_t>(x.dims.size()));
  for (std::size_t i = 0; i < axes.size(); ++i) {
    Dim& d = out.dims[static_cast<std::size_t>(axes[i])];
    if (d.known()) {
      d = dim(slice_range(ctx.node, args->starts[i], args->ends[i], args->steps[i], d.size).count);
    } else {
      const bool whole = args->starts[i] == 0 && args->steps[i] == 1 && args->ends[i] >= std::numeric_limits<std::int32_t>::max();
      if (!whole) d = {};
    }
  }
  set_output(ctx, 0, std::move(out));
}

std::vector<Tensor> evaluate_slice(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const SliceArguments args = slice_arguments(ctx).value();
  const auto axes = normalize_axes(ctx.node, args.axes, x.rank());
  std::vector<Range> ranges;
  for (const std::int64_t size : x.shape()) ranges.push_back({.start = 0, .step = 1, .count = size});
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<std::size_t>(axes[i]);
    ranges[axis] = slice_range(ctx.node, args.starts[i], args.ends[i], args.steps[i], x.shape()[axis]);
  }
  Shape shape;
  for (const Range& range : ranges) shape.push_back(range.count);
  if (shape == x.shape() && std::all_of(ranges.begin(), ranges.end(), [](const Range& r) { return r.step == 1 || r.count <= 1; }))
    return {x};
  Tensor result(x.type(), shape);
  if (result.size() == 0) return {std::move(result)};
  const auto strides = row_major_strides(x.shape());
  // Trailing axes that are taken whole move as one block.
  std::size_t outer = shape.size();
  std::int64_t block = 1;
  while (outer > 0 && ranges[outer - 1].step == 1) {
    block *= ranges[outer - 1].count;
    --outer;
    if (ranges[outer].count != x.shape()[outer]) break;
  }
  std::int64_t start = 0;
  for (std::size_t i = 0; i < shape.size(); ++i) start += ranges[i].start * strides[i];
  dispatch_width(ctx.node, x.type(), [&]<typename W>() {
    const W* in = raw<W>(x) + start;
    W* out = mutable_raw<W>(result);
    // Single elements a step apart: the last axis is a loop of its own.
    const bool strided = block == 1 && outer > 0 && strides[outer - 1] == 1;
    const std::int64_t step = strided && shape[outer - 1] > 1 ? ranges[outer - 1].step : 0;
    const std::int64_t run = strided ? shape[outer - 1] : 1;
    if (strided) --outer;
    std::vector<std::int64_t> index(outer, 0);
    const std::span<const std::int64_t> counts = std::span<const std::int64_t>(shape).first(outer);
    do {
      std::int64_t from = 0;
      // A step that only ever multiplies index 0 may be anything.
      for (std::size_t i = 0; i < outer; ++i) from += index[i] == 0 ? 0 : index[i] * ranges[i].step * strides[i];
      if (strided) {
        for (std::int64_t i = 0; i < run; ++i) *out++ = in[from + i * step];
      } else {
        std::memcpy(out, in + from, static_cast<std::size_t>(block) * sizeof(W));
        out += block;
      }
    } while (next_index(index, counts));
  });
  return {std::move(result)};
}

constexpr OpDef kOps[] = {
    {.name = "Slice", .max_inputs = 5, .infer = infer_slice, .evaluate = evaluate_slice, .rule = QuantRule::kTied},
};

}  // namespace

std::span<const OpDef> slice_ops() { return kOps; }

}  // namespace nibble
