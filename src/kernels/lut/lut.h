// dst[i] = table[src[i]]: any function of one 8-bit value.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/isa.h"

namespace nibble::kernels {

// table has 256 bytes. dst may be src.
void lut(Isa isa, const std::uint8_t* table, const std::uint8_t* src, std::uint8_t* dst, std::int64_t n);

std::string lut_kernel_name(Isa isa);

}  // namespace nibble::kernels
