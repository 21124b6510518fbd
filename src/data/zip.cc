// An archive is read from its end: end record -> central directory -> local header of each entry -> data. Sizes come from the central
// directory; the local header only says where the data begins (writers that stream leave its sizes zero). Fields that do not fit into 32
// bits are all ones and stand in the zip64 record or extra field.
#include "data/zip.h"

#include <algorithm>
#include <optional>

#include "base/fail.h"
#include "data/bytes.h"
#include "data/files.h"
#include "data/inflate.h"

namespace nibble {
namespace {

constexpr std::size_t kEndSize = 22;
constexpr std::size_t kEnd64LocatorSize = 20;
constexpr std::size_t kEnd64Size = 56;
constexpr std::size_t kCentralSize = 46;
constexpr std::size_t kLocalSize = 30;
constexpr std::uint32_t kEndMagic = 0x06054b50;
constexpr std::uint32_t kEnd64LocatorMagic = 0x07064b50;
constexpr std::uint32_t kEnd64Magic = 0x06064b50;
constexpr std::uint32_t kCentralMagic = 0x02014b50;
constexpr std::uint32_t kLocalMagic = 0x04034b50;
constexpr std::uint32_t kIn64 = 0xFFFFFFFF;

struct Directory {
  std::uint64_t entries = 0;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;
};

// True if [offset, offset + size) lies inside `total` bytes.
bool inside(std::uint64_t offset, std::uint64_t size, std::uint64_t total) { return offset <= total && size <= total - offset; }

Directory find_directory(std::string_view archive, const std::string& origin) {
  std::optional<std::size_t> end;
  if (archive.size() >= kEndSize) {
    constexpr std::size_t kLongestComment = 0xFFFF;
    const std::size_t last = archive.size() - kEndSize;
    const std::size_t first = last > kLongestComment ? last - kLongestComment : 0;
    for (std::size_t at = last + 1; at-- > first;) {
      if (load_le<std::uint32_t>(archive, at) == kEndMagic && at + kEndSize + load_le<std::uint16_t>(archive, at + 20) == archive.size()) {
        end = at;
        break;
      }
    }
  }
  if (!end)
    fail(ErrorCode::kInvalidData, "{}: is not a complete zip archive (no end record): the file is truncated or of another kind", origin);

  const auto disk = load_le<std::uint16_t>(archive, *end + 4);
  const auto directory_disk = load_le<std::uint16_t>(archive, *end + 6);
  Directory directory{load_le<std::uint16_t>(archive, *end + 10), load_le<std::uint32_t>(archive, *end + 12),
                      load_le<std::uint32_t>(archive, *end + 16)};
  const bool wants64 = directory.entries == 0xFFFF || directory.size == kIn64 || directory.offset == kIn64;
  if (wants64 && *end >= kEnd64LocatorSize && load_le<std::uint32_t>(archive, *end - kEnd64LocatorSize) == kEnd64LocatorMagic) {
    const auto at = load_le<std::uint64_t>(archive, *end - kEnd64LocatorSize + 8);
    if (!inside(at, kEnd64Size, archive.size()) || load_le<std::uint32_t>(archive, static_cast<std::size_t>(at)) != kEnd64Magic)
      fail(ErrorCode::kInvalidData, "{}: the zip64 end record is not where the archive says: the file is damaged", origin);
    const auto base = static_cast<std::size_t>(at);
    directory = {load_le<std::uint64_t>(archive, base + 32), load_le<std::uint64_t>(archive, base + 40),
                 load_le<std::uint64_t>(archive, base + 48)};
  } else if (disk != 0 || directory_disk != 0) {
    fail(ErrorCode::kUnsupported, "{}: is one part of a zip archive in several parts; join them first", origin);
  }
  if (!inside(directory.offset, directory.size, *end))
    fail(ErrorCode::kInvalidData, "{}: the zip directory ({} bytes at {}) does not lie inside the file of {} bytes: the file is damaged",
         origin, directory.size, directory.offset, archive.size());
  if (directory.entries > directory.size / kCentralSize)
    fail(ErrorCode::kInvalidData, "{}: the zip directory of {} bytes cannot hold its {} entries: the file is damaged", origin,
         directory.size, directory.entries);
  return directory;
}

// Replaces the sizes and the offset that stand as all ones by those of the zip64 extra field.
void apply_zip64(std::string_view extra, std::uint64_t& size, std::uint64_t& packed, std::uint64_t& offset, const std::string& where) {
  if (size != kIn64 && packed != kIn64 && offset != kIn64) return;
  while (extra.size() >= 4) {
    const auto id = load_le<std::uint16_t>(extra, 0);
    const std::size_t length = load_le<std::uint16_t>(extra, 2);
    if (length > extra.size() - 4) break;
    std::string_view field = extra.substr(4, length);
    extra.remove_prefix(4 + length);
    if (id != 1) continue;
    for (std::uint64_t* value : {&size, &packed, &offset}) {
      if (*value != kIn64) continue;
      if (field.size() < 8) fail(ErrorCode::kInvalidData, "{}: its zip64 field is too short: the file is damaged", where);
      *value = load_le<std::uint64_t>(field, 0);
      field.remove_prefix(8);
    }
    return;
  }
  // All ones without a zip64 field is a size of its own (4 GiB - 1); the bounds check judges it.
}

std::string where(const std::string& origin, const std::string& name) { return fmt::format("{}: entry {}", origin, in_quotes(name)); }

}  // namespace

std::vector<ZipEntry> read_zip_directory(std::string_view archive, const std::string& origin) {
  const Directory directory = find_directory(archive, origin);
  const std::size_t end = static_cast<std::size_t>(directory.offset + directory.size);
  std::size_t at = static_cast<std::size_t>(directory.offset);
  std::vector<ZipEntry> entries;
  std::vector<std::pair<std::int64_t, std::int64_t>> extents;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    if (end - at < kCentralSize || load_le<std::uint32_t>(archive, at) != kCentralMagic)
      fail(ErrorCode::kInvalidData, "{}: entry {} of {} of the zip directory is damaged", origin, i + 1, directory.entries);
    const auto flags = load_le<std::uint16_t>(archive, at + 8);
    ZipEntry entry;
    entry.method = load_le<std::uint16_t>(archive, at + 10);
    entry.crc = load_le<std::uint32_t>(archive, at + 16);
    std::uint64_t packed = load_le<std::uint32_t>(archive, at + 20);
    std::uint64_t size = load_le<std::uint32_t>(archive, at + 24);
    const std::size_t name_length = load_le<std::uint16_t>(archive, at + 28);
    const std::size_t extra_length = load_le<std::uint16_t>(archive, at + 30);
    const std::size_t comment_length = load_le<std::uint16_t>(archive, at + 32);
    std::uint64_t local = load_le<std::uint32_t>(archive, at + 42);
    if (name_length + extra_length + comment_length > end - at - kCentralSize)
      fail(ErrorCode::kInvalidData, "{}: entry {} of {} of the zip directory is longer than the directory: the file is damaged", origin,
           i + 1, directory.entries);
    entry.name = archive.substr(at + kCentralSize, name_length);
    const std::string here = where(origin, entry.name);
    apply_zip64(archive.substr(at + kCentralSize + name_length, extra_length), size, packed, local, here);
    at += kCentralSize + name_length + extra_length + comment_length;

    if ((flags & 1U) != 0) fail(ErrorCode::kUnsupported, "{} is encrypted; write the archive without a password", here);
    if (entry.method != 0 && entry.method != 8)
      fail(ErrorCode::kUnsupported, "{} is packed with method {}; only stored (0) and deflate (8) are read", here, entry.method);
    if (!inside(local, kLocalSize, directory.offset) || load_le<std::uint32_t>(archive, static_cast<std::size_t>(local)) != kLocalMagic)
      fail(ErrorCode::kInvalidData, "{} does not begin where the directory says ({}): the file is damaged", here, local);
    const auto header = static_cast<std::size_t>(local);
    const std::uint64_t data =
        local + kLocalSize + load_le<std::uint16_t>(archive, header + 26) + load_le<std::uint16_t>(archive, header + 28);
    if (!inside(data, packed, directory.offset))
      fail(ErrorCode::kInvalidData, "{} ({} bytes at {}) does not lie inside the file: truncated or damaged", here, packed, data);
    if (entry.method == 0 && packed != size)
      fail(ErrorCode::kInvalidData, "{} is stored, but its two sizes differ ({} and {}): the file is damaged", here, packed, size);
    // 64: a few bytes of deflate give at least something.
    if (entry.method == 8 && size / kLargestDeflateRatio > packed + 64)
      fail(ErrorCode::kInvalidData, "{} promises {} bytes out of {}, more than deflate can do: damaged or hostile", here, size, packed);
    entry.packed_size = static_cast<std::int64_t>(packed);
    entry.size = static_cast<std::int64_t>(size);
    entry.data_offset = static_cast<std::int64_t>(data);
    extents.emplace_back(entry.data_offset, entry.data_offset + entry.packed_size);
    entries.push_back(std::move(entry));
  }
  // Entries that share bytes make a small file unpack to petabytes.
  std::sort(extents.begin(), extents.end());
  for (std::size_t i = 1; i < extents.size(); ++i) {
    if (extents[i].first < extents[i - 1].second)
      fail(ErrorCode::kInvalidData, "{}: two entries of the zip archive overlap: damaged or hostile", origin);
  }
  return entries;
}

std::string read_zip_entry(std::string_view archive, const ZipEntry& entry, const std::string& origin) {
  const std::string here = where(origin, entry.name);
  const std::string_view packed = archive.substr(static_cast<std::size_t>(entry.data_offset), static_cast<std::size_t>(entry.packed_size));
  std::string bytes = entry.method == 0 ? std::string(packed) : inflate_raw(packed, entry.size, here);
  if (crc32_of(bytes) != entry.crc) fail(ErrorCode::kInvalidData, "{}: the checksum does not match: the file is damaged", here);
  return bytes;
}

}  // namespace nibble
