// Ordering: ArgMax, ArgMin, TopK, Unique. NaN counts as larger than every number.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/checked.h"
#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

// A strict weak order, with NaN last.
template <typename T>
bool less(T a, T b) {
  return a < b || (b != b && a == a);
}

// ---- ArgMax, ArgMin
void infer_arg(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  check_type(ctx.node, 0, x.dtype, kNumberTypes);
  if (!x.has_rank) {
    set_output(ctx, 0, unknown_rank(DataType::kInt64));
    return;
  }
  const std::int64_t axis = normalize_axis(ctx.node, ctx.node.get_int("axis", 0), static_cast<std::int64_t>(x.dims.size()));
  TensorType out{.dtype = DataType::kInt64, .has_rank = true, .dims = x.dims};
  if (ctx.node.get_int("keepdims", 1) != 0)
    out.dims[static_cast<std::size_t>(axis)] = dim(1);
  else
    out.dims.erase(out.dims.begin() + axis);
  set_output(ctx, 0, std::move(out));
}

enum class Seek : std::uint8_t { kMax, kMin };

template <Seek kSeek>
std::vector<Tensor> evaluate_arg(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const std::int64_t axis = normalize_axis(ctx.node, ctx.node.get_int("axis", 0), x.rank());
  const bool last = ctx.node.get_int("select_last_index", 0) != 0;
  const AxisSplit whole = split_at(x.shape(), axis);
  if (whole.axis == 0) fail_node(ctx.node, "axis {} of shape {} has no elements", axis, to_string(x.shape()));
  Shape shape = x.shape();
  if (ctx.node.get_int("keepdims", 1) != 0)
    shape[static_cast<std::size_t>(axis)] = 1;
  else
    shape.erase(shape.begin() + axis);
  Tensor result(DataType::kInt64, std::move(shape));
  auto* out = result.mutable_data<std::int64_t>().data();
  dispatch_numbers(ctx.node, x.type(), [&]<typename T>() {
    const T* in = x.data<T>().data();
    for (std::int64_t o = 0; o < whole.outer; ++o) {
      for (std::int64_t i = 0; i < whole.inner; ++i) {
        const T* values = in + o * whole.axis * whole.inner + i;
        std::int64_t best = 0;
        for (std::int64_t n = 1; n < whole.axis; ++n) {
          const T candidate = values[n * whole.inner];
          const T held = values[best * whole.inner];
          const bool better = kSeek == Seek::kMax ? less(held, candidate) : less(candidate, held);
          const bool worse = kSeek == Seek::kMax ? less(candidate, held) : less(held, candidate);
          if (better || (last && !worse)) best = n;
        }
        *out++ = best;
      }
    }
  });
  return {std::move(result)};
}

// ---- TopK: k is an attribute up to opset 9, an input from 10 on
std::int64_t top_k(const Node& node, const Tensor* k, std::int64_t size) {
  if (k == nullptr && !node.has("k")) fail_node(node, "k is missing");
  const std::int64_t value = k != nullptr ? scalar_int(node, *k, "k") : node.get_int("k", 0);
  if (value < 0 || (size >= 0 && value > size)) fail_node(node, "k is {}; the axis has {} elements", value, size);
  return value;
}

void infer_top_k(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  check_type(ctx.node, 0, x.dtype, kNumberTypes);
  TensorType out = x;
  if (x.has_rank) {
    const std::int64_t axis = normalize_axis(ctx.node, ctx.node.get_int("axis", -1), static_cast<std::int64_t>(x.dims.size()));
    Dim& d = out.dims[static_cast<std::size_t>(axis)];
    const Tensor* k = constant_of(ctx, 1);
    const bool known = k != nullptr || !ctx.has_input(1);
    d = known ? dim(top_k(ctx.node, k, d.known() ? d.size : -1)) : Dim{};
  }
  set_output(ctx, 0, out);
  out.dtype = DataType::kInt64;
  set_output(ctx, 1, std::move(out));
}

std::vector<Tensor> evaluate_top_k(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const std::int64_t axis = normalize_axis(ctx.node, ctx.node.get_int("axis", -1), x.rank());
  const AxisSplit whole = split_at(x.shape(), axis);
  const std::int64_t k = top_k(ctx.node, optional_input(ctx, 1), whole.axis);
  const bool largest = ctx.node.get_int("largest", 1) != 0;
  Shape shape = x.shape();
  shape[static_cast<std::size_t>(axis)] = k;
  Tensor values(x.type(), shape);
  Tensor indices(DataType::kInt64, shape);
  auto* out_index = indices.mutable_data<std::int64_t>().data();
  // Always sorted: `sorted = 0` leaves the order open.
  dispatch_numbers(ctx.node, x.type(), [&]<typename T>() {
    const T* in = x.data<T>().data();
    T* out = values.mutable_data<T>().data();
    std::vector<std::int64_t> order(static_cast<std::size_t>(whole.axis));
    for (std::int64_t o = 0; o < whole.outer; ++o) {
      for (std::int64_t i = 0; i < whole.inner; ++i) {
        const T* row = in + o * whole.axis * whole.inner + i;
        std::iota(order.begin(), order.end(), 0);
        std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](std::int64_t a, std::int64_t b) {
          const T va = row[a * whole.inner];
          const T vb = row[b * whole.inner];
          if (less(va, vb)) return !largest;
          if (less(vb, va)) return largest;
          return a < b;
        });
        for (std::int64_t n = 0; n < k; ++n) {
          const std::int64_t at = (o * k + n) * whole.inner + i;
          out[at] = row[order[static_cast<std::size_t>(n)] * whole.inner];
          out_index[at] = order[static_cast<std::size_t>(n)];
        }
      }
    }
  });
  return {std::move(values), std::move(indices)};
}

