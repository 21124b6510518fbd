#include "kernels/layout/layout.h"

#include <algorithm>
#include <cstring>

#include "kernels/layout/kernels.h"

namespace nibble::kernels {

namespace {

void transpose_plain(const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst, std::int64_t ld_dst, std::int64_t rows,
                     std::int64_t columns) {
  for (std::int64_t c = 0; c < columns; ++c)
    for (std::int64_t r = 0; r < rows; ++r) dst[c * ld_dst + r] = src[r * ld_src + c];
}

}  // namespace

void transpose_u8([[maybe_unused]] Isa isa, const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst, std::int64_t ld_dst,
                  std::int64_t rows, std::int64_t columns) {
#if defined(NIBBLE_KERNELS_X86)
  if (isa >= Isa::kAvx512Vnni && has_vbmi() && rows == 3 && ld_dst == 3) {
    std::int64_t c = 0;
    for (; c + 64 <= columns; c += 64) interleave_3x64_avx512vbmi(src + c, ld_src, dst + c * 3);
    return transpose_plain(src + c, ld_src, dst + c * 3, 3, 3, columns - c);
  }
#endif
  // Blocks of 16 x 16 keep both sides in the cache.
  constexpr std::int64_t kBlock = 16;
  for (std::int64_t r = 0; r < rows; r += kBlock)
    for (std::int64_t c = 0; c < columns; c += kBlock) {
      const std::int64_t height = std::min(kBlock, rows - r);
      const std::int64_t width = std::min(kBlock, columns - c);
#if defined(NIBBLE_KERNELS_X86)
      if (isa >= Isa::kAvx2 && height == kBlock && width == kBlock) {
        transpose_16x16_avx2(src + r * ld_src + c, ld_src, dst + c * ld_dst + r, ld_dst);
        continue;
      }
#endif
      transpose_plain(src + r * ld_src + c, ld_src, dst + c * ld_dst + r, ld_dst, height, width);
    }
}

void nchw_to_nhwc(Isa isa, const std::uint8_t* src, std::int64_t batch, std::int64_t channels, std::int64_t pixels, std::uint8_t* dst,
                  std::int64_t ld_dst) {
  for (std::int64_t b = 0; b < batch; ++b)
    transpose_u8(isa, src + b * channels * pixels, pixels, dst + b * pixels * ld_dst, ld_dst, channels, pixels);
}

void nhwc_to_nchw(Isa isa, const std::uint8_t* src, std::int64_t ld_src, std::int64_t batch, std::int64_t channels, std::int64_t pixels,
                  std::uint8_t* dst) {
  for (std::int64_t b = 0; b < batch; ++b)
    transpose_u8(isa, src + b * pixels * ld_src, ld_src, dst + b * channels * pixels, pixels, pixels, channels);
}

void copy_rows(const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst, std::int64_t ld_dst, std::int64_t bytes, std::int64_t begin,
               std::int64_t end) {
  if (begin >= end || bytes == 0) return;
  if (ld_src == bytes && ld_dst == bytes) {
    std::memcpy(dst + begin * bytes, src + begin * bytes, static_cast<std::size_t>((end - begin) * bytes));
    return;
  }
  for (std::int64_t r = begin; r < end; ++r) std::memcpy(dst + r * ld_dst, src + r * ld_src, static_cast<std::size_t>(bytes));
}

void pad_nhwc(const PadCall& call, std::int64_t row_begin, std::int64_t row_end) {
  const auto bytes = static_cast<std::size_t>(call.channels);
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::int64_t ih = row % call.out_h - call.pad_top;
    const std::int64_t b = row / call.out_h;
    for (std::int64_t ow = 0; ow < call.out_w; ++ow) {
      const std::int64_t iw = ow - call.pad_left;
      std::uint8_t* dst = call.dst + (row * call.out_w + ow) * call.ld_dst;
      if (ih >= 0 && ih < call.in_h && iw >= 0 && iw < call.in_w)
        std::memcpy(dst, call.src + ((b * call.in_h + ih) * call.in_w + iw) * call.ld_src, bytes);
      else
        std::memset(dst, call.value, bytes);
    }
  }
}

void resize_nearest_nhwc(const ResizeCall& call, std::int64_t row_begin, std::int64_t row_end) {
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::int64_t b = row / call.out_h;
    const std::uint8_t* line = call.src + (b * call.in_h + call.index_h[row % call.out_h]) * call.in_w * call.ld_src;
    for (std::int64_t ow = 0; ow < call.out_w; ++ow)
      std::memcpy(call.dst + (row * call.out_w + ow) * call.ld_dst, line + call.index_w[ow] * call.ld_src,
                  static_cast<std::size_t>(call.channels));
  }
}

void flip_sign(Isa /*isa*/, const std::uint8_t* src, std::uint8_t* dst, std::int64_t n) {
  // The compiler vectorises this for any target.
  for (std::int64_t i = 0; i < n; ++i) dst[i] = static_cast<std::uint8_t>(src[i] ^ 0x80U);
}

}  // namespace nibble::kernels
