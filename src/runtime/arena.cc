#include "runtime/arena.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace nibble {
namespace {

constexpr std::int64_t kAlign = 64;

std::int64_t room_of(const Buffer& buffer) { return (std::max<std::int64_t>(buffer.bytes, 1) + kAlign - 1) / kAlign * kAlign; }

// Which of the placed buffers are alive at some step of a span. A buffer is alive in [first, last] either because it begins there (a list
// by first step) or because it is alive at `first` already (a tree over the steps: each node lists buffers that live through all of its
// steps).
class PlacedBuffers {
 public:
  PlacedBuffers(const std::vector<Buffer>& buffers, int steps) : buffers_(buffers), begins_(static_cast<std::size_t>(steps)) {
    while (leaves_ < begins_.size()) leaves_ *= 2;
    through_.resize(2 * leaves_);
  }

  void add(std::size_t i) {
    const Buffer& b = buffers_[i];
    begins_[static_cast<std::size_t>(b.first)].push_back(i);
    std::size_t left = static_cast<std::size_t>(b.first) + leaves_;
    std::size_t right = static_cast<std::size_t>(b.last) + leaves_ + 1;
    for (; left < right; left /= 2, right /= 2) {
      if (left % 2 == 1) through_[left++].push_back(i);
      if (right % 2 == 1) through_[--right].push_back(i);
    }
  }

  void alive_with(const Buffer& b, std::vector<std::size_t>& result) const {
    result.clear();
    for (std::size_t node = static_cast<std::size_t>(b.first) + leaves_; node > 0; node /= 2)
      result.insert(result.end(), through_[node].begin(), through_[node].end());
    for (auto step = static_cast<std::size_t>(b.first) + 1; step <= static_cast<std::size_t>(b.last); ++step)
      result.insert(result.end(), begins_[step].begin(), begins_[step].end());
  }

 private:
  const std::vector<Buffer>& buffers_;
  std::vector<std::vector<std::size_t>> begins_;
  std::size_t leaves_ = 1;
  std::vector<std::vector<std::size_t>> through_;
};

}  // namespace

std::int64_t plan_arena(std::vector<Buffer>& buffers) {
  std::vector<std::size_t> order;
  int steps = 0;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i].first < 0) continue;
    order.push_back(i);
    steps = std::max(steps, buffers[i].last + 1);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  PlacedBuffers placed(buffers, steps);
  std::vector<std::size_t> others;
  std::int64_t size = 0;
  for (const std::size_t i : order) {
    Buffer& buffer = buffers[i];
    placed.alive_with(buffer, others);
    std::sort(others.begin(), others.end(), [&](std::size_t a, std::size_t b) { return buffers[a].offset < buffers[b].offset; });
    const std::int64_t bytes = room_of(buffer);
    std::int64_t offset = 0;
    for (const std::size_t j : others) {
      if (offset + bytes <= buffers[j].offset) break;
      offset = std::max(offset, buffers[j].offset + room_of(buffers[j]));
    }
    buffer.offset = offset;
    size = std::max(size, offset + bytes);
    placed.add(i);
  }
  return size;
}

}  // namespace nibble
