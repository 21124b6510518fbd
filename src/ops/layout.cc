// Elements moved as they are: Transpose, Expand, Tile.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "ops/broadcast.h"
#include "ops/math_families.h"

namespace nibble {
namespace {

// ---- Transpose
std::vector<std::int64_t> permutation(const Node& node, std::int64_t rank) {
  const auto given = node.get_ints("perm");
  if (!given) {
    std::vector<std::int64_t> reversed(static_cast<std::size_t>(rank));
    std::iota(reversed.rbegin(), reversed.rend(), 0);
    return reversed;
  }
  if (static_cast<std::int64_t>(given->size()) != rank) fail_node(node, "perm {} is not of {} axes", to_string(*given), rank);
  for (const std::int64_t axis : *given) {
    if (axis < 0 || std::count(given->begin(), given->end(), axis) != 1 || axis >= rank)
      fail_node(node, "perm {} is not a permutation of {} axes", to_string(*given), rank);
  }
  return *given;
}

void infer_transpose(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  if (!x.has_rank) {
    const auto given = ctx.node.get_ints("perm");
    set_output(ctx, 0, given ? unknown_dims(x.dtype, static_cast<std::int64_t>(given->size())) : unknown_rank(x.dtype));
    return;
  }
  TensorType out{.dtype = x.dtype, .has_rank = true, .dims = {}};
  for (const std::int64_t axis : permutation(ctx.node, static_cast<std::int64_t>(x.dims.size())))
    out.dims.push_back(x.dims[static_cast<std::size_t>(axis)]);
  set_output(ctx, 0, std::move(out));
}

// Merged axes of a transposition: sizes in the output's order and the input's stride along each.
struct Walk {
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> strides;
};

Walk merged_walk(const Shape& shape, std::span<const std::int64_t> perm) {
  const auto strides = row_major_strides(shape);
  Walk walk;
  for (const std::int64_t axis : perm) {
    const std::int64_t size = shape[static_cast<std::size_t>(axis)];
    const std::int64_t stride = strides[static_cast<std::size_t>(axis)];
    if (size == 1) continue;
    if (!walk.sizes.empty() && walk.strides.back() == stride * size) {
      walk.sizes.back() *= size;
      walk.strides.back() = stride;
    } else {
      walk.sizes.push_back(size);
      walk.strides.push_back(stride);
    }
  }
  if (walk.sizes.empty()) walk = {.sizes = {1}, .strides = {1}};
  return walk;
}

// [rows, columns] planes whose columns lie `stride` apart and whose rows lie next to each other in the input: in tiles, so that both sides
// stay in the cache.
template <typename W>
void transpose_plane(const W* in, W* out, std::int64_t rows, std::int64_t columns, std::int64_t row_stride, std::int64_t column_stride) {
  constexpr std::int64_t kTile = 16;
  for (std::int64_t r0 = 0; r0 < rows; r0 += kTile) {
    const std::int64_t r1 = std::min(rows, r0 + kTile);
    for (std::int64_t c0 = 0; c0 < columns; c0 += kTile) {
      const std::int64_t c1 = std::min(columns, c0 + kTile);
      for (std::int64_t r = r0; r < r1; ++r) {
        for (std::int64_t c = c0; c < c1; ++c) out[r * columns + c] = in[r * row_stride + c * column_stride];
      }
    }
  }
}

template <typename W>
void transpose_into(const W* in, W* out, const Walk& walk, ThreadPool* pool) {
  const std::size_t axes = walk.sizes.size();
  const std::int64_t columns = walk.sizes[axes - 1];
  const std::int64_t rows = axes > 1 ? walk.sizes[axes - 2] : 1;
  const std::int64_t row_stride = axes > 1 ? walk.strides[axes - 2] : 0;
  std::int64_t planes = 1;
  for (std::size_t i = 0; i + 2 < axes; ++i) planes *= walk.sizes[i];
  const std::int64_t plane = rows * columns;
  if (plane == 0 || planes == 0) return;
  parallel_for(pool, planes, std::max<std::int64_t>(1, kElementGrain / plane), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      std::int64_t offset = 0;
      std::int64_t rest = p;
      for (std::size_t i = axes > 2 ? axes - 2 : 0; i-- > 0;) {
        offset += rest % walk.sizes[i] * walk.strides[i];
        rest /= walk.sizes[i];
      }
      W* to = out + p * plane;
      if (walk.strides[axes - 1] == 1) {
        for (std::int64_t r = 0; r < rows; ++r)
          std::memcpy(to + r * columns, in + offset + r * row_stride, static_cast<std::size_t>(columns) * sizeof(W));
      } else {
        transpose_plane(in + offset, to, rows, columns, row_stride, walk.strides[axes - 1]);
      }
    }
  });
}

std::vector<Tensor> evaluate_transpose(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const auto perm = permutation(ctx.node, x.rank());
  Shape shape;
  for (const std::int64_t axis : perm) shape.push_back(x.shape()[static_cast<std::size_t>(axis)]);
  const Walk walk = merged_walk(x.shape(), perm);
  if (x.size() == 0 || (walk.sizes.size() == 1 && walk.strides[0] == 1)) return {x.reshaped(std::move(shape))};
  Tensor result(x.type(), std::move(shape));
  dispatch_width(ctx.node, x.type(), [&]<typename W>() { transpose_into(raw<W>(x), mutable_raw<W>(result), walk, ctx.pool); });
  return {std::move(result)};
}

