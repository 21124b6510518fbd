#include "runtime/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

namespace nibble {
namespace {

std::int64_t rounded(std::int64_t bytes) { return (std::max<std::int64_t>(bytes, 1) + 63) / 64 * 64; }

Buffer buffer(std::int64_t bytes, int first, int last) { return {.bytes = bytes, .offset = 0, .first = first, .last = last}; }

TEST(Arena, Nothing) {
  std::vector<Buffer> none;
  EXPECT_EQ(plan_arena(none), 0);
  std::vector<Buffer> unused = {buffer(1000, -1, -1)};
  EXPECT_EQ(plan_arena(unused), 0);
}

TEST(Arena, AChainNeedsTwoBuffers) {
  // Each is read at the step that makes the next one.
  std::vector<Buffer> buffers;
  for (int i = 0; i < 10; ++i) buffers.push_back(buffer(640, i, i + 1));
  EXPECT_EQ(plan_arena(buffers), 1280);
}

TEST(Arena, SmallOnesFillTheGapsOfLargeOnes) {
  std::vector<Buffer> buffers = {buffer(64, 0, 1), buffer(1024, 2, 3), buffer(512, 0, 1), buffer(448, 0, 1)};
  EXPECT_EQ(plan_arena(buffers), 1024);
}

TEST(Arena, AliveAtOneStepIsTogether) {
  std::vector<Buffer> touching = {buffer(100, 0, 3), buffer(100, 3, 5)};
  EXPECT_EQ(plan_arena(touching), 256);
  std::vector<Buffer> apart = {buffer(100, 0, 2), buffer(100, 3, 5)};
  EXPECT_EQ(plan_arena(apart), 128);
}

TEST(Arena, RandomLifetimesNeverOverlap) {
  for (std::uint32_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    std::vector<Buffer> buffers;
    const int count = 1 + below(80), steps = 1 + below(40);
    for (int i = 0; i < count; ++i) {
      const int first = below(steps);
      buffers.push_back(buffer(below(5) == 0 ? below(3) : below(5000), first, first + below(1 + steps - first)));
      if (below(20) == 0) buffers.back().first = buffers.back().last = -1;
    }
    const std::int64_t size = plan_arena(buffers);
    std::int64_t sum = 0, busiest = 0;
    for (int step = 0; step < steps; ++step) {
      std::int64_t alive = 0;
      for (const Buffer& b : buffers) {
        if (b.first >= 0 && b.first <= step && step <= b.last) alive += rounded(b.bytes);
      }
      busiest = std::max(busiest, alive);
    }
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      const Buffer& a = buffers[i];
      if (a.first < 0) continue;
      sum += rounded(a.bytes);
      ASSERT_GE(a.offset, 0);
      ASSERT_EQ(a.offset % 64, 0);
      ASSERT_LE(a.offset + a.bytes, size);
      for (std::size_t j = 0; j < i; ++j) {
        const Buffer& b = buffers[j];
        if (b.first < 0 || a.last < b.first || b.last < a.first) continue;
        // Empty buffers too have a place of their own: a kernel may touch a whole line.
        ASSERT_TRUE(a.offset + std::max<std::int64_t>(a.bytes, 1) <= b.offset || b.offset + std::max<std::int64_t>(b.bytes, 1) <= a.offset)
            << i << " and " << j;
      }
    }
    ASSERT_LE(size, sum);
    ASSERT_GE(size, busiest);
  }
}

}  // namespace
}  // namespace nibble
