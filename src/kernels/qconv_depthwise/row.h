// One output row of one block of channels: the contract between the driver and the kernels in the ISA files. Internal to the room.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/requantize/view.h"

namespace nibble::kernels {

// The kernel takes a whole block (its width is its own), never less: the driver lets the last block overlap the one before it.
struct DepthwiseRow {
  const std::uint8_t* const* rows =
      nullptr;  // [4 row_groups] at the block's first channel, pixel 0; rows outside of the image or beyond KH point to `zeros`
  const std::int64_t* steps = nullptr;  // [4 row_groups] bytes from pixel to pixel: ld, or 0 for `zeros`
  const std::uint8_t* zeros = nullptr;  // 64 bytes of zx
  std::int64_t row_groups = 1;
  std::int64_t kernel_h = 1, kernel_w = 1, stride_w = 1, dilation_w = 1, pad_left = 0, in_w = 1, out_w = 1;
  const std::byte* wei = nullptr;      // of the block
  const std::int32_t* bias = nullptr;  // folded, of the block, in the vectors' order: [4 j][width/16 l][4 c] for channel 16 l + 4 j + c
  const float* multiplier = nullptr;   // likewise; null under integer laws
  const std::int32_t* zero_points = nullptr;  // at the block's first channel, in its order, or null
  Requantize requantize;                      // arrays at the block's first channel
  std::uint8_t* dst = nullptr;                // either dst or acc
  std::int32_t* acc = nullptr;
  std::int64_t ld_dst = 0;
};

using DepthwiseRowFn = void (*)(const DepthwiseRow&);

}  // namespace nibble::kernels
