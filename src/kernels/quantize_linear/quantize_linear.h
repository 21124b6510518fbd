// The edges: float32 to 8 bits and back, with the change of layout that goes with it.
//
//   quantize:   q = clamp(rne(x / scale) + zero_point, qmin, qmax), a true float32 division; NaN gives qmin
//   dequantize: x = f32(q - zero_point) scale
#pragma once

#include <cstdint>
#include <string>

#include "kernels/isa.h"

namespace nibble::kernels {

// On the unsigned grid; an int8 tensor has 128 added to zero_point, qmin and qmax.
struct Grid8 {
  float scale = 1;
  std::int32_t zero_point = 0;
  std::int32_t qmin = 0;
  std::int32_t qmax = 255;
};

void quantize_linear(Isa isa, const Grid8& grid, const float* src, std::uint8_t* dst, std::int64_t n);
// src NCHW [batch, channels, pixels] -> dst NHWC [batch, pixels, ld_dst]; pixels [begin, end) of batch x pixels.
void quantize_nchw_to_nhwc(Isa isa, const Grid8& grid, const float* src, std::int64_t channels, std::int64_t pixels, std::uint8_t* dst,
                           std::int64_t ld_dst, std::int64_t begin, std::int64_t end);

void dequantize_linear(Isa isa, float scale, std::int32_t zero_point, const std::uint8_t* src, float* dst, std::int64_t n);
void dequantize_linear(Isa isa, float scale, std::int32_t zero_point, const std::int8_t* src, float* dst, std::int64_t n);
// The subtraction wraps around as int32 does.
void dequantize_linear(Isa isa, float scale, std::int32_t zero_point, const std::int32_t* src, float* dst, std::int64_t n);
// Rows of `channels` values, scale[c] and zero_point[c] (null: all 0) per channel, plus bias[c] (null: none) after the multiplication.
void dequantize_channels(Isa isa, const float* scale, const std::int32_t* zero_point, const float* bias, const std::int32_t* src,
                         std::int64_t ld_src, float* dst, std::int64_t ld_dst, std::int64_t rows, std::int64_t channels);
void dequantize_channels(Isa isa, const float* scale, const std::int32_t* zero_point, const std::uint8_t* src, std::int64_t ld_src,
                         float* dst, std::int64_t ld_dst, std::int64_t rows, std::int64_t channels);
// src NHWC [batch, pixels, ld_src] -> dst NCHW [batch, channels, pixels]; one image: pixels [begin, end) of it.
void dequantize_nhwc_to_nchw(Isa isa, float scale, std::int32_t zero_point, const std::uint8_t* src, std::int64_t ld_src,
                             std::int64_t channels, std::int64_t pixels, float* dst, std::int64_t begin, std::int64_t end);
std::string quantize_kernel_name(Isa isa);
std::string dequantize_kernel_name(Isa isa);

}  // namespace nibble::kernels