// ---- Expand: broadcast to (at least) a shape
Shape expand_target(const Node& node, const Tensor& shape) {
  Shape target = index_values(node, shape, "the shape");
  for (const std::int64_t size : target) {
    if (size < 0) fail_node(node, "the shape {} has a negative size", to_string(target));
  }
  return target;
}

void infer_expand(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  if (const Tensor* shape = constant_of(ctx, 1)) {
    const TensorType out = broadcast_types(ctx.node, x, make_type(x.dtype, expand_target(ctx.node, *shape)), x.dtype);
    if (out.fully_known()) element_count(out.shape());  // throws where it overflows
    set_output(ctx, 0, out);
    return;
  }
  const TensorType& shape = type_of(ctx, 1);
  const bool counted = x.has_rank && shape.has_rank && shape.dims.size() == 1 && shape.dims[0].known() && shape.dims[0].size <= 1024;
  set_output(
      ctx, 0,
      counted ? unknown_dims(x.dtype, std::max(static_cast<std::int64_t>(x.dims.size()), shape.dims[0].size)) : unknown_rank(x.dtype));
}

std::vector<Tensor> evaluate_expand(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const Shape target = expand_target(ctx.node, required(ctx, 1));
  const BroadcastPlan plan = plan_broadcast(ctx.node, {&x.shape(), &target});
  if (plan.shape == x.shape()) return {x};
  Tensor result(x.type(), plan.shape);
  dispatch_width(ctx.node, x.type(), [&]<typename W>() {
    const W* in = raw<W>(x);
    W* out = mutable_raw<W>(result);
    for_each_run(plan, ctx.pool, [&](std::int64_t at, const auto& from, const auto& steps, std::int64_t count) {
      if (steps[0] == 0)
        std::fill_n(out + at, count, in[from[0]]);
      else
        std::memcpy(out + at, in + from[0], static_cast<std::size_t>(count) * sizeof(W));
    });
  });
  return {std::move(result)};
}

// ---- Tile
std::vector<std::int64_t> tile_repeats(const Node& node, const Tensor& repeats, std::int64_t rank) {
  auto values = index_values(node, repeats, "repeats");
  if (static_cast<std::int64_t>(values.size()) != rank) fail_node(node, "repeats {} are not of {} axes", to_string(values), rank);
  for (const std::int64_t value : values) {
    if (value < 0) fail_node(node, "repeats {} hold a negative number", to_string(values));
  }
  return values;
}

void infer_tile(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  if (!x.has_rank) {
    set_output(ctx, 0, unknown_rank(x.dtype));
    return;
  }
  TensorType out = unknown_dims(x.dtype, static_cast<std::int64_t>(x.dims.size()));
  if (const Tensor* repeats = constant_of(ctx, 1)) {
    const auto times = tile_repeats(ctx.node, *repeats, static_cast<std::int64_t>(x.dims.size()));
    for (std::size_t i = 0; i < times.size(); ++i) {
      if (x.dims[i].known())
        out.dims[i] = dim(mul_sizes(ctx.node, x.dims[i].size, times[i]));
      else if (times[i] == 1)
        out.dims[i] = x.dims[i];
    }
    if (out.fully_known()) element_count(out.shape());
  }
  set_output(ctx, 0, std::move(out));
}

std::vector<Tensor> evaluate_tile(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const auto times = tile_repeats(ctx.node, required(ctx, 1), x.rank());
  Shape shape = x.shape();
  for (std::size_t i = 0; i < shape.size(); ++i) shape[i] = mul_sizes(ctx.node, shape[i], times[i]);
  Tensor result(x.type(), shape);
  if (result.size() == 0) return {std::move(result)};
  const auto in_strides = row_major_strides(x.shape());
  const std::size_t rank = shape.size();
  const std::size_t width = element_size(x.type());
  if (rank == 0) return {x};
  // Row by row of the last axis: each output row repeats one input row.
  const auto row_bytes = static_cast<std::size_t>(x.shape()[rank - 1]) * width;
  std::vector<std::int64_t> index(rank - 1, 0);
  std::byte* out = result.mutable_bytes();
  do {
    std::int64_t from = 0;
    for (std::size_t i = 0; i + 1 < rank; ++i) from += index[i] % x.shape()[i] * in_strides[i];
    for (std::int64_t t = 0; t < times[rank - 1]; ++t) {
      std::memcpy(out, x.bytes() + static_cast<std::size_t>(from) * width, row_bytes);
      out += row_bytes;
    }
  } while (next_index(index, std::span<const std::int64_t>(shape).first(rank - 1)));
  return {std::move(result)};
}

constexpr OpDef kOps[] = {
    {.name = "Transpose", .infer = infer_transpose, .evaluate = evaluate_transpose, .rule = QuantRule::kTied},
    {.name = "Expand", .min_inputs = 2, .max_inputs = 2, .infer = infer_expand, .evaluate = evaluate_expand, .rule = QuantRule::kTied},
    {.name = "Tile", .min_inputs = 2, .max_inputs = 2, .infer = infer_tile, .evaluate = evaluate_tile, .rule = QuantRule::kTied},
};

}  // namespace

std::span<const OpDef> layout_ops() { return kOps; }

}  // namespace nibble
