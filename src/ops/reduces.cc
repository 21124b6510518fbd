// Reduce*: axes are an attribute in old opsets, an input from 18 on (ReduceSum: from 13 on).
//
// Sums run in double (integers: modulo 2^64) in an order that depends on the shape alone: a contiguous run of values is spread over eight
// partial sums, so that it vectorises and gives the same bits everywhere.
#include <cmath>
#include <concepts>
#include <limits>
#include <type_traits>

#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

// ---- what is reduced
struct Reduction {
  Shape shape;                // of the output
  bool nothing = false;       // no axes and noop_with_empty_axes: the input as it is
  std::vector<bool> reduced;  // by axis
};

Reduction reduction_of(const Node& node, std::span<const std::int64_t> shape, const IntsArgument& axes) {
  Reduction result{.shape = {}, .nothing = false, .reduced = std::vector<bool>(shape.size(), false)};
  const bool keep = node.get_int("keepdims", 1) != 0;
  if (!axes.given || axes.values->empty()) {
    result.nothing = node.get_int("noop_with_empty_axes", 0) != 0;
    result.reduced.assign(shape.size(), !result.nothing);
  } else {
    for (const std::int64_t axis : normalize_axes(node, *axes.values, static_cast<std::int64_t>(shape.size())))
      result.reduced[static_cast<std::size_t>(axis)] = true;
  }
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (!result.reduced[i])
      result.shape.push_back(shape[i]);
    else if (keep)
      result.shape.push_back(1);
  }
  return result;
}

template <TypeSet kTypes>
void infer_reduce(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  check_type(ctx.node, 0, x.dtype, kTypes);
  const IntsArgument axes = ints_argument(ctx, "axes", 1);
  const bool keep = ctx.node.get_int("keepdims", 1) != 0;
  if (x.has_rank && axes.given && !axes.values) {
    set_output(ctx, 0, keep ? unknown_dims(x.dtype, static_cast<std::int64_t>(x.dims.size())) : unknown_rank(x.dtype));
    return;
  }
  if (!x.has_rank) {
    set_output(ctx, 0, unknown_rank(x.dtype));
    return;
  }
  const Reduction reduction = reduction_of(ctx.node, sizes_of(x), axes);
  TensorType out{.dtype = x.dtype, .has_rank = true, .dims = {}};
  for (std::size_t i = 0; i < x.dims.size(); ++i) {
    if (!reduction.reduced[i])
      out.dims.push_back(x.dims[i]);
    else if (keep)
      out.dims.push_back(dim(1));
  }
  set_output(ctx, 0, std::move(out));
}

// ---- how: start, step for each value, join of two partial results, finish
template <typename T>
using SumType = std::conditional_t<std::floating_point<T>, double, std::uint64_t>;

