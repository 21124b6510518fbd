// Positions and values: OneHot, NonZero, Compress, Trilu.
#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

// ---- OneHot
std::int64_t one_hot_axis(const Node& node, std::int64_t rank) {
  const std::int64_t axis = node.get_int("axis", -1);
  if (axis < -rank - 1 || axis > rank) fail_node(node, "axis {} is out of range for {} axes", axis, rank + 1);
  return axis < 0 ? axis + rank + 1 : axis;
}

std::int64_t one_hot_depth(const Node& node, const Tensor& depth) {
  if (depth.size() != 1 || depth.type() == DataType::kBool)
    fail_node(node, "depth is {}{}; one number is expected", to_string(depth.type()), to_string(depth.shape()));
  const std::int64_t value = to_int64s(depth)[0];
  if (value < 1) fail_node(node, "depth is {}; at least 1 is expected", value);
  return value;
}

void infer_one_hot(InferContext& ctx) {
  const TensorType& indices = type_of(ctx, 0);
  const DataType dtype = type_of(ctx, 2).dtype;
  check_type(ctx.node, 0, indices.dtype, kNumberTypes);
  if (!indices.has_rank) {
    set_output(ctx, 0, unknown_rank(dtype));
    return;
  }
  const std::int64_t axis = one_hot_axis(ctx.node, static_cast<std::int64_t>(indices.dims.size()));
  TensorType out{.dtype = dtype, .has_rank = true, .dims = indices.dims};
  const Tensor* depth = constant_of(ctx, 1);
  out.dims.insert(out.dims.begin() + axis, depth != nullptr ? dim(one_hot_depth(ctx.node, *depth)) : Dim{});
  set_output(ctx, 0, std::move(out));
}

std::vector<Tensor> evaluate_one_hot(const EvalContext& ctx) {
  const Tensor& indices = required(ctx, 0);
  const Tensor& values = required(ctx, 2);
  check_type(ctx.node, 0, indices.type(), kNumberTypes);
  const std::int64_t depth = one_hot_depth(ctx.node, required(ctx, 1));
  if (values.size() != 2) fail_node(ctx.node, "values have shape {}; two elements are expected", to_string(values.shape()));
  const std::int64_t axis = one_hot_axis(ctx.node, indices.rank());
  Shape shape = indices.shape();
  shape.insert(shape.begin() + axis, depth);
  Tensor result(values.type(), std::move(shape));
  const std::int64_t inner = element_count(std::span<const std::int64_t>(indices.shape()).subspan(static_cast<std::size_t>(axis)));
  const auto wanted = to_int64s(indices);
  dispatch_width(ctx.node, values.type(), [&]<typename W>() {
    const W off = raw<W>(values)[0];
    const W on = raw<W>(values)[1];
    W* out = mutable_raw<W>(result);
    std::fill_n(out, result.size(), off);
    for (std::int64_t i = 0; i < indices.size(); ++i) {
      std::int64_t index = wanted[static_cast<std::size_t>(i)];
      if (index < -depth || index >= depth) continue;  // all off
      if (index < 0) index += depth;
      out[(i / inner * depth + index) * inner + i % inner] = on;
    }
  });
  return {std::move(result)};
}

// ---- NonZero: [rank, count]
void infer_non_zero(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  TensorType out = unknown_dims(DataType::kInt64, 2);
  if (x.has_rank) out.dims[0] = dim(static_cast<std::int64_t>(x.dims.size()));
  set_output(ctx, 0, std::move(out));
}

std::vector<Tensor> evaluate_non_zero(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const Tensor flags = cast(x, DataType::kBool);
  std::vector<std::int64_t> found;
  const auto data = flags.data<bool>();
  for (std::size_t i = 0; i < data.size(); ++i) {
    if (data[i]) found.push_back(static_cast<std::int64_t>(i));
  }
  const auto strides = row_major_strides(x.shape());
  Tensor result(DataType::kInt64, {x.rank(), static_cast<std::int64_t>(found.size())});
  auto out = result.mutable_data<std::int64_t>();
  for (std::size_t axis = 0; axis < x.shape().size(); ++axis) {
    for (std::size_t i = 0; i < found.size(); ++i) out[axis * found.size() + i] = found[i] / strides[axis] % x.shape()[axis];
  }
  return {std::move(result)};
}

