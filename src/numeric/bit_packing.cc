#include "numeric/bit_packing.h"

#include <cassert>

namespace nibble {

std::vector<std::uint8_t> pack_bits(std::span<const std::int32_t> codes, int bits) {
  assert(bits >= 1 && bits <= 16);
  const auto width = static_cast<std::size_t>(bits);
  std::vector<std::uint8_t> bytes((codes.size() * width + 7) / 8, 0);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    // At most 16 bits, shifted by 7: three bytes.
    const std::size_t at = i * width;
    const std::uint32_t code = (static_cast<std::uint32_t>(codes[i]) & ((1U << width) - 1)) << (at % 8);
    for (std::size_t b = 0; b < 3; ++b) {
      const auto part = static_cast<std::uint8_t>(code >> (8 * b) & 0xFFU);
      if (part != 0) bytes[at / 8 + b] = static_cast<std::uint8_t>(bytes[at / 8 + b] | part);
    }
  }
  return bytes;
}

std::vector<std::int32_t> unpack_bits(std::span<const std::uint8_t> bytes, int bits, std::int64_t count, bool is_signed) {
  assert(bits >= 1 && bits <= 16);
  const auto width = static_cast<std::size_t>(bits);
  std::vector<std::int32_t> codes(static_cast<std::size_t>(count));
  assert(bytes.size() == (codes.size() * width + 7) / 8);
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::size_t at = i * width;
    std::uint32_t window = 0;
    for (std::size_t b = 0; b < 3 && at / 8 + b < bytes.size(); ++b) window |= static_cast<std::uint32_t>(bytes[at / 8 + b]) << (8 * b);
    const auto code = static_cast<std::int32_t>(window >> (at % 8) & ((1U << width) - 1));
    codes[i] = is_signed && code >= 1 << (bits - 1) ? code - (1 << bits) : code;
  }
  return codes;
}

}  // namespace nibble
