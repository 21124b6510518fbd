#include "ops/op_util.h"

#include "base/checked.h"

namespace nibble {

void check_type(const Node& node, std::size_t input, DataType type, TypeSet allowed) {
  if (type == DataType::kUndefined || (allowed & type_bit(type)) != 0) return;
  fail_node(node, "input {} is of type {}, which this operator does not take", input, to_string(type));
}

void fail_type(const Node& node, DataType type) { fail_node(node, "the element type {} is not one this operator takes", to_string(type)); }

const Tensor& required(const EvalContext& ctx, std::size_t i) {
  if (!ctx.has_input(i)) fail_node(ctx.node, "input {} is missing", i);
  return *ctx.inputs[i];
}

const TensorType& type_of(const InferContext& ctx, std::size_t i) {
  static const TensorType kUnknown;
  return ctx.has_input(i) ? *ctx.inputs[i] : kUnknown;
}

void set_output(InferContext& ctx, std::size_t i, TensorType type) {
  if (i < ctx.outputs.size()) ctx.outputs[i] = std::move(type);
}

std::vector<std::int64_t> index_values(const Node& node, const Tensor& tensor, std::string_view what) {
  if (tensor.type() != DataType::kInt64 && tensor.type() != DataType::kInt32)
    fail_node(node, "{} is of type {}; int64 is expected", what, to_string(tensor.type()));
  if (tensor.rank() > 1) fail_node(node, "{} has shape {}; a list is expected", what, to_string(tensor.shape()));
  return to_int64s(tensor);
}

std::int64_t scalar_int(const Node& node, const Tensor& tensor, std::string_view what) {
  if (!is_integer(tensor.type())) fail_node(node, "{} is of type {}; an integer is expected", what, to_string(tensor.type()));
  if (tensor.size() != 1) fail_node(node, "{} has shape {}; one element is expected", what, to_string(tensor.shape()));
  return to_int64s(tensor)[0];
}

IntsArgument ints_argument(const InferContext& ctx, std::string_view attribute, std::size_t input) {
  if (ctx.has_input(input)) {
    const Tensor* constant = constant_of(ctx, input);
    if (constant == nullptr) return {.given = true, .values = std::nullopt};
    return {.given = true, .values = index_values(ctx.node, *constant, attribute)};
  }
  auto values = ctx.node.get_ints(attribute);
  return {.given = values.has_value(), .values = std::move(values)};
}

IntsArgument ints_argument(const EvalContext& ctx, std::string_view attribute, std::size_t input) {
  if (ctx.has_input(input)) return {.given = true, .values = index_values(ctx.node, ctx.input(input), attribute)};
  auto values = ctx.node.get_ints(attribute);
  return {.given = values.has_value(), .values = std::move(values)};
}

std::int64_t normalize_axis(const Node& node, std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) fail_node(node, "axis {} is out of range for {} axes", axis, rank);
  return axis < 0 ? axis + rank : axis;
}

std::vector<std::int64_t> normalize_axes(const Node& node, std::span<const std::int64_t> axes, std::int64_t rank) {
  std::vector<std::int64_t> result;
  std::vector<bool> seen(static_cast<std::size_t>(rank), false);
  for (const std::int64_t axis : axes) {
    const std::int64_t positive = normalize_axis(node, axis, rank);
    if (seen[static_cast<std::size_t>(positive)]) fail_node(node, "axis {} is named twice", positive);
    seen[static_cast<std::size_t>(positive)] = true;
    result.push_back(positive);
  }
  return result;
}

std::int64_t mul_sizes(const Node& node, std::int64_t a, std::int64_t b) {
  const auto product = checked_mul(a, b);
  if (!product) fail_node(node, "the size {} * {} overflows", a, b);
  return *product;
}

std::int64_t add_sizes(const Node& node, std::int64_t a, std::int64_t b) {
  const auto sum = checked_add(a, b);
  if (!sum) fail_node(node, "the size {} + {} overflows", a, b);
  return *sum;
}

AxisSplit split_at(std::span<const std::int64_t> shape, std::int64_t axis) {
  AxisSplit split;
  const auto at = static_cast<std::size_t>(axis);
  split.outer = element_count(shape.first(at));
  split.axis = shape[at];
  split.inner = element_count(shape.subspan(at + 1));
  return split;
}

