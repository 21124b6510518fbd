// Gather, GatherElements, GatherND. Indices lie in [-size, size - 1]; one that does not is an error.
#include <cstring>

#include "ops/index_check.h"
#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

// ---- Gather
void infer_gather(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  const TensorType& indices = type_of(ctx, 1);
  check_type(ctx.node, 1, indices.dtype, kIndexTypes);
  if (!x.has_rank || !indices.has_rank) {
    set_output(ctx, 0, unknown_rank(x.dtype));
    return;
  }
  const auto axis =
      static_cast<std::size_t>(normalize_axis(ctx.node, ctx.node.get_int("axis", 0), static_cast<std::int64_t>(x.dims.size())));
  TensorType out{.dtype = x.dtype, .has_rank = true, .dims = {}};
  for (std::size_t i = 0; i < axis; ++i) out.dims.push_back(x.dims[i]);
  for (const Dim& d : indices.dims) out.dims.push_back(d);
  for (std::size_t i = axis + 1; i < x.dims.size(); ++i) out.dims.push_back(x.dims[i]);
  set_output(ctx, 0, std::move(out));
}

std::vector<Tensor> evaluate_gather(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const std::int64_t axis = normalize_axis(ctx.node, ctx.node.get_int("axis", 0), x.rank());
  const AxisSplit whole = split_at(x.shape(), axis);
  const auto indices = checked_indices(ctx.node, required(ctx, 1), whole.axis);
  Shape shape(x.shape().begin(), x.shape().begin() + axis);
  shape.insert(shape.end(), ctx.input(1).shape().begin(), ctx.input(1).shape().end());
  shape.insert(shape.end(), x.shape().begin() + axis + 1, x.shape().end());
  Tensor result(x.type(), std::move(shape));
  const std::size_t block = static_cast<std::size_t>(whole.inner) * element_size(x.type());
  if (result.size() == 0) return {std::move(result)};
  std::byte* out = result.mutable_bytes();
  for (std::int64_t o = 0; o < whole.outer; ++o) {
    const std::byte* in = x.bytes() + static_cast<std::size_t>(o * whole.axis) * block;
    for (const std::int64_t index : indices) {
      std::memcpy(out, in + static_cast<std::size_t>(index) * block, block);
      out += block;
    }
  }
  return {std::move(result)};
}

// ---- GatherElements
void infer_gather_elements(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  const TensorType& indices = type_of(ctx, 1);
  check_type(ctx.node, 1, indices.dtype, kIndexTypes);
  if (x.has_rank) {
    normalize_axis(ctx.node, ctx.node.get_int("axis", 0), static_cast<std::int64_t>(x.dims.size()));
    if (indices.has_rank && indices.dims.size() != x.dims.size())
      fail_node(ctx.node, "data {} and indices {} differ in rank", to_string(x), to_string(indices));
  }
  TensorType out = indices;
  out.dtype = x.dtype;
  set_output(ctx, 0, std::move(out));
}

std::vector<Tensor> evaluate_gather_elements(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const Tensor& where = required(ctx, 1);
  const auto axis = static_cast<std::size_t>(normalize_axis(ctx.node, ctx.node.get_int("axis", 0), x.rank()));
  check_within(ctx.node, x.shape(), where.shape(), axis);
  const auto indices = checked_indices(ctx.node, where, x.shape()[axis]);
  Tensor result(x.type(), where.shape());
  const auto strides = row_major_strides(x.shape());
  dispatch_width(ctx.node, x.type(), [&]<typename W>() {
    const W* in = raw<W>(x);
    W* out = mutable_raw<W>(result);
    for_each_element(where.shape(), strides, axis, indices, [&](std::size_t i, std::int64_t at) { out[i] = in[at]; });
  });
  return {std::move(result)};
}

// ---- GatherND
void infer_gather_nd(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  const TensorType& indices = type_of(ctx, 1);
  check_type(ctx.node, 1, indices.dtype, type_bit(DataType::kInt64));
  TensorType out = unknown_rank(x.dtype);
  if (x.has_rank && indices.has_rank) {
    const auto x_rank = static_cast<std::int64_t>(x.dims.size());
    const auto i_rank = static_cast<std::int64_t>(indices.dims.size());
    const std::int64_t batch = ctx.node.get_int("batch_dims", 0);
    if (i_rank < 1) fail_node(ctx.node, "indices are a scalar; at least one axis is expected");
    if (batch < 0 || batch >= std::min(x_rank, i_rank))
      fail_node(ctx.node, "batch_dims {} does not fit data {} and indices {}", batch, to_string(x), to_string(indices));
    if (indices.dims.back().known()) {
      const std::int64_t depth = indices.dims.back().size;
      if (depth < 1 || depth > x_rank - batch) fail_node(ctx.node, "indices of {} coordinates do not fit data {}", depth, to_string(x));
      out.has_rank = true;
      out.dims.assign(indices.dims.begin(), indices.dims.end() - 1);
      out.dims.insert(out.dims.end(), x.dims.begin() + batch + depth, x.dims.end());
    }
  }
  set_output(ctx, 0, std::move(out));
}

std::vector<Tensor> evaluate_gather_nd(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const Tensor& where = required(ctx, 1);
  if (where.rank() < 1) fail_node(ctx.node, "indices are a scalar; at least one axis is expected");
  const std::int64_t batch = ctx.node.get_int("batch_dims", 0);
  if (batch < 0 || batch >= std::min(x.rank(), where.rank()))
    fail_node(ctx.node, "batch_dims {} does not fit data {} and indices {}", batch, to_string(x.shape()), to_string(where.shape()));
  for (std::size_t i = 0; i < static_cast<std::size_t>(batch); ++i) {
    if (x.shape()[i] != where.shape()[i])
      fail_node(ctx.node, "the batch axes of data {} and indices {} differ", to_string(x.shape()), to_string(where.shape()));
  }
  const Coordinates at = checked_coordinates(ctx.node, x.shape(), where, batch);
  Shape shape(where.shape().begin(), where.shape().end() - 1);
  shape.insert(shape.end(), x.shape().begin() + batch + at.depth, x.shape().end());
  Tensor result(x.type(), std::move(shape));
  const std::size_t block = static_cast<std::size_t>(at.block) * element_size(x.type());
  if (result.size() == 0) return {std::move(result)};
  std::byte* out = result.mutable_bytes();
  for (const std::int64_t offset : at.offsets) {
    std::memcpy(out, x.bytes() + static_cast<std::size_t>(offset) * element_size(x.type()), block);
    out += block;
  }
  return {std::move(result)};
}

constexpr OpDef kOps[] = {
    {.name = "Gather", .min_inputs = 2, .max_inputs = 2, .infer = infer_gather, .evaluate = evaluate_gather, .rule = QuantRule::kTied},
    {.name = "GatherElements",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_gather_elements,
     .evaluate = evaluate_gather_elements,
     .rule = QuantRule::kTied},
    {.name = "GatherND",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_gather_nd,
     .evaluate = evaluate_gather_nd,
     .rule = QuantRule::kTied},
};

}  // namespace

std::span<const OpDef> gather_ops() { return kOps; }

}  // namespace nibble
