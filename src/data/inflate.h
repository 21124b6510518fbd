// Deflate streams, through zlib, with a bound on what they may grow to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nibble {

// Deflate cannot shrink data more than this; a file that says it did is not honest.
inline constexpr std::int64_t kLargestDeflateRatio = 1032;

// A raw deflate stream (as in a zip entry) that must give exactly `size` bytes. `origin` names the file in messages. Throws
// Error{kInvalidData}.
std::string inflate_raw(std::string_view bytes, std::int64_t size, const std::string& origin);
// A gzip file, of one or more members; at most `limit` bytes. Throws Error{kInvalidData}.
std::string gunzip(std::string_view bytes, std::int64_t limit, const std::string& origin);
bool is_gzip(std::string_view bytes);
std::uint32_t crc32_of(std::string_view bytes);

}  // namespace nibble
