// Views: the same elements under another shape. And Shape and Size, which read the shape itself.
#include <algorithm>

#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

// ---- Shape, Size
struct Interval {
  std::size_t begin = 0, end = 0;
};

// Out of range is clamped, as the specification says.
Interval shape_interval(const Node& node, std::int64_t rank) {
  const auto clamp = [rank](std::int64_t axis) {
    if (axis < -rank) return std::int64_t{0};
    return std::clamp<std::int64_t>(axis < 0 ? axis + rank : axis, 0, rank);
  };
  const std::int64_t begin = clamp(node.get_int("start", 0));
  const std::int64_t end = std::max(begin, clamp(node.get_int("end", rank)));
  return {.begin = static_cast<std::size_t>(begin), .end = static_cast<std::size_t>(end)};
}

Tensor ints_tensor(std::span<const std::int64_t> values) {
  return Tensor::from<std::int64_t>({static_cast<std::int64_t>(values.size())}, values);
}

void infer_shape(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  if (!x.has_rank) {
    set_output(ctx, 0, unknown_dims(DataType::kInt64, 1));
    return;
  }
  const Interval part = shape_interval(ctx.node, static_cast<std::int64_t>(x.dims.size()));
  set_output(ctx, 0, make_type(DataType::kInt64, {static_cast<std::int64_t>(part.end - part.begin)}));
  const auto sizes = sizes_of(x);
  const std::span<const std::int64_t> chosen(sizes.data() + part.begin, part.end - part.begin);
  if (std::find(chosen.begin(), chosen.end(), -1) == chosen.end() && !ctx.constant_outputs.empty())
    ctx.constant_outputs[0] = ints_tensor(chosen);
}

std::vector<Tensor> evaluate_shape(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const Interval part = shape_interval(ctx.node, x.rank());
  return {ints_tensor(std::span<const std::int64_t>(x.shape()).subspan(part.begin, part.end - part.begin))};
}

void infer_size(InferContext& ctx) {
  set_output(ctx, 0, make_type(DataType::kInt64, {}));
  const TensorType& x = type_of(ctx, 0);
  const bool known = x.has_rank && std::all_of(x.dims.begin(), x.dims.end(), [](const Dim& d) { return d.known(); });
  if (known && !ctx.constant_outputs.empty()) ctx.constant_outputs[0] = Tensor::scalar(element_count(sizes_of(x)));
}

std::vector<Tensor> evaluate_size(const EvalContext& ctx) { return {Tensor::scalar(required(ctx, 0).size())}; }

// ---- Identity
void infer_identity(InferContext& ctx) { set_output(ctx, 0, type_of(ctx, 0)); }
std::vector<Tensor> evaluate_identity(const EvalContext& ctx) { return {required(ctx, 0)}; }

// ---- Reshape. 0 copies the input's size (unless allowzero), one -1 takes what is left.
// Dims that are not known stay so, but an unknown one (the batch) that only moves is carried over with its symbol.
std::vector<Dim> reshape_dims(const Node& node, const TensorType& x, std::span<const std::int64_t> target) {
  const bool allow_zero = node.get_int("allowzero", 0) != 0;
  std::vector<Dim> out(target.size());
  std::size_t rest_axis = target.size();
  bool copied_unknown = false;
  // What remains of the input once the sizes that are surely in the output are cancelled.
  std::vector<Dim> left = x.dims;
  std::int64_t known_out = 1;
  for (std::size_t i = 0; i < target.size(); ++i) {
    const std::int64_t size = target[i];
    if (size < -1) fail_node(node, "the shape {} has the size {}", to_string(target), size);
    if (size == -1) {
      if (rest_axis != target.size()) fail_node(node, "the shape {} has -1 more than once", to_string(target));
      rest_axis = i;
    } else if (size == 0 && !allow_zero) {
      if (!x.has_rank) {
        copied_unknown = true;
        continue;
      }
      if (i >= x.dims.size()) fail_node(node, "the shape {} copies axis {}, which {} does not have", to_string(target), i, to_string(x));
      out[i] = x.dims[i];
      left[i] = dim(1);
      if (x.dims[i].known() && x.dims[i].size == 0) {  // a zero size cannot be cancelled
        left[i] = dim(0);
        known_out = 0;
      }
    } else {
      out[i] = dim(size);
      known_out = mul_sizes(node, known_out, size);
    }
  }
  if (allow_zero && rest_axis != target.size() && std::find(target.begin(), target.end(), 0) != target.end())
    fail_node(node, "the shape {} has both 0 and -1, and allowzero is set", to_string(target));
  if (!x.has_rank || copied_unknown) return out;
  std::int64_t known_left = 1;
  std::vector<Dim> unknown_left;
  for (const Dim& d : left) {
    if (d.known())
      known_left = mul_sizes(node, known_left, d.size);
    else
      unknown_left.push_back(d);
  }
  const auto mismatch = [&] { fail_node(node, "{} cannot become {}: the element counts differ", to_string(x), to_string(target)); };
  if (rest_axis == target.size()) {
    if (unknown_left.empty() && known_left != known_out) mismatch();
    return out;
  }
  if (unknown_left.empty()) {
    if (known_out == 0) {
      if (known_left != 0) mismatch();
      out[rest_axis] = dim(0);  // any size would do; NumPy refuses, ONNX does not say
    } else {
      if (known_left % known_out != 0) mismatch();
      out[rest_axis] = dim(known_left / known_out);
    }
  } else if (unknown_left.size() == 1 && known_left == known_out && known_out != 0) {
    out[rest_axis] = unknown_left[0];
  }
  return out;
}

