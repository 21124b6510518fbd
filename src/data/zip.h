// Zip archives, read only: stored and deflated entries, zip64.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {

struct ZipEntry {
  std::string name;
  std::uint16_t method = 0;
  std::uint32_t crc = 0;
  std::int64_t packed_size = 0;
  std::int64_t size = 0;
  std::int64_t data_offset = 0;
};

// The entries of an archive held in memory. Everything that the archive says of itself is checked against its size: offsets, sizes,
// overlaps. Throws Error{kInvalidData}, or {kUnsupported} for encryption, several disks and other methods, naming file and entry.
std::vector<ZipEntry> read_zip_directory(std::string_view archive, const std::string& origin);
// The bytes of one entry, its checksum verified.
std::string read_zip_entry(std::string_view archive, const ZipEntry& entry, const std::string& origin);

}  // namespace nibble
