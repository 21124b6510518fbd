// Codes of few bits, one behind the other without gaps: element i lies in bits [i n, (i+1) n) of the stream, the lowest bit first, in little-endian bytes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace nibble {

// The low `bits` (1..16) of each code. The last byte is filled with zeros.
std::vector<std::uint8_t> pack_bits(std::span<const std::int32_t> codes, int bits);

// `count` codes out of ceil(count bits / 8) bytes; is_signed: two's complement.
std::vector<std::int32_t> unpack_bits(std::span<const std::uint8_t> bytes, int bits, std::int64_t count, bool is_signed);

}  // namespace nibble