void infer_reshape(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  if (const Tensor* shape = constant_of(ctx, 1)) {
    const auto target = index_values(ctx.node, *shape, "the shape");
    set_output(ctx, 0, {.dtype = x.dtype, .has_rank = true, .dims = reshape_dims(ctx.node, x, target)});
    return;
  }
  const TensorType& shape = type_of(ctx, 1);
  if (shape.dtype != DataType::kUndefined) check_type(ctx.node, 1, shape.dtype, kIndexTypes);
  const bool known_rank = shape.has_rank && shape.dims.size() == 1 && shape.dims[0].known() && shape.dims[0].size <= 1024;
  set_output(ctx, 0, known_rank ? unknown_dims(x.dtype, shape.dims[0].size) : unknown_rank(x.dtype));
}

Shape known_sizes(const std::vector<Dim>& dims) {
  Shape shape;
  for (const Dim& d : dims) shape.push_back(d.size);
  return shape;
}

std::vector<Tensor> evaluate_reshape(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const auto target = index_values(ctx.node, required(ctx, 1), "the shape");
  return {x.reshaped(known_sizes(reshape_dims(ctx.node, make_type(x.type(), x.shape()), target)))};
}

// ---- Flatten: to two axes
std::int64_t flatten_axis(const Node& node, std::int64_t rank) {
  const std::int64_t axis = node.get_int("axis", 1);
  if (axis < -rank || axis > rank) fail_node(node, "axis {} is out of range for {} axes", axis, rank);
  return axis < 0 ? axis + rank : axis;
}

// The product; unknown unless every size is known, or one is unknown and the others are 1.
Dim product(const Node& node, std::span<const Dim> dims) {
  std::int64_t known = 1;
  const Dim* unknown = nullptr;
  for (const Dim& d : dims) {
    if (d.known()) {
      known = mul_sizes(node, known, d.size);
    } else if (unknown != nullptr) {
      return {};
    } else {
      unknown = &d;
    }
  }
  if (unknown == nullptr) return dim(known);
  return known == 1 ? *unknown : Dim{};
}

void infer_flatten(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  TensorType out = unknown_dims(x.dtype, 2);
  if (x.has_rank) {
    const auto axis = static_cast<std::size_t>(flatten_axis(ctx.node, static_cast<std::int64_t>(x.dims.size())));
    const std::span<const Dim> dims(x.dims);
    out.dims = {product(ctx.node, dims.first(axis)), product(ctx.node, dims.subspan(axis))};
  }
  set_output(ctx, 0, std::move(out));
}

std::vector<Tensor> evaluate_flatten(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const auto axis = static_cast<std::size_t>(flatten_axis(ctx.node, x.rank()));
  const std::span<const std::int64_t> shape(x.shape());
  return {x.reshaped({element_count(shape.first(axis)), element_count(shape.subspan(axis))})};
}

