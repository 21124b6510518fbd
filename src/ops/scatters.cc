// ScatterElements (Scatter up to opset 10) and ScatterND, with the reductions of opsets 16 and 18.
#include <cstring>

#include "ops/index_check.h"
#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

enum class Reduction : std::uint8_t { kNone, kAdd, kMul, kMax, kMin };

Reduction reduction_of(const Node& node) {
  const std::string name = node.get_string("reduction", "none");
  if (name == "none") return Reduction::kNone;
  if (name == "add") return Reduction::kAdd;
  if (name == "mul") return Reduction::kMul;
  if (name == "max") return Reduction::kMax;
  if (name == "min") return Reduction::kMin;
  fail_node(node, "reduction '{}' is not one of none, add, mul, max, min", name);
}

template <typename T>
T combine(Reduction reduction, T old, T update) {
  switch (reduction) {
    case Reduction::kNone: return update;
    case Reduction::kAdd: return wrapping(old, update, [](auto a, auto b) { return a + b; });
    case Reduction::kMul: return wrapping(old, update, [](auto a, auto b) { return a * b; });
    case Reduction::kMax: return update > old || update != update ? update : old;
    case Reduction::kMin: return update < old || update != update ? update : old;
  }
  return update;
}

void infer_scatter(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  check_type(ctx.node, 1, type_of(ctx, 1).dtype, kIndexTypes);
  reduction_of(ctx.node);
  const DataType updates = type_of(ctx, 2).dtype;
  if (x.dtype != updates && x.dtype != DataType::kUndefined && updates != DataType::kUndefined)
    fail_node(ctx.node, "updates are of type {}, the data of type {}", to_string(updates), to_string(x.dtype));
  if (x.has_rank && ctx.node.op_type != "ScatterND")
    normalize_axis(ctx.node, ctx.node.get_int("axis", 0), static_cast<std::int64_t>(x.dims.size()));
  set_output(ctx, 0, x);
}

void check_updates(const EvalContext& ctx) {
  if (required(ctx, 0).type() != required(ctx, 2).type())
    fail_node(ctx.node, "updates are of type {}, the data of type {}", to_string(ctx.input(2).type()), to_string(ctx.input(0).type()));
}

std::vector<Tensor> evaluate_scatter_elements(const EvalContext& ctx) {
  check_updates(ctx);
  const Tensor& x = ctx.input(0);
  const Tensor& where = required(ctx, 1);
  const Tensor& updates = ctx.input(2);
  const Reduction reduction = reduction_of(ctx.node);
  const auto axis = static_cast<std::size_t>(normalize_axis(ctx.node, ctx.node.get_int("axis", 0), x.rank()));
  if (where.shape() != updates.shape())
    fail_node(ctx.node, "indices of shape {} and updates of shape {} differ", to_string(where.shape()), to_string(updates.shape()));
  check_within(ctx.node, x.shape(), where.shape(), axis);
  const auto indices = checked_indices(ctx.node, where, x.shape()[axis]);
  const auto strides = row_major_strides(x.shape());
  Tensor result = x;
  if (reduction == Reduction::kNone) {
    dispatch_width(ctx.node, x.type(), [&]<typename W>() {
      const W* from = raw<W>(updates);
      W* out = mutable_raw<W>(result);
      for_each_element(where.shape(), strides, axis, indices, [&](std::size_t i, std::int64_t at) { out[at] = from[i]; });
    });
  } else {
    dispatch_numbers(ctx.node, x.type(), [&]<typename T>() {
      const T* from = updates.data<T>().data();
      T* out = result.mutable_data<T>().data();
      for_each_element(where.shape(), strides, axis, indices,
                       [&](std::size_t i, std::int64_t at) { out[at] = combine(reduction, out[at], from[i]); });
    });
  }
  return {std::move(result)};
}

std::vector<Tensor> evaluate_scatter_nd(const EvalContext& ctx) {
  check_updates(ctx);
  const Tensor& x = ctx.input(0);
  const Tensor& where = required(ctx, 1);
  const Tensor& updates = ctx.input(2);
  const Reduction reduction = reduction_of(ctx.node);
  if (where.rank() < 1) fail_node(ctx.node, "indices are a scalar; at least one axis is expected");
  const Coordinates at = checked_coordinates(ctx.node, x.shape(), where, 0);
  Shape expected(where.shape().begin(), where.shape().end() - 1);
  expected.insert(expected.end(), x.shape().begin() + at.depth, x.shape().end());
  if (updates.shape() != expected)
    fail_node(ctx.node, "updates have shape {}; {} is expected", to_string(updates.shape()), to_string(expected));
  Tensor result = x;
  if (updates.size() == 0) return {std::move(result)};
  if (reduction == Reduction::kNone) {
    const std::size_t width = element_size(x.type());
    const std::size_t block = static_cast<std::size_t>(at.block) * width;
    std::byte* out = result.mutable_bytes();
    const std::byte* from = updates.bytes();
    for (const std::int64_t offset : at.offsets) {
      std::memcpy(out + static_cast<std::size_t>(offset) * width, from, block);
      from += block;
    }
  } else {
    dispatch_numbers(ctx.node, x.type(), [&]<typename T>() {
      const T* from = updates.data<T>().data();
      T* out = result.mutable_data<T>().data();
      for (const std::int64_t offset : at.offsets) {
        for (std::int64_t i = 0; i < at.block; ++i) out[offset + i] = combine(reduction, out[offset + i], *from++);
      }
    });
  }
  return {std::move(result)};
}

constexpr std::string_view kWhy = "writes updates of one range into data of another";

constexpr OpDef kOps[] = {
    {.name = "Scatter",
     .min_inputs = 3,
     .max_inputs = 3,
     .infer = infer_scatter,
     .evaluate = widened<evaluate_scatter_elements>,
     .note = kWhy},
    {.name = "ScatterElements",
     .min_inputs = 3,
     .max_inputs = 3,
     .infer = infer_scatter,
     .evaluate = widened<evaluate_scatter_elements>,
     .note = kWhy},
    {.name = "ScatterND", .min_inputs = 3, .max_inputs = 3, .infer = infer_scatter, .evaluate = widened<evaluate_scatter_nd>, .note = kWhy},
};

}  // namespace

std::span<const OpDef> scatter_ops() { return kOps; }

}  // namespace nibble
