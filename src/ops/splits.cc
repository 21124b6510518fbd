// Concat and Split along one axis.
#include <cstring>

#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

// ---- Concat
std::int64_t concat_axis(const Node& node, std::int64_t rank) {
  if (!node.has("axis")) fail_node(node, "the attribute 'axis' is missing");
  if (rank == 0) fail_node(node, "scalars cannot be joined");
  return normalize_axis(node, node.get_int("axis", 0), rank);
}

void infer_concat(InferContext& ctx) {
  DataType dtype = DataType::kUndefined;
  const TensorType* ranked = nullptr;
  bool all_ranked = true;
  for (std::size_t i = 0; i < ctx.inputs.size(); ++i) {
    const TensorType& x = type_of(ctx, i);
    if (dtype == DataType::kUndefined)
      dtype = x.dtype;
    else if (x.dtype != DataType::kUndefined && x.dtype != dtype)
      fail_node(ctx.node, "input {} is of type {}, the others of type {}", i, to_string(x.dtype), to_string(dtype));
    if (!x.has_rank) {
      all_ranked = false;
      continue;
    }
    if (ranked == nullptr) ranked = &x;
    if (x.dims.size() != ranked->dims.size())
      fail_node(ctx.node, "input {} is {}; the others have {} axes", i, to_string(x), ranked->dims.size());
  }
  if (ranked == nullptr) {
    set_output(ctx, 0, unknown_rank(dtype));
    return;
  }
  const auto axis = static_cast<std::size_t>(concat_axis(ctx.node, static_cast<std::int64_t>(ranked->dims.size())));
  TensorType out = unknown_dims(dtype, static_cast<std::int64_t>(ranked->dims.size()));
  std::int64_t length = all_ranked ? 0 : -1;
  for (std::size_t k = 0; k < ctx.inputs.size(); ++k) {
    const TensorType& x = type_of(ctx, k);
    if (!x.has_rank) continue;
    for (std::size_t i = 0; i < x.dims.size(); ++i) {
      if (i != axis) out.dims[i] = merge_dims(ctx.node, out.dims[i], x.dims[i], fmt::format("axis {} of the inputs", i));
    }
    if (length >= 0) length = x.dims[axis].known() ? add_sizes(ctx.node, length, x.dims[axis].size) : -1;
  }
  if (length >= 0) out.dims[axis] = dim(length);
  set_output(ctx, 0, std::move(out));
}

std::vector<Tensor> evaluate_concat(const EvalContext& ctx) {
  const Tensor& first = required(ctx, 0);
  const auto axis = static_cast<std::size_t>(concat_axis(ctx.node, first.rank()));
  Shape shape = first.shape();
  shape[axis] = 0;
  for (std::size_t i = 0; i < ctx.inputs.size(); ++i) {
    const Tensor& x = required(ctx, i);
    if (x.type() != first.type())
      fail_node(ctx.node, "input {} is of type {}, the others of type {}", i, to_string(x.type()), to_string(first.type()));
    Shape same = x.shape();
    if (same.size() == shape.size()) same[axis] = first.shape()[axis];
    if (same != first.shape())
      fail_node(ctx.node, "input {} of shape {} does not fit input 0 of shape {}", i, to_string(x.shape()), to_string(first.shape()));
    shape[axis] = add_sizes(ctx.node, shape[axis], x.shape()[axis]);
  }
  if (ctx.inputs.size() == 1) return {first};
  Tensor result(first.type(), shape);
  const std::size_t width = element_size(first.type());
  const AxisSplit whole = split_at(shape, static_cast<std::int64_t>(axis));
  const auto out_row = static_cast<std::size_t>(whole.axis * whole.inner) * width;
  std::byte* out = result.mutable_bytes();
  std::size_t at = 0;
  for (const Tensor* x : ctx.inputs) {
    const auto row = static_cast<std::size_t>(x->shape()[axis] * whole.inner) * width;
    if (row == 0) continue;
    for (std::int64_t o = 0; o < whole.outer; ++o)
      std::memcpy(out + static_cast<std::size_t>(o) * out_row + at, x->bytes() + static_cast<std::size_t>(o) * row, row);
    at += row;
  }
  return {std::move(result)};
}

