#include <algorithm>
#include <charconv>
#include <string_view>

#include "base/fail.h"
#include "nibble/calibrate.h"

namespace nibble {

namespace {

bool read_integer(std::string_view text, std::int64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Shard parse_shard(const std::string& text) {
  Shard shard;
  const std::size_t slash = text.find('/');
  const std::string_view view = text;
  if (slash == std::string::npos || !read_integer(view.substr(0, slash), shard.index) ||
      !read_integer(view.substr(slash + 1), shard.count) || shard.index < 1 || shard.count < shard.index) {
    fail(ErrorCode::kInvalidArgument, "shard \"{}\": expected i/n with 1 <= i <= n, such as 1/4 ... 4/4", text);
  }
  return shard;
}

std::vector<std::int64_t> shard_indices(std::int64_t samples, const Shard& shard) {
  // The first `samples % count` shards get one sample more.
  const std::int64_t each = samples / shard.count, more = samples % shard.count, before = shard.index - 1;
  const std::int64_t begin = before * each + std::min(before, more);
  const std::int64_t size = each + (before < more ? 1 : 0);
  std::vector<std::int64_t> indices;
  indices.reserve(static_cast<std::size_t>(size));
  for (std::int64_t i = begin; i < begin + size; ++i) indices.push_back(i);
  return indices;
}

}  // namespace nibble