template <typename T>
struct SumReducer {
  using Acc = SumType<T>;
  static Acc start() { return Acc{0}; }
  static Acc step(Acc acc, T x) { return acc + static_cast<Acc>(x); }
  static Acc join(Acc a, Acc b) { return a + b; }
  static T finish(Acc acc, std::int64_t) { return static_cast<T>(acc); }
};
template <typename T>
struct MeanReducer : SumReducer<T> {
  using Acc = SumType<T>;
  static T finish(Acc acc, std::int64_t count) {
    if constexpr (std::floating_point<T>) {
      return static_cast<T>(acc / static_cast<double>(count));
    } else if constexpr (std::signed_integral<T>) {
      return count == 0 ? T{0} : static_cast<T>(static_cast<std::int64_t>(acc) / count);
    } else {
      return count == 0 ? T{0} : static_cast<T>(acc / static_cast<std::uint64_t>(count));
    }
  }
};
template <typename T>
struct ProdReducer {
  using Acc = SumType<T>;
  static Acc start() { return Acc{1}; }
  static Acc step(Acc acc, T x) { return acc * static_cast<Acc>(x); }
  static Acc join(Acc a, Acc b) { return a * b; }
  static T finish(Acc acc, std::int64_t) { return static_cast<T>(acc); }
};
template <typename T>
struct SumSquareReducer : SumReducer<T> {
  using Acc = SumType<T>;
  static Acc step(Acc acc, T x) { return acc + static_cast<Acc>(x) * static_cast<Acc>(x); }
};
template <typename T>
struct L1Reducer : SumReducer<T> {
  using Acc = SumType<T>;
  static Acc step(Acc acc, T x) {
    const auto wide = static_cast<Acc>(x);
    return acc + (x < T{0} ? Acc{0} - wide : wide);
  }
};
// Converts a real result; what an integer type cannot hold (infinity, NaN) saturates as Cast does.
template <typename T>
T from_double(double value) {
  if constexpr (std::floating_point<T>) {
    return static_cast<T>(value);
  } else {
    if (!(value > static_cast<double>(std::numeric_limits<T>::min()))) return value != value ? T{0} : std::numeric_limits<T>::min();
    if (value >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    return static_cast<T>(value);
  }
}
template <typename T>
struct RealSum {
  using Acc = double;
  static Acc start() { return 0; }
  static Acc step(Acc acc, T x) { return acc + static_cast<double>(x); }
  static Acc join(Acc a, Acc b) { return a + b; }
};
template <typename T>
struct L2Reducer : RealSum<T> {
  static double step(double acc, T x) { return acc + static_cast<double>(x) * static_cast<double>(x); }
  static T finish(double acc, std::int64_t) { return from_double<T>(std::sqrt(acc)); }
};
template <typename T>
struct LogSumReducer : RealSum<T> {
  static T finish(double acc, std::int64_t) { return from_double<T>(std::log(acc)); }
};
template <typename T>
struct MaxReducer {
  using Acc = T;
  static Acc start() {
    return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
  }
  static Acc step(Acc acc, T x) { return x > acc || x != x ? x : acc; }
  static Acc join(Acc a, Acc b) { return step(a, b); }
  static T finish(Acc acc, std::int64_t) { return acc; }
};
template <typename T>
struct MinReducer {
  using Acc = T;
  static Acc start() { return std::numeric_limits<T>::has_infinity ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max(); }
  static Acc step(Acc acc, T x) { return x < acc || x != x ? x : acc; }
  static Acc join(Acc a, Acc b) { return step(a, b); }
  static T finish(Acc acc, std::int64_t) { return acc; }
};

// ---- loops
template <typename R, typename T>
auto reduce_run(const T* x, std::int64_t count) {
  constexpr std::int64_t kLanes = 8;
  typename R::Acc lanes[kLanes];
  for (auto& lane : lanes) lane = R::start();
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t l = 0; l < kLanes; ++l) lanes[l] = R::step(lanes[l], x[i + l]);
  }
  for (std::int64_t l = 0; i < count; ++i, ++l) lanes[l] = R::step(lanes[l], x[i]);
  typename R::Acc acc = lanes[0];
  for (std::int64_t l = 1; l < kLanes; ++l) acc = R::join(acc, lanes[l]);
  return acc;
}

// Offsets of every combination of the chosen axes, in row-major order.
std::vector<std::int64_t> offsets_of(std::span<const std::int64_t> shape, const std::vector<bool>& reduced, bool wanted) {
  const auto strides = row_major_strides(shape);
  Shape sizes;
  std::vector<std::int64_t> steps;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (reduced[i] != wanted) continue;
    sizes.push_back(shape[i]);
    steps.push_back(strides[i]);
  }
  std::vector<std::int64_t> offsets;
  const std::int64_t count = element_count(sizes);
  if (count == 0) return offsets;
  offsets.reserve(static_cast<std::size_t>(count));
  std::vector<std::int64_t> index(sizes.size(), 0);
  do {
    std::int64_t at = 0;
    for (std::size_t i = 0; i < index.size(); ++i) at += index[i] * steps[i];
    offsets.push_back(at);
  } while (next_index(index, sizes));
  return offsets;
}

// The reduced axes as one block [outer, count, inner], if they stand together (axes of size 1 apart).
struct Block {
  bool one = false;
  std::int64_t outer = 1, count = 1, inner = 1;
};
Block block_of(std::span<const std::int64_t> shape, const std::vector<bool>& reduced) {
  Block block{.one = true};
  int state = 0;  // before, in, after the block
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) continue;
    if (reduced[i]) {
      if (state == 2) return {.one = false};
      state = 1;
      block.count *= shape[i];
    } else {
      if (state == 1) state = 2;
      (state == 0 ? block.outer : block.inner) *= shape[i];
    }
  }
  return block;
}