std::vector<std::int64_t> row_major_strides(std::span<const std::int64_t> shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  // Unsigned: where another axis is 0 the product may overflow, and nobody uses it.
  for (std::size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = static_cast<std::int64_t>(static_cast<std::uint64_t>(strides[i]) * static_cast<std::uint64_t>(shape[i]));
  return strides;
}

TensorType unknown_rank(DataType dtype) { return {.dtype = dtype, .has_rank = false, .dims = {}}; }

TensorType unknown_dims(DataType dtype, std::int64_t rank) {
  return {.dtype = dtype, .has_rank = true, .dims = std::vector<Dim>(static_cast<std::size_t>(rank))};
}

Dim dim(std::int64_t size) { return {.size = size, .symbol = {}}; }

std::vector<std::int64_t> sizes_of(const TensorType& type) {
  std::vector<std::int64_t> sizes;
  for (const Dim& d : type.dims) sizes.push_back(d.known() ? d.size : -1);
  return sizes;
}

Dim merge_dims(const Node& node, const Dim& a, const Dim& b, std::string_view what) {
  if (a.known() && b.known() && a.size != b.size) fail_node(node, "{}: sizes {} and {} differ", what, a.size, b.size);
  if (a.known()) return a;
  if (b.known()) return b;
  return a.symbol.empty() ? b : a;
}

DataType data_type_of_attribute(const Node& node, std::int64_t onnx_type) {
  switch (onnx_type) {
    case 1: return DataType::kFloat32;
    case 2: return DataType::kUInt8;
    case 3: return DataType::kInt8;
    case 4: return DataType::kUInt16;
    case 5: return DataType::kInt16;
    case 6: return DataType::kInt32;
    case 7: return DataType::kInt64;
    case 9: return DataType::kBool;
    case 10: return DataType::kFloat16;
    case 11: return DataType::kFloat64;
    case 12: return DataType::kUInt32;
    case 13: return DataType::kUInt64;
    case 16: return DataType::kBFloat16;
    case 21: return DataType::kUInt4;
    case 22: return DataType::kInt4;
    case 8: fail(ErrorCode::kUnsupported, "node '{}' ({}): strings are not supported", node.name, node.op_type);
    case 14:
    case 15: fail(ErrorCode::kUnsupported, "node '{}' ({}): complex numbers are not supported", node.name, node.op_type);
    case 17:
    case 18:
    case 19:
    case 20: fail(ErrorCode::kUnsupported, "node '{}' ({}): 8-bit floats are not supported", node.name, node.op_type);
    default: fail_node(node, "{} is not an element type of ONNX", onnx_type);
  }
}

namespace {
bool is_narrow(DataType type) { return type == DataType::kFloat16 || type == DataType::kBFloat16; }
}  // namespace

DataType narrow_type(const EvalContext& ctx) {
  for (const Tensor* input : ctx.inputs) {
    if (input != nullptr && is_narrow(input->type())) return input->type();
  }
  return DataType::kUndefined;
}

std::vector<Tensor> evaluate_widened(const EvalContext& ctx, DataType narrow, std::vector<Tensor> (*body)(const EvalContext&)) {
  std::vector<Tensor> storage;
  storage.reserve(ctx.inputs.size());
  std::vector<const Tensor*> inputs;
  for (const Tensor* input : ctx.inputs) {
    if (input != nullptr && is_narrow(input->type())) {
      storage.push_back(cast(*input, DataType::kFloat32));
      inputs.push_back(&storage.back());
    } else {
      inputs.push_back(input);
    }
  }
  EvalContext wide = ctx;
  wide.inputs = inputs;
  std::vector<Tensor> outputs = body(wide);
  for (Tensor& output : outputs) {
    if (output.type() == DataType::kFloat32) output = cast(output, narrow);
  }
  return outputs;
}

bool next_index(std::span<std::int64_t> index, std::span<const std::int64_t> shape) {
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (++index[i] < shape[i]) return true;
    index[i] = 0;
  }
  return false;
}

}  // namespace nibble
