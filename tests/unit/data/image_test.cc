#include "data/image.h"

#include <gtest/gtest.h>

#include <cmath>

#include "nibble/dataset.h"
#include "unit/data/test_files.h"

namespace nibble {
namespace {

using testing::png_bytes;

TEST(Png, RgbComesBackExactly) {
  const Tensor image = testing::synthetic_image(13, 29, 1);
  EXPECT_TRUE(bit_equal(decode_image(png_bytes(image), "a.png"), image));
}

Tensor decode(const testing::PngParts& parts) { return decode_png(png_bytes(parts), "a.png"); }

TEST(Png, EveryKindBecomesRgb) {
  // One bit of grey: 0 and 255.
  EXPECT_TRUE(bit_equal(decode({.width = 2, .depth = 1, .color = 0, .rows = std::string("\0\x40", 2)}),
                        Tensor::from<std::uint8_t>({1, 2, 3}, {0, 0, 0, 255, 255, 255})));
  // Four bits of grey: times 17.
  EXPECT_TRUE(bit_equal(decode({.width = 2, .depth = 4, .color = 0, .rows = std::string("\0\x3F", 2)}),
                        Tensor::from<std::uint8_t>({1, 2, 3}, {51, 51, 51, 255, 255, 255})));
  // A palette; its transparency is dropped.
  EXPECT_TRUE(bit_equal(decode({.width = 2,
                                .depth = 8,
                                .color = 3,
                                .rows = std::string("\0\1\0", 3),
                                .palette = std::string("\1\2\3\4\5\6", 6),
                                .transparency = std::string("\0", 1)}),
                        Tensor::from<std::uint8_t>({1, 2, 3}, {4, 5, 6, 1, 2, 3})));
  // Alpha is dropped, not blended.
  EXPECT_TRUE(bit_equal(decode({.width = 1, .depth = 8, .color = 6, .rows = std::string("\0\x0A\x14\x1E\x00", 5)}),
                        Tensor::from<std::uint8_t>({1, 1, 3}, {10, 20, 30})));
  EXPECT_TRUE(bit_equal(decode({.width = 1, .depth = 8, .color = 4, .rows = std::string("\0\x0A\x00", 3)}),
                        Tensor::from<std::uint8_t>({1, 1, 3}, {10, 10, 10})));
  // 16 bits keep their higher byte. (Pillow 9.4 clips 16-bit grey at 255, which makes every picture white; we do not follow it there.)
  EXPECT_TRUE(bit_equal(decode({.width = 1, .depth = 16, .color = 2, .rows = std::string("\0\x0A\xFF\x14\x80\x1E\x00", 7)}),
                        Tensor::from<std::uint8_t>({1, 1, 3}, {10, 20, 30})));
  EXPECT_TRUE(bit_equal(decode({.width = 1, .depth = 16, .color = 0, .rows = std::string("\0\x0A\xFF", 3)}),
                        Tensor::from<std::uint8_t>({1, 1, 3}, {10, 10, 10})));
}

TEST(Png, InterlacedRowsAreSortedOut) {
  // Adam7 on 2 x 2: pass 1 has (0,0), pass 6 (0,1), pass 7 row 1.
  const std::string rows = std::string("\0\1\1\1", 4) + std::string("\0\2\2\2", 4) + std::string("\0\3\3\3\4\4\4", 7);
  EXPECT_TRUE(bit_equal(decode({.width = 2, .height = 2, .interlace = 1, .rows = rows}),
                        Tensor::from<std::uint8_t>({2, 2, 3}, {1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4})));
}

TEST(Jpeg, EveryKindBecomesRgb) {
  Tensor image(DataType::kUInt8, {24, 40, 3});
  auto pixels = image.mutable_data<std::uint8_t>();
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i % 3 == 0 ? 200 : i % 3 == 1 ? 100 : 50);
  for (const bool progressive : {false, true}) {
    const Tensor decoded = decode_image(testing::jpeg_bytes(image, {.progressive = progressive}), "a.jpg");
    EXPECT_EQ(decoded.shape(), image.shape());
    // A flat colour survives quality 90 but for the colour transform's rounding.
    for (std::size_t i = 0; i < pixels.size(); ++i) ASSERT_NEAR(decoded.data<std::uint8_t>()[i], image.data<std::uint8_t>()[i], 3);
  }
  const Tensor gray = decode_image(testing::jpeg_bytes(image, {.gray = true}), "a.jpg");
  for (const std::uint8_t pixel : gray.data<std::uint8_t>()) ASSERT_NEAR(pixel, 200, 2);
  // Adobe's CMYK, inverted: stored (200, 100, 50, 155) is light 155 times 200/255, 100/255, 50/255.
  const Tensor cmyk = decode_image(testing::jpeg_bytes(image, {.cmyk = true}), "a.jpg");
  for (std::size_t i = 0; i < pixels.size(); i += 3) {
    ASSERT_NEAR(cmyk.data<std::uint8_t>()[i], 155 * 200 / 255, 4);
    ASSERT_NEAR(cmyk.data<std::uint8_t>()[i + 2], 155 * 50 / 255, 4);
  }
}

TEST(Jpeg, JunkBetweenSegmentsIsNoFault) {
  // Real photographs have it; no pixel is lost.
  const Tensor image = testing::synthetic_image(16, 16, 1);
  std::string bytes = testing::jpeg_bytes(image);
  const std::size_t table = bytes.find("\xFF\xDB");
  ASSERT_NE(table, std::string::npos);
  const Tensor expected = decode_image(bytes, "a.jpg");
  bytes.insert(table, "junk");
  EXPECT_TRUE(bit_equal(decode_image(bytes, "a.jpg"), expected));
  EXPECT_TRUE(bit_equal(decode_image(bytes + "junk after the end", "a.jpg"), expected));
}

TEST(Image, ContentDecidesNotTheName) {
  const testing::TempDir dir;
  const Tensor image = testing::synthetic_image(8, 8, 1);
  EXPECT_TRUE(bit_equal(read_image(dir.write("really_a.jpg", png_bytes(image))), image));
}

TEST(Image, BombsAreRefusedBeforeTheyAreUnpacked) {
  const std::string message =
      testing::error_of(ErrorCode::kInvalidData, [] { decode_image(png_bytes({.width = 1 << 20, .height = 1 << 20}), "bomb.png"); });
  EXPECT_NE(message.find("bomb.png"), std::string::npos);
  EXPECT_NE(message.find("1048576 x 1048576"), std::string::npos);
  // A JPEG's size lies in its frame header; 65000 x 65000 is beyond the limit.
  std::string bytes = testing::jpeg_bytes(testing::synthetic_image(16, 16, 1));
  const std::size_t frame = bytes.find("\xFF\xC0");
  ASSERT_NE(frame, std::string::npos);
  bytes.replace(frame + 5, 4, "\xFD\xE8\xFD\xE8");
  EXPECT_NE(testing::error_of(ErrorCode::kInvalidData, [&] { decode_image(bytes, "bomb.jpg"); }).find("65000 x 65000"), std::string::npos);
}

}  // namespace
}  // namespace nibble
