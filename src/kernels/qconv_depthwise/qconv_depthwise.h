// Depthwise convolution of 8-bit integers in NHWC: one filter a channel (multiplier 1), any kernel size, stride, dilation and padding.
//
//   acc[b, oh, ow, c] = bias[c] + sum over kh, kw of (src[b, oh sh + kh dh - pt, ow sw + kw dw - pl, c] - zx) (wei[c, 0, kh, kw] - zw[c])
//   dst = requantize(acc, channel c); outside of the image src is zx.
//
// Packed for the vector kernels: channels in blocks, for each column kw of taps groups of four rows kh, so that one dot-product instruction
// sums four taps of a channel; neighbouring outputs of a row share the interleaved columns, and of 3x3 windows two rows of outputs do.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/qconv/qconv.h"

namespace nibble::kernels {

// Packed weights; copies share the memory. requantize's arrays stay in channel order.
struct PackedDepthwise {
  Isa isa = Isa::kReference;
  ConvShape shape;              // in_channels == out_channels == groups
  std::int64_t row_groups = 0;  // ceil(KH / 4)
  struct Block {
    std::int64_t first = 0, width = 0;  // channels
    const std::byte* wei = nullptr;
  };
  std::vector<Block> blocks;           // empty: the reference does it
  const std::int8_t* plain = nullptr;  // [C, KH, KW]
  const std::int32_t* bias = nullptr;  // folded, with slack
  const std::int32_t* raw_bias = nullptr;
  const std::int32_t* tap_sums = nullptr;     // sum of (wei - zw) of a channel
  const std::int32_t* zero_points = nullptr;  // null: all 0
  std::int32_t src_zero_point = 0;
  // The requantization that was prepared (requantize/fused.h), in the vectors' order, block after block; null: none. It holds for calls
  // with the same Requantize and the packed zero point.
  struct Fused {
    Requantize requantize;
    const std::int32_t* bias = nullptr;
    const float* multiplier = nullptr;
    const float* offset = nullptr;
  };
  Fused fused;
  std::int64_t bytes = 0;
  std::shared_ptr<const std::byte> memory;
};

// requantize: what calls will ask for, if that is known already; other calls are right, too, but slower.
PackedDepthwise pack_depthwise(const ConvShape& shape, const ConvWeights& weights, Isa isa, const Requantize* requantize = nullptr);

// Scratch that one call of qconv_depthwise needs (each thread its own), 64-byte aligned.
std::int64_t depthwise_scratch_bytes(const PackedDepthwise& conv, std::int64_t in_w, std::int64_t out_w);
// Output rows [row_begin, row_end) of batch x out_h. Rows are independent: any split gives the same bits.
void qconv_depthwise(const PackedDepthwise& conv, const ConvCall& call, std::int64_t row_begin, std::int64_t row_end,
                     std::span<std::byte> scratch);

std::string depthwise_kernel_name(const PackedDepthwise& conv);

}  // namespace nibble::kernels
