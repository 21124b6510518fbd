#include "kernels/peak/peak.h"

#include <gtest/gtest.h>

#include "guarded.h"

namespace nibble::kernels {
namespace {

// Every byte is read once, and none beside: the result is the exclusive or of all words.
TEST(Peak, ReadsEveryByteOnce) {
  for (const Isa isa : available_isas()) {
    for (const std::size_t size : {0U, 1U, 7U, 1023U, 1024U, 1025U, 3 * 1024U + 512U + 9U}) {
      Guarded<std::uint8_t> memory(static_cast<std::int64_t>(size));
      std::uint64_t expected = 0;
      for (std::size_t i = 0; i < size; ++i) {
        memory.data()[i] = static_cast<std::uint8_t>(i * 37 + 11);
        // The vector loops read whole blocks first, so a byte's place in its word is its place modulo 8 either way.
        expected ^= static_cast<std::uint64_t>(memory.data()[i]) << (8 * (i % 8));
      }
      const auto* bytes = reinterpret_cast<const std::byte*>(memory.data());
      EXPECT_EQ(read_all(isa, {bytes, size}), expected) << to_string(isa) << ", " << size << " bytes";
    }
  }
}

TEST(Peak, EveryVectorIsaHasALoop) {
  for (const Isa isa : available_isas()) EXPECT_EQ(run_peak_loop(isa, 10) > 0, isa >= Isa::kAvx2) << to_string(isa);
}

}  // namespace
}  // namespace nibble::kernels
