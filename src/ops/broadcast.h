// Multidirectional (NumPy) broadcasting: one plan, walked in runs that are contiguous in the output.
//
// Axes of size 1 vanish and neighbours that advance alike are merged, so [N,C,H,W] + [C,1,1] becomes runs of H*W elements with one constant
// operand, and equal shapes become one run. Along a run each input advances by 0 or 1.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "base/thread_pool.h"
#include "ops/op_util.h"

namespace nibble {

inline constexpr std::size_t kBroadcastInputs = 3;

struct BroadcastPlan {
  Shape shape;                                                      // of the output
  std::vector<std::int64_t> sizes;                                  // merged axes, at least one
  std::array<std::vector<std::int64_t>, kBroadcastInputs> strides;  // by input and merged axis; 0: does not advance
  std::int64_t total = 0;
};

// Shapes that do not fit are an error of the node.
BroadcastPlan plan_broadcast(const Node& node, std::initializer_list<const Shape*> shapes);
Shape broadcast_shape(const Node& node, const Shape& a, const Shape& b);
// The same for types; `dtype` is the result's.
TensorType broadcast_types(const Node& node, const TensorType& a, const TensorType& b, DataType dtype);

// body(out, in, steps, count): elements [out, out + count) of the output; input k starts at in[k] and advances by steps[k] (0 or 1).
template <typename Body>
void for_each_run(const BroadcastPlan& plan, ThreadPool* pool, const Body& body) {
  if (plan.total == 0) return;
  const std::int64_t inner = plan.sizes.back();
  const std::size_t outer_axes = plan.sizes.size() - 1;
  std::array<std::int64_t, kBroadcastInputs> steps{};
  for (std::size_t k = 0; k < kBroadcastInputs; ++k) steps[k] = plan.strides[k].empty() ? 0 : plan.strides[k].back();
  parallel_for(pool, plan.total, kElementGrain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int64_t> index(outer_axes, 0);
    std::array<std::int64_t, kBroadcastInputs> base{};
    std::int64_t row = begin / inner;
    std::int64_t column = begin % inner;
    for (std::size_t axis = outer_axes; axis-- > 0;) {
      index[axis] = row % plan.sizes[axis];
      row /= plan.sizes[axis];
      for (std::size_t k = 0; k < kBroadcastInputs; ++k) {
        if (!plan.strides[k].empty()) base[k] += index[axis] * plan.strides[k][axis];
      }
    }
    while (begin < end) {
      const std::int64_t count = std::min(inner - column, end - begin);
      std::array<std::int64_t, kBroadcastInputs> in{};
      for (std::size_t k = 0; k < kBroadcastInputs; ++k) in[k] = base[k] + column * steps[k];
      body(begin, in, steps, count);
      begin += count;
      column = 0;
      for (std::size_t axis = outer_axes; axis-- > 0;) {
        const bool carry = ++index[axis] == plan.sizes[axis];
        if (carry) index[axis] = 0;
        for (std::size_t k = 0; k < kBroadcastInputs; ++k) {
          if (!plan.strides[k].empty()) base[k] += plan.strides[k][axis] * (carry ? 1 - plan.sizes[axis] : 1);
        }
        if (!carry) break;
      }
    }
  });
}

// out[i] = f(a[i], b[i]) over one run; the three forms vectorise.
template <typename A, typename B, typename Out, typename F>
inline void run_binary(const A* a, std::int64_t step_a, const B* b, std::int64_t step_b, Out* __restrict out, std::int64_t count, F f) {
  if (step_a != 0 && step_b != 0) {
    for (std::int64_t i = 0; i < count; ++i) out[i] = f(a[i], b[i]);
  } else if (step_a != 0) {
    const B vb = *b;
    for (std::int64_t i = 0; i < count; ++i) out[i] = f(a[i], vb);
  } else if (step_b != 0) {
    const A va = *a;
    for (std::int64_t i = 0; i < count; ++i) out[i] = f(va, b[i]);
  } else {
    const Out value = f(*a, *b);
    for (std::int64_t i = 0; i < count; ++i) out[i] = value;
  }
}

template <typename A, typename B, typename Out, typename F>
Tensor broadcast_binary(const EvalContext& ctx, const Tensor& a, const Tensor& b, F f) {
  const BroadcastPlan plan = plan_broadcast(ctx.node, {&a.shape(), &b.shape()});
  Tensor result(kDataTypeOf<Out>, plan.shape);
  const A* pa = a.data<A>().data();
  const B* pb = b.data<B>().data();
  Out* out = result.mutable_data<Out>().data();
  for_each_run(plan, ctx.pool, [&](std::int64_t at, const auto& in, const auto& steps, std::int64_t count) {
    run_binary(pa + in[0], steps[0], pb + in[1], steps[1], out + at, count, f);
  });
  return result;
}

}  // namespace nibble
