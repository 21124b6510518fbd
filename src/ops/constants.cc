// Tensors out of nothing, or out of a shape: Constant, ConstantOfShape, EyeLike, Range.
#include <cmath>

#include "base/checked.h"
#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

// ---- Constant: exactly one of the value attributes.
Tensor constant_value(const Node& node) {
  for (const std::string_view refused : {"sparse_value", "value_string", "value_strings"}) {
    if (node.has(refused)) fail(ErrorCode::kUnsupported, "node '{}' (Constant): the attribute '{}' is not supported", node.name, refused);
  }
  int given = 0;
  for (const std::string_view name : {"value", "value_float", "value_floats", "value_int", "value_ints"}) given += node.has(name) ? 1 : 0;
  if (given != 1) fail_node(node, "has {} value attributes; exactly one is expected", given);
  if (auto value = node.get_tensor("value")) return *value;
  if (node.has("value_float")) return Tensor::scalar(node.get_float("value_float", 0));
  if (node.has("value_int")) return Tensor::scalar(node.get_int("value_int", 0));
  if (auto floats = node.get_floats("value_floats"))
    return Tensor::from<float>({static_cast<std::int64_t>(floats->size())}, std::span<const float>(*floats));
  const auto ints = node.get_ints("value_ints").value();
  return Tensor::from<std::int64_t>({static_cast<std::int64_t>(ints.size())}, std::span<const std::int64_t>(ints));
}

void infer_constant(InferContext& ctx) {
  const Tensor value = constant_value(ctx.node);
  set_output(ctx, 0, make_type(value.type(), value.shape()));
  if (!ctx.constant_outputs.empty()) ctx.constant_outputs[0] = value;
}

std::vector<Tensor> evaluate_constant(const EvalContext& ctx) { return {constant_value(ctx.node)}; }

// ---- ConstantOfShape
Tensor fill_value(const Node& node) {
  const auto value = node.get_tensor("value");
  if (!value) return Tensor::scalar(0.0F);
  if (value->size() != 1) fail_node(node, "value has shape {}; one element is expected", to_string(value->shape()));
  return *value;
}

Shape shape_value(const Node& node, const Tensor& shape) {
  Shape sizes = index_values(node, shape, "the shape");
  for (const std::int64_t size : sizes) {
    if (size < 0) fail_node(node, "the shape {} has a negative size", to_string(sizes));
  }
  element_count(sizes);  // throws where it overflows
  return sizes;
}

void infer_constant_of_shape(InferContext& ctx) {
  const DataType dtype = fill_value(ctx.node).type();
  if (const Tensor* shape = constant_of(ctx, 0)) {
    set_output(ctx, 0, make_type(dtype, shape_value(ctx.node, *shape)));
    return;
  }
  const TensorType& shape = type_of(ctx, 0);
  if (shape.fully_known() && shape.dims.size() == 1) {
    if (shape.dims[0].size > 1024) fail_node(ctx.node, "a shape of {} axes is too long", shape.dims[0].size);
    set_output(ctx, 0, unknown_dims(dtype, shape.dims[0].size));
  } else {
    set_output(ctx, 0, unknown_rank(dtype));
  }
}

std::vector<Tensor> evaluate_constant_of_shape(const EvalContext& ctx) {
  const Tensor value = fill_value(ctx.node);
  Tensor result(value.type(), shape_value(ctx.node, required(ctx, 0)));
  dispatch_width(ctx.node, value.type(), [&]<typename W>() { std::fill_n(mutable_raw<W>(result), result.size(), raw<W>(value)[0]); });
  return {std::move(result)};
}

// ---- EyeLike
DataType eye_type(const Node& node, DataType input) {
  return node.has("dtype") ? data_type_of_attribute(node, node.get_int("dtype", 1)) : input;
}

void infer_eye_like(InferContext& ctx) {
  TensorType type = type_of(ctx, 0);
  if (type.has_rank && type.dims.size() != 2) fail_node(ctx.node, "the input is {}; two axes are expected", to_string(type));
  type.dtype = eye_type(ctx.node, type.dtype);
  set_output(ctx, 0, std::move(type));
}

std::vector<Tensor> evaluate_eye_like(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  if (x.rank() != 2) fail_node(ctx.node, "the input has shape {}; two axes are expected", to_string(x.shape()));
  const std::int64_t k = ctx.node.get_int("k", 0);
  Tensor ones = Tensor::zeros(DataType::kInt8, x.shape());
  auto out = ones.mutable_data<std::int8_t>();
  for (std::int64_t row = 0; row < x.shape()[0]; ++row) {
    const auto column = checked_add(row, k);
    if (column && *column >= 0 && *column < x.shape()[1]) out[static_cast<std::size_t>(row * x.shape()[1] + *column)] = 1;
  }
  return {cast(ones, eye_type(ctx.node, x.type()))};
}

