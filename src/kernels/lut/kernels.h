// The kernels of the ISA files. Internal to the room.
#pragma once

#include <cstdint>

namespace nibble::kernels {

void lut_avx2(const std::uint8_t* table, const std::uint8_t* src, std::uint8_t* dst, std::int64_t n);
void lut_avx512vbmi(const std::uint8_t* table, const std::uint8_t* src, std::uint8_t* dst, std::int64_t n);

}  // namespace nibble::kernels
