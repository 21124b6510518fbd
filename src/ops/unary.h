// One loop for every function of one element.
#pragma once

#include "ops/op_util.h"

namespace nibble {

template <typename T, typename Out, typename F>
Tensor map_elements(const EvalContext& ctx, const Tensor& x, F f) {
  Tensor result(kDataTypeOf<Out>, x.shape());
  const T* in = x.data<T>().data();
  Out* out = result.mutable_data<Out>().data();
  parallel_for(ctx.pool, x.size(), kElementGrain, [in, out, f](std::int64_t begin, std::int64_t end) {
    // Locals: what the closure holds might alias the output, and then nothing vectorises.
    const T* from = in;
    Out* __restrict to = out;
    const F g = f;
    for (std::int64_t i = begin; i < end; ++i) to[i] = g(from[i]);
  });
  return result;
}

// Functions with attributes are made from the node.
template <typename F>
F make_function(const Node& node) {
  if constexpr (requires { F::make(node); }) {
    return F::make(node);
  } else {
    return F{};
  }
}

template <TypeSet kTypes>
void infer_unary(InferContext& ctx) {
  check_type(ctx.node, 0, type_of(ctx, 0).dtype, kTypes);
  set_output(ctx, 0, type_of(ctx, 0));
}

// float32 and float64 (the 16-bit floats by widening).
template <typename F>
std::vector<Tensor> evaluate_float_unary(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  check_type(ctx.node, 0, x.type(), kFloatTypes);
  const F f = make_function<F>(ctx.node);
  return {dispatch_floats(ctx.node, x.type(), [&]<typename T>() { return map_elements<T, T>(ctx, x, f); })};
}

// Every number.
template <typename F, TypeSet kTypes>
std::vector<Tensor> evaluate_number_unary(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  check_type(ctx.node, 0, x.type(), kTypes);
  const F f = make_function<F>(ctx.node);
  return {dispatch_numbers(ctx.node, x.type(), [&]<typename T>() { return map_elements<T, T>(ctx, x, f); })};
}

template <typename F>
constexpr OpDef float_unary(std::string_view name, QuantRule rule, std::string_view note = "") {
  return {.name = name,
          .infer = infer_unary<kFloatTypes>,
          .evaluate = widened<evaluate_float_unary<F>>,
          .rule = rule,
          .note = note,
          .elementwise = true};
}
template <typename F, TypeSet kTypes>
constexpr OpDef number_unary(std::string_view name, QuantRule rule, std::string_view note = "") {
  return {.name = name,
          .infer = infer_unary<kTypes>,
          .evaluate = widened<evaluate_number_unary<F, kTypes>>,
          .rule = rule,
          .note = note,
          .elementwise = true};
}

}  // namespace nibble