// ---- Range: start, limit, delta
constexpr TypeSet kRangeTypes = kNumberTypes;

template <typename T>
std::int64_t range_count(const Node& node, T start, T limit, T delta) {
  if (delta == T{0}) fail_node(node, "delta is 0");
  // Long double holds every int64 difference exactly.
  const long double count =
      std::ceil((static_cast<long double>(limit) - static_cast<long double>(start)) / static_cast<long double>(delta));
  if (!(count > 0)) {
    if (std::isnan(count)) fail_node(node, "start, limit or delta is NaN");
    return 0;
  }
  if (count > static_cast<long double>(std::int64_t{1} << 40)) fail_node(node, "a range of that many elements is too long");
  return static_cast<std::int64_t>(count);
}

void infer_range(InferContext& ctx) {
  TensorType type = unknown_dims(type_of(ctx, 0).dtype, 1);
  for (std::size_t i = 0; i < 3; ++i) {
    check_type(ctx.node, i, type_of(ctx, i).dtype, kRangeTypes);
    if (type_of(ctx, i).dtype != DataType::kUndefined && type.dtype != DataType::kUndefined && type_of(ctx, i).dtype != type.dtype)
      fail_node(ctx.node, "input {} is of type {}, the start of type {}", i, to_string(type_of(ctx, i).dtype), to_string(type.dtype));
  }
  const Tensor* values[] = {constant_of(ctx, 0), constant_of(ctx, 1), constant_of(ctx, 2)};
  if (values[0] != nullptr && values[1] != nullptr && values[2] != nullptr) {
    Tensor wide[3];
    for (std::size_t i = 0; i < 3; ++i) {
      if (values[i]->size() != 1) fail_node(ctx.node, "input {} has shape {}; a scalar is expected", i, to_string(values[i]->shape()));
      wide[i] = cast(*values[i], is_float(type.dtype) ? DataType::kFloat64 : type.dtype);
    }
    const std::int64_t count = dispatch_numbers(ctx.node, wide[0].type(), [&]<typename T>() {
      return range_count(ctx.node, wide[0].data<T>()[0], wide[1].data<T>()[0], wide[2].data<T>()[0]);
    });
    type.dims[0] = dim(count);
  }
  set_output(ctx, 0, std::move(type));
}

std::vector<Tensor> evaluate_range(const EvalContext& ctx) {
  const DataType type = required(ctx, 0).type();
  for (std::size_t i = 0; i < 3; ++i) {
    const Tensor& value = required(ctx, i);
    if (value.type() != type)
      fail_node(ctx.node, "input {} is of type {}, the start of type {}", i, to_string(value.type()), to_string(type));
    if (value.size() != 1) fail_node(ctx.node, "input {} has shape {}; a scalar is expected", i, to_string(value.shape()));
  }
  return {dispatch_numbers(ctx.node, type, [&]<typename T>() {
    const T start = ctx.input(0).data<T>()[0];
    const T delta = ctx.input(2).data<T>()[0];
    const std::int64_t count = range_count(ctx.node, start, ctx.input(1).data<T>()[0], delta);
    Tensor result(type, {count});
    auto out = result.mutable_data<T>();
    for (std::size_t i = 0; i < out.size(); ++i) {
      const T offset = wrapping(static_cast<T>(i), delta, [](auto a, auto b) { return a * b; });
      out[i] = wrapping(start, offset, [](auto a, auto b) { return a + b; });
    }
    return result;
  })};
}

constexpr OpDef kOps[] = {
    {.name = "Constant",
     .min_inputs = 0,
     .max_inputs = 0,
     .infer = infer_constant,
     .evaluate = evaluate_constant,
     .rule = QuantRule::kNotReal},
    {.name = "ConstantOfShape", .infer = infer_constant_of_shape, .evaluate = evaluate_constant_of_shape, .rule = QuantRule::kNotReal},
    {.name = "EyeLike", .infer = infer_eye_like, .evaluate = evaluate_eye_like, .rule = QuantRule::kNotReal},
    {.name = "Range",
     .min_inputs = 3,
     .max_inputs = 3,
     .infer = infer_range,
     .evaluate = widened<evaluate_range>,
     .rule = QuantRule::kNotReal},
};

}  // namespace

std::span<const OpDef> constant_ops() { return kOps; }

}  // namespace nibble
