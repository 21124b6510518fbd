// Dropout as inference has it: the identity, and a mask of ones.
#include "ops/nn_common.h"

namespace nibble::nn {
namespace {

DataType mask_type(int opset, DataType data) { return opset >= 10 ? DataType::kBool : data; }

void infer(InferContext& ctx) {
  infer_same(ctx);
  if (ctx.outputs.size() > 1) {
    ctx.outputs[1] = *ctx.inputs[0];
    ctx.outputs[1].dtype = mask_type(ctx.opset, ctx.inputs[0]->dtype);
  }
}

std::vector<Tensor> evaluate(const EvalContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (ctx.has_input(2) && to_int64s(ctx.input(2)) == std::vector<std::int64_t>{1}) {
    const auto ratio = ctx.has_input(1) ? to_doubles(ctx.input(1)) : std::vector<double>{0.5};
    if (ratio != std::vector<double>{0.0})
      fail(ErrorCode::kUnsupported, "node '{}' ({}): training_mode draws random numbers; export the model for inference", ctx.node.name,
           ctx.node.op_type);
  }
  Tensor mask;
  if (ctx.node.output(1) != kNoValue) {
    mask = Tensor::zeros(DataType::kUInt8, x.shape());
    for (std::uint8_t& m : mask.mutable_data<std::uint8_t>()) m = 1;
    mask = cast(mask, mask_type(ctx.opset, x.type()));
  }
  return {x, std::move(mask)};
}

}  // namespace

const OpDef kDropout = {
    .name = "Dropout", .max_inputs = 3, .max_outputs = 2, .infer = infer, .evaluate = evaluate, .rule = QuantRule::kTied};

}  // namespace nibble::nn
