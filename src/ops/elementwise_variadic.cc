// Any number of broadcast inputs of one type, folded from the left: Max, Min, Sum, Mean. And Where, which picks by a condition.
#include <type_traits>

#include "ops/broadcast.h"
#include "ops/math_families.h"

namespace nibble {
namespace {

// A NaN on either side wins, as NumPy has it.
struct MaxOp {
  template <typename T>
  T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};
struct MinOp {
  template <typename T>
  T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};
struct SumOp {
  template <typename T>
  T operator()(T a, T b) const {
    return a + b;
  }
};

template <TypeSet kTypes>
void infer_variadic(InferContext& ctx) {
  TensorType type = type_of(ctx, 0);
  check_type(ctx.node, 0, type.dtype, kTypes);
  for (std::size_t i = 1; i < ctx.inputs.size(); ++i) {
    const TensorType& next = type_of(ctx, i);
    check_type(ctx.node, i, next.dtype, kTypes);
    if (type.dtype != next.dtype && type.dtype != DataType::kUndefined && next.dtype != DataType::kUndefined)
      fail_node(ctx.node, "inputs 0 and {} are of types {} and {}; they must be of one type", i, to_string(type.dtype),
                to_string(next.dtype));
    type = broadcast_types(ctx.node, type, next, type.dtype == DataType::kUndefined ? next.dtype : type.dtype);
  }
  set_output(ctx, 0, std::move(type));
}

template <typename F, TypeSet kTypes>
Tensor fold(const EvalContext& ctx) {
  Tensor result = required(ctx, 0);
  check_type(ctx.node, 0, result.type(), kTypes);
  for (std::size_t i = 1; i < ctx.inputs.size(); ++i) {
    const Tensor& next = required(ctx, i);
    if (next.type() != result.type())
      fail_node(ctx.node, "inputs 0 and {} are of types {} and {}; they must be of one type", i, to_string(result.type()),
                to_string(next.type()));
    const auto step = [&]<typename T>() { return broadcast_binary<T, T, T>(ctx, result, next, F{}); };
    if constexpr (std::is_same_v<F, SumOp>) {
      result = dispatch_floats(ctx.node, result.type(), step);
    } else {
      result = dispatch_numbers(ctx.node, result.type(), step);
    }
  }
  return result;
}

template <typename F, TypeSet kTypes>
std::vector<Tensor> evaluate_fold(const EvalContext& ctx) {
  return {fold<F, kTypes>(ctx)};
}

std::vector<Tensor> evaluate_mean(const EvalContext& ctx) {
  Tensor sum = fold<SumOp, kFloatTypes>(ctx);
  dispatch_floats(ctx.node, sum.type(), [&]<typename T>() {
    const T count = static_cast<T>(ctx.inputs.size());
    for (T& value : sum.mutable_data<T>()) value /= count;
  });
  return {std::move(sum)};
}

// ---- Where
void infer_where(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 1);
  const TensorType& y = type_of(ctx, 2);
  check_type(ctx.node, 0, type_of(ctx, 0).dtype, kBoolType);
  if (x.dtype != y.dtype && x.dtype != DataType::kUndefined && y.dtype != DataType::kUndefined)
    fail_node(ctx.node, "inputs 1 and 2 are of types {} and {}; they must be of one type", to_string(x.dtype), to_string(y.dtype));
  const DataType dtype = x.dtype == DataType::kUndefined ? y.dtype : x.dtype;
  set_output(ctx, 0, broadcast_types(ctx.node, type_of(ctx, 0), broadcast_types(ctx.node, x, y, dtype), dtype));
}

std::vector<Tensor> evaluate_where(const EvalContext& ctx) {
  const Tensor& condition = required(ctx, 0);
  const Tensor& x = required(ctx, 1);
  const Tensor& y = required(ctx, 2);
  check_type(ctx.node, 0, condition.type(), kBoolType);
  if (x.type() != y.type())
    fail_node(ctx.node, "inputs 1 and 2 are of types {} and {}; they must be of one type", to_string(x.type()), to_string(y.type()));
  const BroadcastPlan plan = plan_broadcast(ctx.node, {&condition.shape(), &x.shape(), &y.shape()});
  Tensor result(x.type(), plan.shape);
  dispatch_width(ctx.node, x.type(), [&]<typename W>() {
    const bool* pick = condition.data<bool>().data();
    const W* px = raw<W>(x);
    const W* py = raw<W>(y);
    W* out = mutable_raw<W>(result);
    for_each_run(plan, ctx.pool, [&](std::int64_t at, const auto& in, const auto& steps, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i)
        out[at + i] = pick[in[0] + i * steps[0]] ? px[in[1] + i * steps[1]] : py[in[2] + i * steps[2]];
    });
  });
  return {std::move(result)};
}

constexpr OpDef kOps[] = {
    {.name = "Max",
     .max_inputs = -1,
     .infer = infer_variadic<kNumberTypes>,
     .evaluate = widened<evaluate_fold<MaxOp, kNumberTypes>>,
     .rule = QuantRule::kTied,
     .elementwise = true},
    {.name = "Min",
     .max_inputs = -1,
     .infer = infer_variadic<kNumberTypes>,
     .evaluate = widened<evaluate_fold<MinOp, kNumberTypes>>,
     .rule = QuantRule::kTied,
     .elementwise = true},
    {.name = "Sum",
     .max_inputs = -1,
     .infer = infer_variadic<kFloatTypes>,
     .evaluate = widened<evaluate_fold<SumOp, kFloatTypes>>,
     .note = "any number of inputs; two of them are an Add",
     .elementwise = true},
    {.name = "Mean",
     .max_inputs = -1,
     .infer = infer_variadic<kFloatTypes>,
     .evaluate = widened<evaluate_mean>,
     .note = "any number of inputs",
     .elementwise = true},
    {.name = "Where",
     .min_inputs = 3,
     .max_inputs = 3,
     .infer = infer_where,
     .evaluate = evaluate_where,
     .note = "picks between two inputs that each have a range",
     .elementwise = true},
};

}  // namespace

std::span<const OpDef> elementwise_variadic_ops() { return kOps; }

}  // namespace nibble