// ---- Unique: of elements, or of slices along an axis
void infer_unique(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  TensorType out = unknown_dims(x.dtype, 1);
  if (ctx.node.has("axis")) {
    out = x;
    if (x.has_rank)
      out.dims[static_cast<std::size_t>(normalize_axis(ctx.node, ctx.node.get_int("axis", 0), static_cast<std::int64_t>(x.dims.size())))] =
          {};
  }
  set_output(ctx, 0, std::move(out));
  for (std::size_t i = 1; i < 4; ++i) set_output(ctx, i, unknown_dims(DataType::kInt64, 1));
}

Tensor ints(const std::vector<std::int64_t>& values) {
  return Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())}, std::span<const std::int64_t>(values));
}

std::vector<Tensor> evaluate_unique(const EvalContext& ctx) {
  const bool flat = !ctx.node.has("axis");
  const Tensor x = flat ? required(ctx, 0).reshaped({ctx.input(0).size()}) : required(ctx, 0);
  const bool sorted = ctx.node.get_int("sorted", 1) != 0;
  const std::int64_t axis = flat ? 0 : normalize_axis(ctx.node, ctx.node.get_int("axis", 0), x.rank());
  const AxisSplit whole = split_at(x.shape(), axis);
  std::vector<std::int64_t> order(static_cast<std::size_t>(whole.axis));  // slices, equal ones together, the first of its kind first
  std::iota(order.begin(), order.end(), 0);
  std::vector<std::int64_t> group(order.size());  // of each place in `order`
  const auto sort = [&]<typename T>() {
    const T* in = x.data<T>().data();
    const auto compare = [&](std::int64_t a, std::int64_t b) {  // -1, 0, 1
      for (std::int64_t o = 0; o < whole.outer; ++o) {
        const T* base = in + o * whole.axis * whole.inner;
        for (std::int64_t i = 0; i < whole.inner; ++i) {
          const T va = base[a * whole.inner + i];
          const T vb = base[b * whole.inner + i];
          if (less(va, vb)) return -1;
          if (less(vb, va)) return 1;
        }
      }
      return 0;
    };
    std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      const int c = compare(a, b);
      return c != 0 ? c < 0 : a < b;
    });
    for (std::size_t i = 1; i < order.size(); ++i) group[i] = group[i - 1] + (compare(order[i - 1], order[i]) != 0 ? 1 : 0);
  };
  if (x.type() == DataType::kBool)
    sort.template operator()<bool>();
  else
    dispatch_numbers(ctx.node, x.type(), sort);
  const std::size_t kinds = order.empty() ? 0 : static_cast<std::size_t>(group.back()) + 1;
  std::vector<std::int64_t> first(kinds, -1);
  std::vector<std::int64_t> counts(kinds, 0);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto g = static_cast<std::size_t>(group[i]);
    if (first[g] < 0) first[g] = order[i];
    ++counts[g];
  }
  // Place of each kind in the output: by value, or by first appearance.
  std::vector<std::size_t> kind_at(kinds);
  std::iota(kind_at.begin(), kind_at.end(), std::size_t{0});
  if (!sorted) std::sort(kind_at.begin(), kind_at.end(), [&](std::size_t a, std::size_t b) { return first[a] < first[b]; });
  std::vector<std::int64_t> place(kinds);
  std::vector<std::int64_t> out_first(kinds);
  std::vector<std::int64_t> out_counts(kinds);
  for (std::size_t i = 0; i < kinds; ++i) {
    place[kind_at[i]] = static_cast<std::int64_t>(i);
    out_first[i] = first[kind_at[i]];
    out_counts[i] = counts[kind_at[i]];
  }
  std::vector<std::int64_t> inverse(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) inverse[static_cast<std::size_t>(order[i])] = place[static_cast<std::size_t>(group[i])];
  Shape shape = x.shape();
  shape[static_cast<std::size_t>(axis)] = static_cast<std::int64_t>(kinds);
  Tensor values(x.type(), std::move(shape));
  const std::size_t block = static_cast<std::size_t>(whole.inner) * element_size(x.type());
  std::byte* out = values.mutable_bytes();
  for (std::int64_t o = 0; o < whole.outer; ++o) {
    for (const std::int64_t i : out_first) {
      if (block > 0) std::memcpy(out, x.bytes() + static_cast<std::size_t>(o * whole.axis + i) * block, block);
      out += block;
    }
  }
  return {std::move(values), ints(out_first), ints(inverse), ints(out_counts)};
}

constexpr OpDef kOps[] = {
    {.name = "ArgMax", .infer = infer_arg, .evaluate = widened<evaluate_arg<Seek::kMax>>, .rule = QuantRule::kNotReal},
    {.name = "ArgMin", .infer = infer_arg, .evaluate = widened<evaluate_arg<Seek::kMin>>, .rule = QuantRule::kNotReal},
    {.name = "TopK",
     .max_inputs = 2,
     .max_outputs = 2,
     .infer = infer_top_k,
     .evaluate = widened<evaluate_top_k>,
     .note = "orders values; its second output is indices"},
    {.name = "Unique",
     .max_outputs = 4,
     .infer = infer_unique,
     .evaluate = widened<evaluate_unique>,
     .note = "the size of its output depends on the data"},
};

}  // namespace

std::span<const OpDef> top_ops() { return kOps; }

}  // namespace nibble
