// Along one axis, in order: CumSum, ReverseSequence.
#include <cstring>

#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

// ---- CumSum
void infer_cum_sum(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  check_type(ctx.node, 0, x.dtype, kNumberTypes);
  check_type(ctx.node, 1, type_of(ctx, 1).dtype, kIndexTypes);
  if (const Tensor* axis = constant_of(ctx, 1); axis != nullptr && x.has_rank)
    normalize_axis(ctx.node, scalar_int(ctx.node, *axis, "axis"), static_cast<std::int64_t>(x.dims.size()));
  set_output(ctx, 0, x);
}

std::vector<Tensor> evaluate_cum_sum(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const AxisSplit whole = split_at(x.shape(), normalize_axis(ctx.node, scalar_int(ctx.node, required(ctx, 1), "axis"), x.rank()));
  const bool exclusive = ctx.node.get_int("exclusive", 0) != 0;
  const bool reverse = ctx.node.get_int("reverse", 0) != 0;
  Tensor result(x.type(), x.shape());
  dispatch_numbers(ctx.node, x.type(), [&]<typename T>() {
    const T* in = x.data<T>().data();
    T* out = result.mutable_data<T>().data();
    for (std::int64_t o = 0; o < whole.outer; ++o) {
      for (std::int64_t i = 0; i < whole.inner; ++i) {
        T sum{0};
        for (std::int64_t n = 0; n < whole.axis; ++n) {
          const std::int64_t at = (o * whole.axis + (reverse ? whole.axis - 1 - n : n)) * whole.inner + i;
          const T next = wrapping(sum, in[at], [](auto a, auto b) { return a + b; });
          out[at] = exclusive ? sum : next;
          sum = next;
        }
      }
    }
  });
  return {std::move(result)};
}

// ---- ReverseSequence: the first sequence_lens[b] steps of each batch entry b, backwards
struct SequenceAxes {
  std::int64_t time = 0, batch = 1;
};

SequenceAxes sequence_axes(const Node& node, std::int64_t rank) {
  if (rank < 2) fail_node(node, "the input has {} axes; at least two are expected", rank);
  const SequenceAxes axes{.time = node.get_int("time_axis", 0), .batch = node.get_int("batch_axis", 1)};
  if (axes.time + axes.batch != 1 || (axes.time != 0 && axes.time != 1))
    fail_node(node, "time_axis {} and batch_axis {} are not 0 and 1 in some order", axes.time, axes.batch);
  return axes;
}

void infer_reverse_sequence(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  check_type(ctx.node, 1, type_of(ctx, 1).dtype, type_bit(DataType::kInt64));
  if (x.has_rank) sequence_axes(ctx.node, static_cast<std::int64_t>(x.dims.size()));
  set_output(ctx, 0, x);
}

std::vector<Tensor> evaluate_reverse_sequence(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const Tensor& lengths = required(ctx, 1);
  const SequenceAxes axes = sequence_axes(ctx.node, x.rank());
  const std::int64_t steps = x.shape()[static_cast<std::size_t>(axes.time)];
  const std::int64_t batch = x.shape()[static_cast<std::size_t>(axes.batch)];
  if (lengths.rank() != 1 || lengths.size() != batch)
    fail_node(ctx.node, "sequence_lens has shape {}; [{}] is expected", to_string(lengths.shape()), batch);
  const auto counts = lengths.data<std::int64_t>();
  const std::size_t block =
      static_cast<std::size_t>(element_count(std::span<const std::int64_t>(x.shape()).subspan(2))) * element_size(x.type());
  Tensor result(x.type(), x.shape());
  std::byte* out = result.mutable_bytes();
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t count = counts[static_cast<std::size_t>(b)];
    if (count < 0 || count > steps) fail_node(ctx.node, "sequence length {} is out of range for {} steps", count, steps);
    for (std::int64_t t = 0; t < steps; ++t) {
      const std::int64_t from = t < count ? count - 1 - t : t;
      const auto at = [&](std::int64_t step) {
        return static_cast<std::size_t>(axes.time == 0 ? step * batch + b : b * steps + step) * block;
      };
      if (block > 0) std::memcpy(out + at(t), x.bytes() + at(from), block);
    }
  }
  return {std::move(result)};
}

constexpr OpDef kOps[] = {
    {.name = "CumSum",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_cum_sum,
     .evaluate = widened<evaluate_cum_sum>,
     .note = "a running sum outgrows an 8-bit grid"},
    {.name = "ReverseSequence",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_reverse_sequence,
     .evaluate = evaluate_reverse_sequence,
     .rule = QuantRule::kTied},
};

}  // namespace

std::span<const OpDef> sequence_axis_ops() { return kOps; }

}  // namespace nibble
