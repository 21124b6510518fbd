// Constants of channels in the order in which the vectors have them. Internal to the room.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/qconv_depthwise/qconv_depthwise.h"

namespace nibble::kernels {

// Constants of all blocks; blocks may overlap.
template <typename Blocks>
std::int64_t ordered_channels(const Blocks& blocks) {
  std::int64_t n = 0;
  for (const auto& block : blocks) n += block.width;
  return n;
}

// to: block after block, [4 j][width/16 l][4 c] for channel 16 l + 4 j + c.
template <typename T>
void put_in_order(const PackedDepthwise& conv, const T* from, T* to) {
  for (const PackedDepthwise::Block& block : conv.blocks)
    for (std::int64_t j = 0; j < 4; ++j)
      for (std::int64_t l = 0; l < block.width / 16; ++l, to += 4) std::copy_n(from + block.first + 16 * l + 4 * j, 4, to);
}

}  // namespace nibble::kernels
