#include "runtime/arena.h"

#include <algorithm>
#include <numeric>

namespace nibble {

std::int64_t plan_arena(std::vector<Buffer>& buffers) {
  constexpr std::int64_t kAlign = 64;
  std::vector<std::size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  std::vector<std::size_t> placed;  // by offset
  std::int64_t size = 0;
  for (const std::size_t i : order) {
    Buffer& buffer = buffers[i];
    if (buffer.first < 0) continue;
    const std::int64_t bytes = (std::max<std::int64_t>(buffer.bytes, 1) + kAlign - 1) / kAlign * kAlign;
    std::int64_t offset = 0;
    for (const std::size_t j : placed) {
      const Buffer& other = buffers[j];
      if (other.last < buffer.first || buffer.last < other.first) continue;
      if (offset + bytes <= other.offset) break;
      offset = std::max(offset, (other.offset + std::max<std::int64_t>(other.bytes, 1) + kAlign - 1) / kAlign * kAlign);
    }
    buffer.offset = offset;
    size = std::max(size, offset + bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                   [&](std::size_t a, std::size_t b) { return buffers[a].offset < buffers[b].offset; }),
                  i);
  }
  return size;
}

}  // namespace nibble
