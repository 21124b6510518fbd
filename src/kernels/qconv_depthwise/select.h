// Blocks of channels and the kernel of each width. Internal to the room.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/qconv_depthwise/band.h"
#include "kernels/qconv_depthwise/qconv_depthwise.h"
#include "kernels/qconv_depthwise/row.h"

namespace nibble::kernels {

struct DepthwiseBlock {
  std::int64_t first = 0;  // channel
  std::int64_t width = 0;  // 64, 32 or 16
};
// Covers [0, channels) with blocks that the ISA has kernels for; the last may overlap the one before. Empty: channels are fewer than the
// narrowest block, or the ISA has no kernel, and the reference does it.
std::vector<DepthwiseBlock> depthwise_blocks(Isa isa, std::int64_t channels);
DepthwiseRowFn depthwise_row_fn(Isa isa, std::int64_t width);
// The 3x3 kernel; stride 1 or 2.
DepthwiseBandFn depthwise_band_fn(Isa isa, std::int64_t width, std::int64_t stride);
// The convolution is one that the band kernels compute.
bool has_bands(const PackedDepthwise& conv);

void depthwise_reference(const PackedDepthwise& conv, const ConvCall& call, std::int64_t row_begin, std::int64_t row_end);

}  // namespace nibble::kernels
