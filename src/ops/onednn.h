// Fast float32 convolutions and matrix products through oneDNN. Its bits change with threads, batch and instruction set: kFast only.
#pragma once

#include <cstdint>
#include <optional>

#include "ops/conv_loops.h"
#include "ops/fused_activation.h"
#include "ops/op.h"

namespace nibble::nn {

// 2-D convolution of channels-last tensors: x [N,H,W,C] -> y [N,OH,OW,O], w and bias as ONNX has them. Keeps the primitive and the
// reordered weights in ctx.state where the weights are constant. nullopt: oneDNN declines; use the plain loops.
std::optional<Tensor> onednn_conv_nhwc(const EvalContext& ctx, const ConvGeometry& geometry, const FusedActivation& activation);

// Row-major y [m, n] = alpha * op(a) [m, k] * op(b) [k, n]. False: oneDNN declines.
bool onednn_gemm(ThreadPool* pool, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
                 const float* a, const float* b, float* y);

// Sigmoid and Tanh of a float32 tensor in any layout (the C library's exp costs ten times as much). nullopt: another op or type, or oneDNN
// declines.
std::optional<Tensor> onednn_unary(ThreadPool* pool, const Node& node, const Tensor& x);

// Sets oneDNN's threads (OpenMP's, of the calling thread) for its lifetime. Ours is always 1: the parts run on our own pool.
class OnednnThreads {
 public:
  explicit OnednnThreads(int threads);
  ~OnednnThreads();
  OnednnThreads(const OnednnThreads&) = delete;
  OnednnThreads& operator=(const OnednnThreads&) = delete;

 private:
  int before_;
};

}  // namespace nibble::nn
