// Cast, CastLike.
#include "ops/math_families.h"
#include "ops/op_util.h"

namespace nibble {
namespace {

DataType cast_target(const Node& node) {
  if (!node.has("to")) fail_node(node, "the attribute 'to' is missing");
  return data_type_of_attribute(node, node.get_int("to", 0));
}

void infer_cast(InferContext& ctx) {
  TensorType type = type_of(ctx, 0);
  type.dtype = cast_target(ctx.node);
  set_output(ctx, 0, std::move(type));
}

// float to integer truncates; what does not fit saturates (C leaves it undefined; ONNX does not say).
std::vector<Tensor> evaluate_cast(const EvalContext& ctx) { return {cast(required(ctx, 0), cast_target(ctx.node))}; }

void infer_cast_like(InferContext& ctx) {
  TensorType type = type_of(ctx, 0);
  type.dtype = type_of(ctx, 1).dtype;
  set_output(ctx, 0, std::move(type));
}

std::vector<Tensor> evaluate_cast_like(const EvalContext& ctx) { return {cast(required(ctx, 0), required(ctx, 1).type())}; }

constexpr OpDef kOps[] = {
    {.name = "Cast", .infer = infer_cast, .evaluate = evaluate_cast, .rule = QuantRule::kNotReal, .elementwise = true},
    {.name = "CastLike",
     .min_inputs = 2,
     .max_inputs = 2,
     .infer = infer_cast_like,
     .evaluate = evaluate_cast_like,
     .rule = QuantRule::kNotReal},
};

}  // namespace

std::span<const OpDef> cast_ops() { return kOps; }

}  // namespace nibble