template <typename R, typename T>
void reduce_into(const T* in, T* out, const Tensor& x, const Reduction& reduction, ThreadPool* pool) {
  const Block block = block_of(x.shape(), reduction.reduced);
  if (block.one && block.inner == 1) {
    const std::int64_t grain = std::max<std::int64_t>(1, kElementGrain / std::max<std::int64_t>(1, block.count));
    parallel_for(pool, block.outer, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t o = begin; o < end; ++o) out[o] = R::finish(reduce_run<R>(in + o * block.count, block.count), block.count);
    });
  } else if (block.one) {
    std::vector<typename R::Acc> acc(static_cast<std::size_t>(block.inner));
    for (std::int64_t o = 0; o < block.outer; ++o) {
      std::fill(acc.begin(), acc.end(), R::start());
      const T* row = in + o * block.count * block.inner;
      for (std::int64_t n = 0; n < block.count; ++n, row += block.inner) {
        for (std::size_t i = 0; i < acc.size(); ++i) acc[i] = R::step(acc[i], row[i]);
      }
      for (std::size_t i = 0; i < acc.size(); ++i) *out++ = R::finish(acc[i], block.count);
    }
  } else {
    const auto kept = offsets_of(x.shape(), reduction.reduced, false);
    const auto inner = offsets_of(x.shape(), reduction.reduced, true);
    for (const std::int64_t base : kept) {
      auto acc = R::start();
      for (const std::int64_t offset : inner) acc = R::step(acc, in[base + offset]);
      *out++ = R::finish(acc, static_cast<std::int64_t>(inner.size()));
    }
  }
}

template <template <typename> class R>
std::vector<Tensor> evaluate_reduce(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const Reduction reduction = reduction_of(ctx.node, x.shape(), ints_argument(ctx, "axes", 1));
  if (reduction.nothing) return {x};
  Tensor result(x.type(), reduction.shape);
  const auto run = [&]<typename T>() { reduce_into<R<T>>(x.data<T>().data(), result.mutable_data<T>().data(), x, reduction, ctx.pool); };
  if constexpr (std::is_same_v<R<float>, MaxReducer<float>> || std::is_same_v<R<float>, MinReducer<float>>) {
    if (x.type() == DataType::kBool) {  // opset 20; stored as 0 and 1
      run.template operator()<bool>();
      return {std::move(result)};
    }
  }
  dispatch_numbers(ctx.node, x.type(), run);
  return {std::move(result)};
}

// log(sum(e^x)) = m + log(sum(e^(x - m))) with m the largest, which does not overflow.
std::vector<Tensor> evaluate_log_sum_exp(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const Reduction reduction = reduction_of(ctx.node, x.shape(), ints_argument(ctx, "axes", 1));
  if (reduction.nothing) return {x};
  Tensor result(x.type(), reduction.shape);
  const auto kept = offsets_of(x.shape(), reduction.reduced, false);
  const auto inner = offsets_of(x.shape(), reduction.reduced, true);
  dispatch_numbers(ctx.node, x.type(), [&]<typename T>() {
    const T* in = x.data<T>().data();
    T* out = result.mutable_data<T>().data();
    for (const std::int64_t base : kept) {
      double largest = -std::numeric_limits<double>::infinity();
      for (const std::int64_t offset : inner) largest = std::max(largest, static_cast<double>(in[base + offset]));
      const double shift = std::isfinite(largest) ? largest : 0.0;
      double sum = 0;
      for (const std::int64_t offset : inner) sum += std::exp(static_cast<double>(in[base + offset]) - shift);
      *out++ = from_double<T>(shift + std::log(sum));
    }
  });
  return {std::move(result)};
}

template <template <typename> class R, TypeSet kTypes = kNumberTypes>
constexpr OpDef reduce_op(std::string_view name, QuantRule rule, std::string_view note = "") {
  return {
      .name = name, .max_inputs = 2, .infer = infer_reduce<kTypes>, .evaluate = widened<evaluate_reduce<R>>, .rule = rule, .note = note};
}

constexpr auto kFloat = QuantRule::kFloat;
constexpr std::string_view kOutgrows = "its result outgrows the grid of its input";

constexpr OpDef kOps[] = {
    reduce_op<SumReducer>("ReduceSum", kFloat, kOutgrows),
    reduce_op<MeanReducer>("ReduceMean", QuantRule::kArithmetic),
    reduce_op<MaxReducer, kNumberTypes | kBoolType>("ReduceMax", kFloat, "seldom on a hot path"),
    reduce_op<MinReducer, kNumberTypes | kBoolType>("ReduceMin", kFloat, "seldom on a hot path"),
    reduce_op<ProdReducer>("ReduceProd", kFloat, kOutgrows),
    reduce_op<L1Reducer>("ReduceL1", kFloat, kOutgrows),
    reduce_op<L2Reducer>("ReduceL2", kFloat, kOutgrows),
    reduce_op<SumSquareReducer>("ReduceSumSquare", kFloat, kOutgrows),
    reduce_op<LogSumReducer>("ReduceLogSum", kFloat, kOutgrows),
    {.name = "ReduceLogSumExp",
     .max_inputs = 2,
     .infer = infer_reduce<kNumberTypes>,
     .evaluate = widened<evaluate_log_sum_exp>,
     .note = kOutgrows},
};

}  // namespace

std::span<const OpDef> reduce_ops() { return kOps; }

}  // namespace nibble
