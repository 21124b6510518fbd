// The kernels of the ISA files. Internal to the room.
#pragma once

#include <cstdint>

namespace nibble::kernels {

// dst[c * ld_dst + r] = src[r * ld_src + c] for r, c < 16.
void transpose_16x16_avx2(const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst, std::int64_t ld_dst);
// dst[3 i + c] = src[c * ld_src + i] for i < 64: 192 bytes.
void interleave_3x64_avx512vbmi(const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst);

}  // namespace nibble::kernels