// ---- Squeeze, Unsqueeze: axes are an attribute up to opset 12, an input from 13 on
std::vector<Dim> squeeze_dims(const Node& node, const TensorType& x, const IntsArgument& axes) {
  std::vector<bool> drop(x.dims.size(), false);
  if (axes.given) {
    for (const std::int64_t axis : normalize_axes(node, *axes.values, static_cast<std::int64_t>(x.dims.size()))) {
      const Dim& d = x.dims[static_cast<std::size_t>(axis)];
      if (d.known() && d.size != 1) fail_node(node, "axis {} of {} is not of size 1", axis, to_string(x));
      drop[static_cast<std::size_t>(axis)] = true;
    }
  } else {
    for (std::size_t i = 0; i < drop.size(); ++i) drop[i] = x.dims[i].size == 1;
  }
  std::vector<Dim> out;
  for (std::size_t i = 0; i < drop.size(); ++i) {
    if (!drop[i]) out.push_back(x.dims[i]);
  }
  return out;
}

void infer_squeeze(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  const IntsArgument axes = ints_argument(ctx, "axes", 1);
  const bool all_known = std::all_of(x.dims.begin(), x.dims.end(), [](const Dim& d) { return d.known(); });
  if (x.has_rank && axes.given && !axes.values) {
    const TensorType& list = type_of(ctx, 1);
    const bool counted =
        list.has_rank && list.dims.size() == 1 && list.dims[0].known() && list.dims[0].size <= static_cast<std::int64_t>(x.dims.size());
    set_output(ctx, 0,
               counted ? unknown_dims(x.dtype, static_cast<std::int64_t>(x.dims.size()) - list.dims[0].size) : unknown_rank(x.dtype));
  } else if (!x.has_rank || (!axes.given && !all_known)) {
    set_output(ctx, 0, unknown_rank(x.dtype));
  } else {
    set_output(ctx, 0, {.dtype = x.dtype, .has_rank = true, .dims = squeeze_dims(ctx.node, x, axes)});
  }
}

std::vector<Tensor> evaluate_squeeze(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  return {x.reshaped(known_sizes(squeeze_dims(ctx.node, make_type(x.type(), x.shape()), ints_argument(ctx, "axes", 1))))};
}

std::vector<Dim> unsqueeze_dims(const Node& node, const TensorType& x, std::span<const std::int64_t> axes) {
  const std::size_t rank = x.dims.size() + axes.size();
  std::vector<bool> added(rank, false);
  for (const std::int64_t axis : normalize_axes(node, axes, static_cast<std::int64_t>(rank))) added[static_cast<std::size_t>(axis)] = true;
  std::vector<Dim> out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < rank; ++i) out.push_back(added[i] ? dim(1) : x.dims[next++]);
  return out;
}

void infer_unsqueeze(InferContext& ctx) {
  const TensorType& x = type_of(ctx, 0);
  const IntsArgument axes = ints_argument(ctx, "axes", 1);
  if (!axes.given) fail_node(ctx.node, "axes are missing");
  if (x.has_rank && axes.values) {
    set_output(ctx, 0, {.dtype = x.dtype, .has_rank = true, .dims = unsqueeze_dims(ctx.node, x, *axes.values)});
  } else {
    set_output(ctx, 0, unknown_rank(x.dtype));
  }
}

std::vector<Tensor> evaluate_unsqueeze(const EvalContext& ctx) {
  const Tensor& x = required(ctx, 0);
  const IntsArgument axes = ints_argument(ctx, "axes", 1);
  if (!axes.given) fail_node(ctx.node, "axes are missing");
  return {x.reshaped(known_sizes(unsqueeze_dims(ctx.node, make_type(x.type(), x.shape()), *axes.values)))};
}

constexpr auto kTied = QuantRule::kTied;

constexpr OpDef kOps[] = {
    {.name = "Shape", .infer = infer_shape, .evaluate = evaluate_shape, .rule = QuantRule::kNotReal},
    {.name = "Size", .infer = infer_size, .evaluate = evaluate_size, .rule = QuantRule::kNotReal},
    {.name = "Identity", .infer = infer_identity, .evaluate = evaluate_identity, .rule = kTied, .elementwise = true},
    {.name = "Reshape", .min_inputs = 2, .max_inputs = 2, .infer = infer_reshape, .evaluate = evaluate_reshape, .rule = kTied},
    {.name = "Flatten", .infer = infer_flatten, .evaluate = evaluate_flatten, .rule = kTied},
    {.name = "Squeeze", .max_inputs = 2, .infer = infer_squeeze, .evaluate = evaluate_squeeze, .rule = kTied},
    {.name = "Unsqueeze", .max_inputs = 2, .infer = infer_unsqueeze, .evaluate = evaluate_unsqueeze, .rule = kTied},
};

}  // namespace

std::span<const OpDef> shape_ops() { return kOps; }

}  // namespace nibble
