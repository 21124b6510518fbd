// Convolution of 8-bit integers in NHWC, 1-D (height 1) and 2-D, any groups, strides, dilations and padding.
//
//   acc[b, oh, ow, o] = bias[o] + sum over kh, kw, i of (src[b, oh sh + kh dh - pt, ow sw + kw dw - pl, g I/G + i] - zx) (wei[o, i, kh, kw]
//   - zw[o]) dst = requantize(acc, channel o), or acc itself as int32; outside of the image src is zx. A residual tensor of the shape of
//   dst may be added to the requantized value (ResidualAdd).
//
// Implicit GEMM: for each block of output pixels a table of pointers, one a pixel and tap, feeds qgemm's tiles; padding points to a row of
// zx. 1x1 with stride 1 is qgemm itself. A first layer with few channels copies what each output pixel sees into a row of KH KW C bytes,
// some hundred pixels at a time, and is qgemm then.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/qgemm/qgemm.h"

namespace nibble::kernels {

// What is known at lowering.
struct ConvShape {
  std::int64_t in_channels = 0;   // C, all groups
  std::int64_t out_channels = 0;  // O, all groups
  std::int64_t groups = 1;
  std::int64_t kernel_h = 1, kernel_w = 1;
  std::int64_t stride_h = 1, stride_w = 1;
  std::int64_t dilation_h = 1, dilation_w = 1;
  std::int64_t pad_top = 0, pad_left = 0;  // the other two follow from the size of dst
};

// wei: int8 [O, C/G, KH, KW] (ONNX order), dense.
struct ConvWeights {
  const std::int8_t* wei = nullptr;
  std::uint8_t flip = 0;                        // as GemmWeights
  std::span<const std::int32_t> zero_points{};  // none, 1 or O
  std::span<const std::int32_t> bias{};         // none or O
  std::int32_t src_zero_point = 0;
};

// Packed weights; copies share the memory.
struct PackedConv {
  Isa isa = Isa::kReference;
  ConvShape shape;
  std::vector<PackedGemm> groups;  // narrow ones are joined; K is taps x run (each run padded to 4 bytes)
  std::int64_t taps = 0;           // entries of the pointer table a pixel
  std::int64_t run = 0;            // bytes behind each pointer
  bool gathered = false;           // one tap: all of them, copied next to each other
  std::int32_t src_zero_point = 0;
  std::vector<std::int8_t> plain;  // reference: [O, C/G, KH, KW]
  std::int64_t bytes = 0;
};

PackedConv pack_conv(const ConvShape& shape, const ConvWeights& weights, Isa isa);

struct ConvCall {
  const std::uint8_t* src = nullptr;  // [batch, in_h, in_w, ld_src]
  std::int64_t ld_src = 0;            // elements between pixels, >= C
  void* dst = nullptr;                // [batch, out_h, out_w, ld_dst] uint8 or int32
  std::int64_t ld_dst = 0;
  std::int64_t batch = 1, in_h = 1, in_w = 1, out_h = 1, out_w = 1;
  DstType dst_type = DstType::kUint8;
  Requantize requantize;            // one entry an output channel, with slack
  bool dynamic_zero_point = false;  // src_zero_point below holds instead of the packed one: the bias is folded again into scratch
  std::int32_t src_zero_point = 0;
  ResidualAdd residual{};  // kUint8 only, of qconv alone (not qconv_depthwise): [batch, out_h, out_w, residual.ld_src]
};

// Scratch that one call of qconv needs (each thread its own), 64-byte aligned. Depends on nothing but the packed weights.
std::int64_t conv_scratch_bytes(const PackedConv& conv);
// Output pixels [begin, end) of batch x out_h x out_w. Pixels are independent: any split gives the same bits.
void qconv(const PackedConv& conv, const ConvCall& call, std::int64_t begin, std::int64_t end, std::span<std::byte> scratch);

// Output channels [begin, end) alone, sharing the packed memory; begin is a multiple of conv_channel_step(), and so is end unless it is the last.
std::int64_t conv_channel_step(const PackedConv& conv);
PackedConv conv_channels(const PackedConv& conv, std::int64_t begin, std::int64_t end);
// The call that makes them: dst, residual and requantize from channel `begin` on.
ConvCall conv_channels(const ConvCall& call, std::int64_t begin);

std::string conv_kernel_name(const PackedConv& conv, std::int64_t pixels);

}  // namespace nibble::kernels