// ---- Split: lengths are an attribute up to opset 12, an input from 13 on; without them the axis is cut into equal parts, of which the
// last may be smaller from opset 18 on.
std::vector<std::int64_t> split_lengths(const Node& node, const IntsArgument& given, std::int64_t size, std::size_t outputs, int opset) {
  const bool counted = node.has("num_outputs");
  if (given.given) {
    if (counted) fail_node(node, "has both split lengths and num_outputs");
    std::int64_t sum = 0;
    for (const std::int64_t length : *given.values) {
      if (length < 0) fail_node(node, "split lengths {} hold a negative one", to_string(*given.values));
      sum = add_sizes(node, sum, length);
    }
    if (given.values->size() != outputs) fail_node(node, "has {} outputs but split lengths {}", outputs, to_string(*given.values));
    if (size >= 0 && sum != size) fail_node(node, "split lengths {} do not add up to {}", to_string(*given.values), size);
    return *given.values;
  }
  const auto parts = static_cast<std::int64_t>(outputs);
  if (counted && node.get_int("num_outputs", 0) != parts)
    fail_node(node, "has {} outputs but num_outputs is {}", parts, node.get_int("num_outputs", 0));
  if (size < 0) return {};
  if (opset < 18 && size % parts != 0) fail_node(node, "an axis of size {} cannot be cut into {} equal parts", size, parts);
  const std::int64_t length = (size + parts - 1) / parts;
  std::vector<std::int64_t> lengths;
  for (std::int64_t i = 0; i < parts; ++i) lengths.push_back(std::clamp<std::int64_t>(size - i * length, 0, length));
  return lengths;
}

void infer_split(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  if (!x.has_rank) {
    for (TensorType& out : ctx.outputs) out = unknown_rank(x.dtype);
    return;
  }
  const auto axis =
      static_cast<std::size_t>(normalize_axis(ctx.node, ctx.node.get_int("axis", 0), static_cast<std::int64_t>(x.dims.size())));
  const IntsArgument given = ints_argument(ctx, "split", 1);
  std::vector<std::int64_t> lengths;
  if (!given.given || given.values)
    lengths = split_lengths(ctx.node, given, x.dims[axis].known() ? x.dims[axis].size : -1, ctx.outputs.size(), ctx.opset);
  for (std::size_t i = 0; i < ctx.outputs.size(); ++i) {
    ctx.outputs[i] = x;
    ctx.outputs[i].dims[axis] = i < lengths.size() ? dim(lengths[i]) : Dim{};
  }
}

std::vector<Tensor> evaluate_split(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const std::int64_t axis = normalize_axis(ctx.node, ctx.node.get_int("axis", 0), x.rank());
  const AxisSplit whole = split_at(x.shape(), axis);
  const auto lengths = split_lengths(ctx.node, ints_argument(ctx, "split", 1), whole.axis, ctx.node.outputs.size(), ctx.opset);
  const std::size_t width = element_size(x.type());
  const auto in_row = static_cast<std::size_t>(whole.axis * whole.inner) * width;
  std::vector<Tensor> results;
  std::size_t at = 0;
  for (const std::int64_t length : lengths) {
    Shape shape = x.shape();
    shape[static_cast<std::size_t>(axis)] = length;
    Tensor part(x.type(), std::move(shape));
    const auto row = static_cast<std::size_t>(length * whole.inner) * width;
    std::byte* out = part.mutable_bytes();
    if (row > 0) {
      for (std::int64_t o = 0; o < whole.outer; ++o)
        std::memcpy(out + static_cast<std::size_t>(o) * row, x.bytes() + static_cast<std::size_t>(o) * in_row + at, row);
    }
    at += row;
    results.push_back(std::move(part));
  }
  return results;
}

constexpr OpDef kOps[] = {
    {.name = "Concat", .max_inputs = -1, .infer = infer_concat, .evaluate = evaluate_concat, .rule = QuantRule::kTied},
    {.name = "Split", .max_inputs = 2, .max_outputs = -1, .infer = infer_split, .evaluate = evaluate_split, .rule = QuantRule::kTied},
};

}  // namespace

std::span<const OpDef> split_ops() { return kOps; }

}  // namespace nibble
