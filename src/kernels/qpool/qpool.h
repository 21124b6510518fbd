// Pooling of 8-bit integers in NHWC.
//
//   max:      dst = max over the window's positions inside of the image, then clamp to [qmin, qmax]. src and dst share their parameters.
//   average:  acc = sum over the window's positions inside of the image of (src - zx); dst = requantize(acc, channel count - 1), where
//   count is the
//             divisor: positions inside of the image, or inside of the padded image (count_include_pad). The caller makes a table of
//             multipliers sx / (sy count) for count 1..KH KW.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/isa.h"
#include "kernels/requantize/requantize.h"

namespace nibble::kernels {

struct PoolCall {
  const std::uint8_t* src = nullptr;  // [batch, in_h, in_w, ld_src]
  std::int64_t ld_src = 0;
  std::uint8_t* dst = nullptr;  // [batch, out_h, out_w, ld_dst]
  std::int64_t ld_dst = 0;
  std::int64_t batch = 1, in_h = 1, in_w = 1, out_h = 1, out_w = 1, channels = 0;
  std::int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
};

enum class PadCount { kExclude, kInclude };

// Output rows [row_begin, row_end) of batch x out_h, without scratch memory. Every window has at least one position inside of the image,
// else dst is qmin (max) or requantize(0) (average).
void qpool_max(Isa isa, const PoolCall& call, std::int32_t qmin, std::int32_t qmax, std::int64_t row_begin, std::int64_t row_end);
// Global average pooling is the window in_h x in_w. A table of per-count multipliers has KH KW channels (plus slack).
void qpool_average(Isa isa, const PoolCall& call, std::int32_t src_zero_point, PadCount pad_count, const Requantize& per_count,
                   std::int64_t row_begin, std::int64_t row_end);

std::string max_pool_kernel_name(Isa isa);
std::string average_pool_kernel_name(Isa isa);

}  // namespace nibble::kernels
