// MatMul: numpy.matmul. Integers wrap.
#include <type_traits>

#include "ops/fused_activation.h"
#include "ops/matmul_loops.h"
#include "ops/nn_common.h"
#include "ops/onednn.h"

namespace nibble::nn {
namespace {

void infer(InferContext& ctx) {
  ctx.outputs[0].dtype = ctx.inputs[0]->dtype;
  infer_matmul_dims(ctx.node, *ctx.inputs[0], *ctx.inputs[1], ctx.outputs[0]);
}

bool multiply_fast(ThreadPool* pool, const MatMulGeometry& g, const float* a, const float* b, float* y) {
  if (g.b_shared) return onednn_gemm(pool, false, false, g.m * g.batches(), g.n, g.k, 1.0F, a, b, y);
  for (std::int64_t i = 0; i < g.batches(); ++i) {
    if (!onednn_gemm(pool, false, false, g.m, g.n, g.k, 1.0F, a + g.a_batch[at(i)] * g.m * g.k, b + g.b_batch[at(i)] * g.k * g.n,
                     y + i * g.m * g.n))
      return false;
  }
  return true;
}

// Signed integers are multiplied as their unsigned twins: the same bits, and wrapping is defined.
template <typename T>
Tensor product(const EvalContext& ctx) {
  const Tensor& a = ctx.input(0);
  const Tensor& b = ctx.input(1);
  const MatMulGeometry geometry = matmul_geometry(ctx.node, a.shape(), b.shape());
  Tensor y(a.type(), geometry.output);
  if constexpr (std::is_same_v<T, float>) {
    if (ctx.mode == ExecMode::kFast &&
        multiply_fast(ctx.pool, geometry, a.data<float>().data(), b.data<float>().data(), y.mutable_data<float>().data()))
      return y;
  }
  matmul<T>(ctx.pool, geometry, reinterpret_cast<const T*>(a.bytes()), reinterpret_cast<const T*>(b.bytes()),
            reinterpret_cast<T*>(y.mutable_bytes()));
  return y;
}

std::vector<Tensor> evaluate(const EvalContext& ctx) {
  const DataType type = ctx.input(0).type();
  if (ctx.input(1).type() != type)
    fail_node(ctx.node, "the inputs are {} and {}, expected one type", to_string(type), to_string(ctx.input(1).type()));
  switch (type) {
    case DataType::kInt32:
    case DataType::kUInt32: return {product<std::uint32_t>(ctx)};
    case DataType::kInt64:
    case DataType::kUInt64: return {product<std::uint64_t>(ctx)};
    default: break;
  }
  return evaluate_real(ctx, []<typename T>(const EvalContext& c) {
    std::vector<Tensor> outputs{product<T>(c)};
    apply_activation(fused_activation(c.node), outputs[0]);
    return outputs;
  });
}

}  // namespace

const OpDef kMatMul = {
    .name = "MatMul", .min_inputs = 2, .max_inputs = 2, .infer = infer, .evaluate = evaluate, .rule = QuantRule::kCompute};

}  // namespace nibble::nn
