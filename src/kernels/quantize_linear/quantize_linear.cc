// The plain loops that are law, the choice of the kernel, and the changes of layout.
#include "kernels/quantize_linear/quantize_linear.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/kernel_name.h"
#include "kernels/layout/layout.h"
#include "kernels/quantize_linear/kernels.h"
#include "numeric/quantize.h"

namespace nibble::kernels {
namespace {

constexpr std::int64_t kBlock = 64;  // pixels and channels of a block that changes its layout: both sides fit the first-level cache

template <typename Q>
void dequantize_reference(float scale, std::int32_t zero_point, const Q* src, float* dst, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) dst[i] = dequantize(src[i], scale, zero_point);
}

}  // namespace

void quantize_linear([[maybe_unused]] Isa isa, const Grid8& grid, const float* src, std::uint8_t* dst, std::int64_t n) {
#if defined(NIBBLE_KERNELS_X86)
  if (isa >= Isa::kAvx512Vnni) return quantize_avx512(grid, src, dst, n);
  if (isa >= Isa::kAvx2) return quantize_avx2(grid, src, dst, n);
#endif
  for (std::int64_t i = 0; i < n; ++i)
    dst[i] = static_cast<std::uint8_t>(quantize(src[i], grid.scale, grid.zero_point, grid.qmin, grid.qmax));
}

void quantize_nchw_to_nhwc(Isa isa, const Grid8& grid, const float* src, std::int64_t channels, std::int64_t pixels, std::uint8_t* dst,
                           std::int64_t ld_dst, std::int64_t begin, std::int64_t end) {
  std::array<std::uint8_t, kBlock * kBlock> block;
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t b = at / pixels;
    const std::int64_t first = at % pixels;
    const std::int64_t count = std::min({kBlock, pixels - first, end - at});
    const float* image = src + b * channels * pixels + first;
    std::uint8_t* out = dst + at * ld_dst;
    for (std::int64_t c0 = 0; c0 < channels; c0 += kBlock) {
      const std::int64_t width = std::min(kBlock, channels - c0);
      for (std::int64_t c = 0; c < width; ++c) quantize_linear(isa, grid, image + (c0 + c) * pixels, block.data() + c * kBlock, count);
      transpose_u8(isa, block.data(), kBlock, out + c0, ld_dst, width, count);
    }
    at += count;
  }
}

void dequantize_linear([[maybe_unused]] Isa isa, float scale, std::int32_t zero_point, const std::uint8_t* src, float* dst,
                       std::int64_t n) {
#if defined(NIBBLE_KERNELS_X86)
  if (isa >= Isa::kAvx512Vnni) return dequantize_u8_avx512(scale, zero_point, src, dst, n);
  if (isa >= Isa::kAvx2) return dequantize_u8_avx2(scale, zero_point, src, dst, n);
#endif
  dequantize_reference(scale, zero_point, src, dst, n);
}

void dequantize_linear(Isa /*isa*/, float scale, std::int32_t zero_point, const std::int8_t* src, float* dst, std::int64_t n) {
  dequantize_reference(scale, zero_point, src, dst, n);
}

void dequantize_linear(Isa /*isa*/, float scale, std::int32_t zero_point, const std::int32_t* src, float* dst, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    dst[i] =
        static_cast<float>(static_cast<std::int32_t>(static_cast<std::uint32_t>(src[i]) - static_cast<std::uint32_t>(zero_point))) * scale;
}

void dequantize_channels(Isa /*isa*/, const float* scale, const std::int32_t* zero_point, const float* bias, const std::int32_t* src,
                         std::int64_t ld_src, float* dst, std::int64_t ld_dst, std::int64_t rows, std::int64_t channels) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto zero = static_cast<std::uint32_t>(zero_point == nullptr ? 0 : zero_point[c]);
      const float x = static_cast<float>(static_cast<std::int32_t>(static_cast<std::uint32_t>(src[r * ld_src + c]) - zero)) * scale[c];
      dst[r * ld_dst + c] = bias == nullptr ? x : x + bias[c];
    }
}

void dequantize_channels(Isa /*isa*/, const float* scale, const std::int32_t* zero_point, const std::uint8_t* src, std::int64_t ld_src,
                         float* dst, std::int64_t ld_dst, std::int64_t rows, std::int64_t channels) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < channels; ++c)
      dst[r * ld_dst + c] = dequantize(src[r * ld_src + c], scale[c], zero_point == nullptr ? 0 : zero_point[c]);
}

void dequantize_nhwc_to_nchw(Isa isa, float scale, std::int32_t zero_point, const std::uint8_t* src, std::int64_t ld_src,
                             std::int64_t channels, std::int64_t pixels, float* dst, std::int64_t begin, std::int64_t end) {
  std::array<std::uint8_t, kBlock * kBlock> block;
  for (std::int64_t first = begin; first < end; first += kBlock) {
    const std::int64_t count = std::min(kBlock, end - first);
    for (std::int64_t c0 = 0; c0 < channels; c0 += kBlock) {
      const std::int64_t width = std::min(kBlock, channels - c0);
      transpose_u8(isa, src + first * ld_src + c0, ld_src, block.data(), kBlock, count, width);
      for (std::int64_t c = 0; c < width; ++c)
        dequantize_linear(isa, scale, zero_point, block.data() + c * kBlock, dst + (c0 + c) * pixels + first, count);
    }
  }
}

std::string quantize_kernel_name(Isa isa) { return best_kernel_name("quantize_linear", "f32u8", isa); }
std::string dequantize_kernel_name(Isa isa) { return best_kernel_name("dequantize_linear", "u8f32", isa); }

}  // namespace nibble::kernels
