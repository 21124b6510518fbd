// Packing: every width, every length around the bytes' edges, random codes; the layout by hand.
#include "numeric/bit_packing.h"

#include <gtest/gtest.h>

#include <random>

namespace nibble {
namespace {

TEST(BitPacking, LowestBitFirst) {
  EXPECT_EQ(pack_bits(std::vector<std::int32_t>{1, 2, 3, 4, 5}, 3), (std::vector<std::uint8_t>{0b11010001, 0b01011000}));
  EXPECT_EQ(pack_bits(std::vector<std::int32_t>{-1, 7}, 4), (std::vector<std::uint8_t>{0x7F}));
  EXPECT_EQ(pack_bits(std::vector<std::int32_t>{0x1234, 0xABCD}, 16), (std::vector<std::uint8_t>{0x34, 0x12, 0xCD, 0xAB}));
  EXPECT_TRUE(pack_bits({}, 5).empty());
}

TEST(BitPacking, EveryWidthSurvives) {
  std::mt19937 random(5);
  for (int bits = 1; bits <= 16; ++bits) {
    for (const bool is_signed : {false, true}) {
      for (int count = 0; count < 40; ++count) {
        std::vector<std::int32_t> codes;
        for (int i = 0; i < count; ++i) {
          const auto code = static_cast<std::int32_t>(random() & ((1U << bits) - 1));
          codes.push_back(is_signed && code >= 1 << (bits - 1) ? code - (1 << bits) : code);
        }
        const std::vector<std::uint8_t> bytes = pack_bits(codes, bits);
        ASSERT_EQ(bytes.size(), static_cast<std::size_t>((count * bits + 7) / 8));
        ASSERT_EQ(unpack_bits(bytes, bits, count, is_signed), codes) << bits << " bits, " << count << " codes";
      }
    }
  }
}

}  // namespace
}  // namespace nibble
