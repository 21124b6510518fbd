#include "data/inflate.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

#include "base/fail.h"

namespace nibble {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 18;
constexpr int kGzipOnly = 15 + 16;  // zlib: the largest window, gzip header wanted
constexpr int kRaw = -15;           // zlib: the largest window, no header

class Inflater {
 public:
  Inflater(int window_bits, const std::string& origin) {
    if (inflateInit2(&stream_, window_bits) != Z_OK) fail(ErrorCode::kIo, "{}: zlib cannot start: out of memory", origin);
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // Appends one stream's bytes to `out`, never more than `limit` in all; gives the number of input bytes read.
  std::size_t run(std::string_view bytes, std::int64_t limit, std::string& out, const std::string& origin) {
    const auto largest = static_cast<std::size_t>(limit);
    std::size_t fed = 0;
    // The output grows with what really comes out, never with what a header promises.
    for (;;) {
      if (stream_.avail_in == 0 && fed < bytes.size()) {
        const std::size_t n = std::min(bytes.size() - fed, std::size_t{1} << 30);
        // zlib's interface predates const; it does not write here.
        stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + fed));
        stream_.avail_in = static_cast<uInt>(n);
        fed += n;
      }
      const std::size_t have = out.size();
      out.resize(have + kChunk);
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + have);
      stream_.avail_out = static_cast<uInt>(kChunk);
      const int status = inflate(&stream_, Z_NO_FLUSH);
      out.resize(have + kChunk - stream_.avail_out);
      if (out.size() > largest)
        fail(ErrorCode::kInvalidData, "{}: unpacks to more than the expected {} bytes: damaged or hostile", origin, limit);
      if (status == Z_STREAM_END) return fed - stream_.avail_in;
      if (status == Z_BUF_ERROR || (status == Z_OK && stream_.avail_in == 0 && fed == bytes.size() && stream_.avail_out != 0))
        fail(ErrorCode::kInvalidData, "{}: the compressed data ends too early after {} bytes: the file is truncated", origin, out.size());
      if (status == Z_MEM_ERROR) fail(ErrorCode::kIo, "{}: cannot be unpacked: out of memory", origin);
      if (status != Z_OK)
        fail(ErrorCode::kInvalidData, "{}: the compressed data is damaged ({})", origin,
             stream_.msg != nullptr ? stream_.msg : "zlib error");
    }
  }

 private:
  z_stream stream_{};
};

}  // namespace

std::string inflate_raw(std::string_view bytes, std::int64_t size, const std::string& origin) {
  Inflater inflater(kRaw, origin);
  std::string out;
  inflater.run(bytes, size, out, origin);
  if (static_cast<std::int64_t>(out.size()) != size)
    fail(ErrorCode::kInvalidData, "{}: unpacks to {} bytes, but {} were promised: the file is damaged", origin, out.size(), size);
  return out;
}

std::string gunzip(std::string_view bytes, std::int64_t limit, const std::string& origin) {
  std::string out;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const std::string_view rest = bytes.substr(at);
    if (!is_gzip(rest)) {
      if (at > 0 && rest.find_first_not_of('\0') == std::string_view::npos) break;  // padding of tapes and blocks
      fail(ErrorCode::kInvalidData, "{}: {} bytes after the gzip data are not gzip", origin, rest.size());
    }
    Inflater inflater(kGzipOnly, origin);
    at += inflater.run(rest, limit, out, origin);
  }
  return out;
}

bool is_gzip(std::string_view bytes) { return bytes.size() >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b'; }

std::uint32_t crc32_of(std::string_view bytes) {
  uLong crc = crc32_z(0, nullptr, 0);
  crc = crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  return static_cast<std::uint32_t>(crc);
}

}  // namespace nibble
