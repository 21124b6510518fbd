// Dynamic quantization: the scale of an activation is chosen when its values are there (ONNX's DynamicQuantizeLinear), products are int32
// (ConvInteger, MatMulInteger) and become reals again with a bias and a clip. Everything in NHWC, so that a chain of such layers moves no
// layouts:
//
//   range = min and max of x, 0 among them                      (made by whoever wrote x)
//   grid  = dynamic_grid(range):  scale = f32((max - min) / 255), or 1 where that is 0; zero_point = rne(-min / scale), within 0..255
//   q     = quantize_linear(grid, x)                            (quantize_linear.h)
//   acc   = qconv / qconv_depthwise / qgemm, int32, with call.src_zero_point = grid.zero_point
//   y     = clip(f32(f32(f32(acc) multiplier[c]) + bias[c]), lo, hi), multiplier[c] = f32(scale wei_scale[c])
//
// Each arrow of the last line is one rounding in float32, as Cast, Mul, Add and Clip as nodes of their own have it.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "kernels/qconv/qconv.h"
#include "kernels/qconv_depthwise/qconv_depthwise.h"
#include "kernels/quantize_linear/quantize_linear.h"

namespace nibble::kernels {

// The values that were seen, 0 among them; NaNs are passed over. Threads keep one each and merge: the order does not matter.
struct FloatRange {
  float min = 0;
  float max = 0;
};
void merge(FloatRange& into, const FloatRange& other);

// Of n floats.
void min_max(Isa isa, const float* src, std::int64_t n, float* min, float* max);

Grid8 dynamic_grid(const FloatRange& range);

// What becomes of accumulators.
struct DequantizeCall {
  const float* multiplier = nullptr;                   // one a channel
  const float* bias = nullptr;                         // one a channel; null: not even +0 is added
  float lo = -std::numeric_limits<float>::infinity();  // Relu, Clip; a NaN stays one
  float hi = std::numeric_limits<float>::infinity();
  float* dst = nullptr;     // [rows, ld_dst]
  std::int64_t ld_dst = 0;  // elements
};

// Rows of `channels` accumulators; `range` (may be null) takes in what was written.
void dequantize_rows(Isa isa, const DequantizeCall& call, const std::int32_t* acc, std::int64_t ld_acc, std::int64_t rows,
                     std::int64_t channels, FloatRange* range);

// dst[i] = clip(f32(a[i] + b[i]), lo, hi): residuals between dynamic layers. dst may be a or b.
void add_reals(Isa isa, const float* a, const float* b, float lo, float hi, float* dst, std::int64_t n, FloatRange* range);

// Integer convolution straight to reals, block by block, so that the accumulators never leave the cache. conv_call as for qconv and
// qconv_depthwise, but its dst, ld_dst and dst_type do not count: call.dst is [batch, out_h, out_w, call.ld_dst]. scratch: at least
// dynamic_scratch_bytes(), 64-byte aligned, one a thread. Any split gives the same bits.
std::int64_t dynamic_scratch_bytes(const PackedConv& conv);
std::int64_t dynamic_scratch_bytes(const PackedDepthwise& conv, std::int64_t in_w, std::int64_t out_w);
// Output pixels [begin, end).
void qconv_dynamic(const PackedConv& conv, const ConvCall& conv_call, const DequantizeCall& call, std::int64_t begin, std::int64_t end,
                   std::span<std::byte> scratch, FloatRange* range);
// Output rows [begin, end) of batch x out_h.
void qconv_depthwise_dynamic(const PackedDepthwise& conv, const ConvCall& conv_call, const DequantizeCall& call, std::int64_t begin,
                             std::int64_t end, std::span<std::byte> scratch, FloatRange* range);
// MatMulInteger: rows [begin, end) of the product. gemm_call as for qgemm, but for dst, ld_dst and dst_type; its bias is fold_bias() for
// the run-time zero point.
std::int64_t dynamic_scratch_bytes(const PackedGemm& weights);
void qgemm_dynamic(const PackedGemm& weights, const GemmCall& gemm_call, const DequantizeCall& call, std::int64_t begin, std::int64_t end,
                   std::span<std::byte> scratch, FloatRange* range);

std::string dequantize_rows_kernel_name(Isa isa);

}  // namespace nibble::kernels
