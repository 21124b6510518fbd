// The kernels of the ISA files: rows. Internal to the room.
#pragma once

#include <cstdint>

#include "kernels/quantize_linear/quantize_linear.h"

namespace nibble::kernels {

void quantize_avx2(const Grid8& grid, const float* src, std::uint8_t* dst, std::int64_t n);
void quantize_avx512(const Grid8& grid, const float* src, std::uint8_t* dst, std::int64_t n);
void dequantize_u8_avx2(float scale, std::int32_t zero_point, const std::uint8_t* src, float* dst, std::int64_t n);
void dequantize_u8_avx512(float scale, std::int32_t zero_point, const std::uint8_t* src, float* dst, std::int64_t n);

}  // namespace nibble::kernels
