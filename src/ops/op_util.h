// What the operators of tensors share: arguments that moved from attribute to input over the opsets, axes, type sets, widening.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/graph.h"
#include "ops/fail.h"
#include "ops/op.h"

namespace nibble {

// ---- sets of element types
using TypeSet = std::uint32_t;
constexpr TypeSet type_bit(DataType type) { return TypeSet{1} << static_cast<unsigned>(type); }
inline constexpr TypeSet kFloatTypes =
    type_bit(DataType::kFloat32) | type_bit(DataType::kFloat64) | type_bit(DataType::kFloat16) | type_bit(DataType::kBFloat16);
inline constexpr TypeSet kSignedTypes =
    type_bit(DataType::kInt8) | type_bit(DataType::kInt16) | type_bit(DataType::kInt32) | type_bit(DataType::kInt64);
inline constexpr TypeSet kUnsignedTypes =
    type_bit(DataType::kUInt8) | type_bit(DataType::kUInt16) | type_bit(DataType::kUInt32) | type_bit(DataType::kUInt64);
inline constexpr TypeSet kIntegerTypes = kSignedTypes | kUnsignedTypes;
inline constexpr TypeSet kNumberTypes = kFloatTypes | kIntegerTypes;
inline constexpr TypeSet kBoolType = type_bit(DataType::kBool);
inline constexpr TypeSet kIndexTypes = type_bit(DataType::kInt32) | type_bit(DataType::kInt64);
inline constexpr TypeSet kAllTypes = ~type_bit(DataType::kUndefined);

// Throws where `type` is known and not in the set. `what` names the input: "input 0".
void check_type(const Node& node, std::size_t input, DataType type, TypeSet allowed);

// ---- inputs
// The input, or an error where it is left out.
const Tensor& required(const EvalContext& ctx, std::size_t i);
// nullptr where left out.
inline const Tensor* optional_input(const EvalContext& ctx, std::size_t i) { return ctx.has_input(i) ? ctx.inputs[i] : nullptr; }
// What inference knows of an input: an empty type where it is left out.
const TensorType& type_of(const InferContext& ctx, std::size_t i);
inline const Tensor* constant_of(const InferContext& ctx, std::size_t i) { return i < ctx.constants.size() ? ctx.constants[i] : nullptr; }
void set_output(InferContext& ctx, std::size_t i, TensorType type);

// ---- integer arguments
// An attribute in old opsets, an input in new ones. `given`: the node has it; `values`: where known (always, in evaluation).
struct IntsArgument {
  bool given = false;
  std::optional<std::vector<std::int64_t>> values;
};
IntsArgument ints_argument(const InferContext& ctx, std::string_view attribute, std::size_t input);
IntsArgument ints_argument(const EvalContext& ctx, std::string_view attribute, std::size_t input);
// The elements of an int32 or int64 tensor of at most one axis.
std::vector<std::int64_t> index_values(const Node& node, const Tensor& tensor, std::string_view what);
// The one element of a scalar (or one-element) tensor.
std::int64_t scalar_int(const Node& node, const Tensor& tensor, std::string_view what);

// ---- axes
// An axis of [-rank, rank - 1], made positive.
std::int64_t normalize_axis(const Node& node, std::int64_t axis, std::int64_t rank);
// The same for a list; two that name the same axis are an error.
std::vector<std::int64_t> normalize_axes(const Node& node, std::span<const std::int64_t> axes, std::int64_t rank);
// Products and sums of sizes that a model can make overflow.
std::int64_t mul_sizes(const Node& node, std::int64_t a, std::int64_t b);
std::int64_t add_sizes(const Node& node, std::int64_t a, std::int64_t b);
// Elements before, along and after an axis.
struct AxisSplit {
  std::int64_t outer = 1, axis = 1, inner = 1;
};
AxisSplit split_at(std::span<const std::int64_t> shape, std::int64_t axis);
// Elements from one index to the next along each axis.
std::vector<std::int64_t> row_major_strides(std::span<const std::int64_t> shape);

// ---- types
TensorType unknown_rank(DataType dtype);
TensorType unknown_dims(DataType dtype, std::int64_t rank);
Dim dim(std::int64_t size);
// The known type as sizes with -1 for unknown.
std::vector<std::int64_t> sizes_of(const TensorType& type);
// Throws where two known sizes differ; gives what is known of the two.
Dim merge_dims(const Node& node, const Dim& a, const Dim& b, std::string_view what);

// A DataType of ONNX's TensorProto numbering ("to", "dtype"); unsupported ones (strings, complex, float8) are named.
DataType data_type_of_attribute(const Node& node, std::int64_t onnx_type);

// ---- widening
// Evaluates Body with float16 and bfloat16 inputs widened to float32, and rounds its float32 outputs back.
template <std::vector<Tensor> (*Body)(const EvalContext&)>
std::vector<Tensor> widened(const EvalContext& ctx);
DataType narrow_type(const EvalContext& ctx);  // kUndefined: nothing to widen
std::vector<Tensor> evaluate_widened(const EvalContext& ctx, DataType narrow, std::vector<Tensor> (*body)(const EvalContext&));

template <std::vector<Tensor> (*Body)(const EvalContext&)>
std::vector<Tensor> widened(const EvalContext& ctx) {
  const DataType narrow = narrow_type(ctx);
  return narrow == DataType::kUndefined ? Body(ctx) : evaluate_widened(ctx, narrow, Body);
}

// ---- dispatch over a part of the types
[[noreturn]] void fail_type(const Node& node, DataType type);

template <typename Body>
decltype(auto) dispatch_floats(const Node& node, DataType type, Body&& body) {
  switch (type) {
    case DataType::kFloat32: return body.template operator()<float>();
    case DataType::kFloat64: return body.template operator()<double>();
    default: fail_type(node, type);
  }
}

template <typename Body>
decltype(auto) dispatch_integers(const Node& node, DataType type, Body&& body) {
  switch (type) {
    case DataType::kInt8: return body.template operator()<std::int8_t>();
    case DataType::kUInt8: return body.template operator()<std::uint8_t>();
    case DataType::kInt16: return body.template operator()<std::int16_t>();
    case DataType::kUInt16: return body.template operator()<std::uint16_t>();
    case DataType::kInt32: return body.template operator()<std::int32_t>();
    case DataType::kUInt32: return body.template operator()<std::uint32_t>();
    case DataType::kInt64: return body.template operator()<std::int64_t>();
    case DataType::kUInt64: return body.template operator()<std::uint64_t>();
    default: fail_type(node, type);
  }
}

template <typename Body>
decltype(auto) dispatch_numbers(const Node& node, DataType type, Body&& body) {
  switch (type) {
    case DataType::kFloat32: return body.template operator()<float>();
    case DataType::kFloat64: return body.template operator()<double>();
    default: return dispatch_integers(node, type, std::forward<Body>(body));
  }
}

// For ops that only move elements: an unsigned integer of the element's width.
template <typename Body>
decltype(auto) dispatch_width(const Node& node, DataType type, Body&& body) {
  switch (element_size(type)) {
    case 1: return body.template operator()<std::uint8_t>();
    case 2: return body.template operator()<std::uint16_t>();
    case 4: return body.template operator()<std::uint32_t>();
    case 8: return body.template operator()<std::uint64_t>();
    default: fail_type(node, type);
  }
}
template <typename W>
const W* raw(const Tensor& tensor) {
  return reinterpret_cast<const W*>(tensor.bytes());
}
template <typename W>
W* mutable_raw(Tensor& tensor) {
  return reinterpret_cast<W*>(tensor.mutable_bytes());
}

// Integers wrap around (two's complement), as NumPy's and C's unsigned ones do; floats are floats.
template <typename T, typename F>
constexpr T wrapping(T a, T b, F f) {
  if constexpr (std::integral<T>) {
    // 64 bits hold every narrower product's low bits.
    return static_cast<T>(f(static_cast<std::uint64_t>(a), static_cast<std::uint64_t>(b)));
  } else {
    return f(a, b);
  }
}

// Steps to the next index of a shape in row-major order; false after the last.
bool next_index(std::span<std::int64_t> index, std::span<const std::int64_t> shape);

// Elements of one chunk of a parallel loop over elements.
inline constexpr std::int64_t kElementGrain = 1 << 14;

}  // namespace nibble