// ---- Compress
void infer_compress(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  check_type(ctx.node, 1, type_of(ctx, 1).dtype, kBoolType);
  if (!ctx.node.has("axis")) {
    set_output(ctx, 0, unknown_dims(x.dtype, 1));
    return;
  }
  TensorType out = x;
  if (x.has_rank)
    out.dims[static_cast<std::size_t>(normalize_axis(ctx.node, ctx.node.get_int("axis", 0), static_cast<std::int64_t>(x.dims.size())))] =
        {};
  set_output(ctx, 0, std::move(out));
}

std::vector<Tensor> evaluate_compress(const EvalContext& ctx) {
  const bool flat = !ctx.node.has("axis");
  const Tensor x = flat ? required(ctx, 0).reshaped({ctx.input(0).size()}) : required(ctx, 0);
  const Tensor& condition = required(ctx, 1);
  check_type(ctx.node, 1, condition.type(), kBoolType);
  const std::int64_t axis = flat ? 0 : normalize_axis(ctx.node, ctx.node.get_int("axis", 0), x.rank());
  const AxisSplit whole = split_at(x.shape(), axis);
  if (condition.rank() != 1 || condition.size() > whole.axis)
    fail_node(ctx.node, "the condition of shape {} does not fit an axis of size {}", to_string(condition.shape()), whole.axis);
  std::vector<std::int64_t> kept;
  const auto flags = condition.data<bool>();
  for (std::size_t i = 0; i < flags.size(); ++i) {
    if (flags[i]) kept.push_back(static_cast<std::int64_t>(i));
  }
  Shape shape = x.shape();
  shape[static_cast<std::size_t>(axis)] = static_cast<std::int64_t>(kept.size());
  Tensor result(x.type(), std::move(shape));
  if (result.size() == 0) return {std::move(result)};
  const std::size_t block = static_cast<std::size_t>(whole.inner) * element_size(x.type());
  std::byte* out = result.mutable_bytes();
  for (std::int64_t o = 0; o < whole.outer; ++o) {
    for (const std::int64_t i : kept) {
      std::memcpy(out, x.bytes() + static_cast<std::size_t>(o * whole.axis + i) * block, block);
      out += block;
    }
  }
  return {std::move(result)};
}

// ---- Trilu
void infer_trilu(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  if (x.has_rank && x.dims.size() < 2) fail_node(ctx.node, "the input is {}; at least two axes are expected", to_string(x));
  set_output(ctx, 0, x);
}

std::vector<Tensor> evaluate_trilu(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  if (x.rank() < 2) fail_node(ctx.node, "the input has shape {}; at least two axes are expected", to_string(x.shape()));
  const bool upper = ctx.node.get_int("upper", 1) != 0;
  const std::int64_t rows = x.shape()[x.shape().size() - 2];
  const std::int64_t columns = x.shape().back();
  // Beyond the matrix every diagonal is the same.
  const std::int64_t k = std::clamp(ctx.has_input(1) ? scalar_int(ctx.node, ctx.input(1), "k") : 0, -rows - 1, columns + 1);
  Tensor result = x;
  dispatch_width(ctx.node, x.type(), [&]<typename W>() {
    W* row = mutable_raw<W>(result);
    for (std::int64_t r = 0; columns > 0 && r < x.size() / columns; ++r, row += columns) {
      const std::int64_t diagonal = r % rows + k;  // upper keeps columns >= it, lower keeps <= it
      if (upper)
        std::fill_n(row, std::clamp<std::int64_t>(diagonal, 0, columns), W{0});
      else if (diagonal + 1 < columns)
        std::fill(row + std::max<std::int64_t>(diagonal + 1, 0), row + columns, W{0});
    }
  });
  return {std::move(result)};
}

constexpr OpDef kOps[] = {
    {.name = "OneHot", .min_inputs = 3, .max_inputs = 3, .infer = infer_one_hot, .evaluate = evaluate_one_hot, .rule = QuantRule::kNotReal},
    {.name = "NonZero", .infer = infer_non_zero, .evaluate = evaluate_non_zero, .rule = QuantRule::kNotReal},
    {.name = "Compress",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_compress,
     .evaluate = evaluate_compress,
     .note = "the size of its output depends on the data"},
    {.name = "Trilu", .max_inputs = 2, .infer = infer_trilu, .evaluate = evaluate_trilu, .note = "mixes data with exact zeros of masks"},
};

}  // namespace

std::span<const OpDef> indexing_ops() { return kOps; }

}  // namespace nibble
