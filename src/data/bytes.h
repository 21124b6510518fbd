// Numbers inside byte strings.
#pragma once

#include <cstdint>
#include <string_view>

namespace nibble {

// Little and big endian, at `at`; the caller has checked that at + sizeof(T) <= bytes.size().
template <typename T>
T load_le(std::string_view bytes, std::size_t at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  return static_cast<T>(value);
}
template <typename T>
T load_be(std::string_view bytes, std::size_t at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return static_cast<T>(value);
}

}  // namespace nibble
