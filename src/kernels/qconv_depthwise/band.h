// Two output rows at a time of one block of channels, 3x3: the contract between the driver and the kernels in the ISA files. Internal to
// the room.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/requantize/view.h"

namespace nibble::kernels {

inline constexpr std::int64_t kBandRows = 5;      // input rows under two output rows: 4 of them with stride 1, all 5 with stride 2
inline constexpr std::int64_t kBandVectors = 64;  // pairs times vectors of a row that a band has at most, if it has several pairs

struct DepthwiseBand {
  std::int64_t pairs = 1;  // of output rows; the last one may have one row
  bool last_is_single = false;
  const std::uint8_t* const* rows = nullptr;  // [pairs][kBandRows] at the image's channel 0, pixel 0; rows outside of the image: `zeros`
  const std::int64_t* steps = nullptr;        // [pairs][kBandRows] bytes from pixel to pixel: ld, or 0 for `zeros`
  const std::uint8_t* zeros = nullptr;        // 64 bytes of zx
  std::int64_t first = 0;                     // channel of the block
  std::int64_t pad_left = 0, in_w = 1, out_w = 1;
  const std::byte* wei = nullptr;      // of the block
  const std::int32_t* bias = nullptr;  // folded, of the block, in the vectors' order (see DepthwiseRow)
  // Bytes by requantize/fused.h: bias then has the start in it.
  const float* multiplier = nullptr;
  const float* offset = nullptr;
  Requantize requantize;        // arrays at the block's first channel
  std::uint8_t* dst = nullptr;  // either dst or acc: the band's first row, pixel 0, channel 0
  std::int32_t* acc = nullptr;
  std::int64_t ld_dst = 0;
  std::byte* scratch = nullptr;  // kBandScratch bytes, 64-byte aligned
};

// Words of both rows of a band's vectors, or the accumulators of a quarter as many; a vector that nobody wants.
inline constexpr std::int64_t kBandScratch = kBandVectors * 2 * 64 + 64 * 4;
inline constexpr std::int64_t kAccVectors = kBandVectors / 4;

using DepthwiseBandFn = void (*)(const DepthwiseBand&);

}  // namespace nibble::kernels
