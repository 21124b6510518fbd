// What the operators of neural networks share: their table of definitions and small checks.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/fail.h"
#include "ops/op.h"

namespace nibble::nn {

extern const OpDef kConv, kConvTranspose, kConvInteger, kQLinearConv;
extern const OpDef kMatMul, kGemm, kMatMulInteger, kQLinearMatMul;
extern const OpDef kQuantizeLinear, kDequantizeLinear, kDynamicQuantizeLinear;
extern const OpDef kMaxPool, kAveragePool, kLpPool, kGlobalMaxPool, kGlobalAveragePool, kGlobalLpPool, kMaxUnpool;
extern const OpDef kBatchNormalization, kInstanceNormalization, kLayerNormalization, kGroupNormalization, kMeanVarianceNormalization,
    kLpNormalization, kLrn;
extern const OpDef kSoftmax, kLogSoftmax, kHardmax;
extern const OpDef kResize, kUpsample, kGridSample, kRoiAlign;
extern const OpDef kDepthToSpace, kSpaceToDepth, kDropout, kNonMaxSuppression;

inline std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// `axis` counted from the end where it is negative. Throws where it is out of range.
inline std::int64_t checked_axis(const Node& node, std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) fail_node(node, "axis {} is out of range for a tensor of {} axes", axis, rank);
  return axis < 0 ? axis + rank : axis;
}

inline std::int64_t product(std::span<const std::int64_t> shape, std::size_t begin, std::size_t end) {
  std::int64_t result = 1;
  for (std::size_t i = begin; i < end; ++i) result *= shape[i];
  return result;
}

inline void require_rank(const Node& node, const Tensor& tensor, std::int64_t min, std::string_view what) {
  if (tensor.rank() < min) fail_node(node, "{} has shape {}, expected at least {} axes", what, to_string(tensor.shape()), min);
}

// The rank of an inferred type, checked where it is known.
inline void require_rank(const Node& node, const TensorType& type, std::size_t min, std::string_view what) {
  if (type.has_rank && type.dims.size() < min) fail_node(node, "{} is {}, expected at least {} axes", what, to_string(type), min);
}

// Output 0 has the type of input 0.
inline void infer_same(InferContext& ctx) {
  if (!ctx.outputs.empty() && ctx.has_input(0)) ctx.outputs[0] = *ctx.inputs[0];
}

// Calls body.operator()<float or double>(ctx) with 16-bit floats widened to float32 before and narrowed again after. Input 0 tells the
// type.
template <typename Body>
std::vector<Tensor> evaluate_real(const EvalContext& ctx, Body&& body) {
  const DataType type = ctx.input(0).type();
  if (type == DataType::kFloat32) return body.template operator()<float>(ctx);
  if (type == DataType::kFloat64) return body.template operator()<double>(ctx);
  if (type != DataType::kFloat16 && type != DataType::kBFloat16)
    fail_node(ctx.node, "input 0 is {}, expected a floating point type", to_string(type));
  std::vector<Tensor> wide(ctx.inputs.size());
  std::vector<const Tensor*> inputs(ctx.inputs.begin(), ctx.inputs.end());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr || inputs[i]->type() != type) continue;
    wide[i] = cast(*inputs[i], DataType::kFloat32);
    inputs[i] = &wide[i];
  }
  EvalContext widened{.node = ctx.node, .opset = ctx.opset, .inputs = inputs, .mode = ctx.mode, .pool = ctx.pool};
  std::vector<Tensor> outputs = body.template operator()<float>(widened);
  for (Tensor& output : outputs) {
    if (output.type() == DataType::kFloat32) output = cast(output, type);
  }
  return outputs;
}

}  // namespace nibble::nn
