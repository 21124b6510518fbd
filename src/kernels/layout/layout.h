// Moving bytes: layouts, concatenation, padding, nearest resize. Exact by nature.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/isa.h"

namespace nibble::kernels {

// dst[c, r] = src[r, c]: rows x columns bytes, ld in elements.
void transpose_u8(Isa isa, const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst, std::int64_t ld_dst, std::int64_t rows,
                  std::int64_t columns);
void nchw_to_nhwc(Isa isa, const std::uint8_t* src, std::int64_t batch, std::int64_t channels, std::int64_t pixels, std::uint8_t* dst,
                  std::int64_t ld_dst);
void nhwc_to_nchw(Isa isa, const std::uint8_t* src, std::int64_t ld_src, std::int64_t batch, std::int64_t channels, std::int64_t pixels,
                  std::uint8_t* dst);

// Rows [begin, end) of `bytes` bytes: a concatenation's part, a slice.
void copy_rows(const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst, std::int64_t ld_dst, std::int64_t bytes, std::int64_t begin,
               std::int64_t end);

struct PadCall {
  const std::uint8_t* src = nullptr;  // [batch, in_h, in_w, ld_src]
  std::int64_t ld_src = 0;
  std::uint8_t* dst = nullptr;  // [batch, out_h, out_w, ld_dst]
  std::int64_t ld_dst = 0;
  std::int64_t batch = 1, in_h = 1, in_w = 1, out_h = 1, out_w = 1, channels = 0;
  std::int64_t pad_top = 0, pad_left = 0;  // negative: cropped
  std::uint8_t value = 0;
};
// Output rows [row_begin, row_end) of batch x out_h.
void pad_nhwc(const PadCall& call, std::int64_t row_begin, std::int64_t row_end);

// dst[b, y, x] = src[b, index_h[y], index_w[x]]: nearest resize, with the indices worked out at lowering.
struct ResizeCall {
  const std::uint8_t* src = nullptr;
  std::int64_t ld_src = 0;
  std::uint8_t* dst = nullptr;
  std::int64_t ld_dst = 0;
  std::int64_t batch = 1, in_h = 1, in_w = 1, out_h = 1, out_w = 1, channels = 0;
  const std::int32_t* index_h = nullptr;  // out_h values in [0, in_h)
  const std::int32_t* index_w = nullptr;  // out_w values in [0, in_w)
};
void resize_nearest_nhwc(const ResizeCall& call, std::int64_t row_begin, std::int64_t row_end);

// dst[i] = src[i] ^ 0x80: int8 to the uint8 that the kernels use, and back. dst may be src.
void flip_sign(Isa isa, const std::uint8_t* src, std::uint8_t* dst, std::int64_t n);

}  // namespace nibble::kernels
