// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
//   q = saturate(round_half_even(x / scale) + zero_point),  x = (q - zero_point) * scale
// The division and the product are single float32 operations, as in ONNX Runtime.
#include <type_traits>

#include "ops/nn_common.h"
#include "ops/quant_layout.h"
#include "tensor/dispatch.h"

namespace nibble::nn {
namespace {

// Calls body(parameter, first, count, step) for runs of elements: per tensor and per axis a run shares one parameter (step 0), in blocks
// each element has the next one (step 1).
template <typename Body>
void for_each_run(ThreadPool* pool, const QuantLayout& layout, const Body& body) {
  const std::int64_t step = layout.kind == QuantLayout::Kind::kBlocked ? 1 : 0;
  if (layout.kind == QuantLayout::Kind::kPerTensor) {
    parallel_for(pool, layout.inner, 65536, [&](std::int64_t begin, std::int64_t end) { body(0, begin, end - begin, 0); });
    return;
  }
  const std::int64_t grain = std::max<std::int64_t>(65536 / std::max<std::int64_t>(layout.inner, 1), 1);
  parallel_for(pool, layout.outer * layout.axis, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      body(layout.parameter(row / layout.axis, row % layout.axis, 0), row * layout.inner, layout.inner, step);
  });
}

DataType quantized_type(const Node& node, const TensorType* zero_point) {
  if (zero_point != nullptr) return zero_point->dtype;
  switch (node.get_int("output_dtype", 0)) {  // ONNX's TensorProto numbers
    case 0:
    case 2: return DataType::kUInt8;
    case 3: return DataType::kInt8;
    case 4: return DataType::kUInt16;
    case 5: return DataType::kInt16;
    case 21: return DataType::kUInt4;
    case 22: return DataType::kInt4;
    default: break;
  }
  fail_node(node, "output_dtype {} is not supported; known are int4, uint4, int8, uint8, int16 and uint16",
            node.get_int("output_dtype", 0));
}

void infer_quantize(InferContext& ctx) {
  infer_same(ctx);
  ctx.outputs[0].dtype = quantized_type(ctx.node, ctx.has_input(2) ? ctx.inputs[2] : nullptr);
}

std::vector<Tensor> quantize(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& source = ctx.input(0);
  if (!is_float(source.type()) && source.type() != DataType::kInt32)
    fail_node(node, "the input is {}, expected a floating point type or int32", to_string(source.type()));
  TensorType zero_type;
  if (ctx.has_input(2)) zero_type.dtype = ctx.input(2).type();
  const DataType type = quantized_type(node, ctx.has_input(2) ? &zero_type : nullptr);
  const IntegerRange range = integer_range(node, type);
  const QuantLayout layout = quant_layout(node, source.shape(), ctx.input(1).shape());
  const auto scale = scales(node, ctx.input(1), -1);
  const auto zero = zero_points(node, ctx.has_input(2) ? &ctx.input(2) : nullptr, std::ssize(scale));
  const Tensor wide = cast(source, DataType::kFloat32);
  const auto x = wide.data<float>();
  Tensor y(type, source.shape());
  dispatch(type, [&]<typename T>() {
    if constexpr (std::is_integral_v<T> && sizeof(T) <= 2 && !std::is_same_v<T, bool>) {
      const auto out = y.mutable_data<T>();
      for_each_run(ctx.pool, layout, [&](std::int64_t p, std::int64_t first, std::int64_t count, std::int64_t step) {
        for (std::int64_t i = 0; i < count; ++i)
          out[at(first + i)] = static_cast<T>(saturate(x[at(first + i)] / scale[at(p + i * step)], zero[at(p + i * step)], range));
      });
    }
  });
  return {std::move(y)};
}

void infer_dequantize(InferContext& ctx) {
  infer_same(ctx);
  ctx.outputs[0].dtype = ctx.inputs[1]->dtype;
}

std::vector<Tensor> dequantize(const EvalContext& ctx) {
  const Node& node = ctx.node;
  const Tensor& x = ctx.input(0);
  if (!is_integer(x.type())) fail_node(node, "the input is {}, expected an integer type", to_string(x.type()));
  const QuantLayout layout = quant_layout(node, x.shape(), ctx.input(1).shape());
  const auto scale = scales(node, ctx.input(1), -1);
  const auto zero = zero_points(node, ctx.has_input(2) ? &ctx.input(2) : nullptr, std::ssize(scale));
  Tensor y(DataType::kFloat32, x.shape());
  const auto out = y.mutable_data<float>();
  dispatch(x.type(), [&]<typename T>() {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
      const auto in = x.data<T>();
      for_each_run(ctx.pool, layout, [&](std::int64_t p, std::int64_t first, std::int64_t count, std::int64_t step) {
        for (std::int64_t i = 0; i < count; ++i)
          out[at(first + i)] =
              static_cast<float>(static_cast<std::int64_t>(in[at(first + i)]) - zero[at(p + i * step)]) * scale[at(p + i * step)];
      });
    }
  });
  return {cast(y, ctx.input(1).type())};
}

void infer_dynamic(InferContext& ctx) {
  infer_same(ctx);
  ctx.outputs[0].dtype = DataType::kUInt8;
  if (ctx.outputs.size() > 1) ctx.outputs[1] = make_type(DataType::kFloat32, {});
  if (ctx.outputs.size() > 2) ctx.outputs[2] = make_type(DataType::kUInt8, {});
}

// The range always holds zero; an input of zeros gets scale 1.
std::vector<Tensor> quantize_dynamic(const EvalContext& ctx) {
  const auto x = ctx.input(0).data<float>();
  float low = 0.0F, high = 0.0F;
  for (const float v : x) {
    if (!std::isfinite(v)) fail_node(ctx.node, "the input holds {}; a range needs finite numbers", v);
    low = std::min(low, v);
    high = std::max(high, v);
  }
  const float width = (high - low) / 255.0F;
  const float scale = width > 0.0F ? width : 1.0F;
  const auto zero = static_cast<std::uint8_t>(saturate(0.0F - low / scale, 0, {0, 255}));
  Tensor y(DataType::kUInt8, ctx.input(0).shape());
  const auto out = y.mutable_data<std::uint8_t>();
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::uint8_t>(saturate(x[i] / scale, zero, {0, 255}));
  return {std::move(y), Tensor::scalar<float>(scale), Tensor::scalar<std::uint8_t>(zero)};
}

}  // namespace

const OpDef kQuantizeLinear = {.name = "QuantizeLinear",
                               .min_inputs = 2,
                               .max_inputs = 3,
                               .infer = infer_quantize,
                               .evaluate = quantize,
                               .rule = QuantRule::kNotReal,
                               .note = "is quantization itself"};
const OpDef kDequantizeLinear = {.name = "DequantizeLinear",
                                 .min_inputs = 2,
                                 .max_inputs = 3,
                                 .infer = infer_dequantize,
                                 .evaluate = dequantize,
                                 .rule = QuantRule::kNotReal,
                                 .note = "is quantization itself"};
const OpDef kDynamicQuantizeLinear = {.name = "DynamicQuantizeLinear",
                                      .max_outputs = 3,
                                      .infer = infer_dynamic,
                                      .evaluate = quantize_dynamic,
                                      .rule = QuantRule::kNotReal,
                                      .note = "is quantization itself"};

}  // namespace nibble::nn
