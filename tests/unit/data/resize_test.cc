// Golden values of Pillow 9.4 for machines without it, and the plain form against an oracle in double.
#include "data/resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "data/draw.h"
#include "nibble/error.h"
#include "unit/data/test_files.h"

namespace nibble {
namespace {

TEST(ResizeAntialiased, SmallCasesByHand) {
  // Two pixels from one: the same pixel. One from two: their mean, rounded half up.
  const Tensor one = Tensor::from<std::uint8_t>({1, 1, 3}, {10, 20, 30});
  EXPECT_TRUE(bit_equal(resize_antialiased(one, 1, 2), Tensor::from<std::uint8_t>({1, 2, 3}, {10, 20, 30, 10, 20, 30})));
  const Tensor two = Tensor::from<std::uint8_t>({1, 2, 3}, {0, 1, 255, 1, 2, 254});
  EXPECT_TRUE(bit_equal(resize_antialiased(two, 1, 1), Tensor::from<std::uint8_t>({1, 1, 3}, {1, 2, 255})));
  // Growing to four: the outer ones repeat the edge, the inner ones are 3:1.
  const Tensor ramp = Tensor::from<std::uint8_t>({2, 1, 3}, {0, 0, 0, 100, 200, 40});
  EXPECT_TRUE(
      bit_equal(resize_antialiased(ramp, 4, 1), Tensor::from<std::uint8_t>({4, 1, 3}, {0, 0, 0, 25, 50, 10, 75, 150, 30, 100, 200, 40})));
}

TEST(ResizeAntialiased, GoldenChecksums) {
  struct Case {
    std::int64_t height, width, to_height, to_width;
    std::uint64_t checksum;
  };
  const Case cases[] = {{37, 53, 11, 17, 0x0A82CA2E58C4982EU},   {53, 37, 100, 90, 0x83649810830EDE86U},
                        {64, 64, 64, 31, 0xEBC085E3DBE9D9C0U},   {64, 64, 31, 64, 0x3320F80EC4451595U},
                        {100, 60, 50, 120, 0x24408220ED00A1EFU}, {90, 120, 64, 85, 0xCB77EABC0F318577U},
                        {1, 1, 5, 9, 0x3CAF3854FFEACFECU},       {97, 101, 96, 100, 0xB064BC164468A61EU}};
  for (const Case& c : cases) {
    const Tensor resized = resize_antialiased(testing::synthetic_image(c.height, c.width, 42), c.to_height, c.to_width);
    EXPECT_EQ(testing::fnv1a(resized), c.checksum) << c.height << "x" << c.width << " to " << c.to_height << "x" << c.to_width;
  }
}

TEST(ResizeAntialiased, SameSizeIsTheSameImage) {
  const Tensor image = testing::synthetic_image(31, 17, 7);
  EXPECT_TRUE(bit_equal(resize_antialiased(image, 31, 17), image));
  EXPECT_TRUE(bit_equal(resize_plain(image, 31, 17), image));
}

TEST(ResizeAntialiased, AConstantStaysConstant) {
  for (const int value : {0, 1, 127, 254, 255}) {
    Tensor image(DataType::kUInt8, {23, 41, 3});
    std::ranges::fill(image.mutable_data<std::uint8_t>(), static_cast<std::uint8_t>(value));
    for (const auto& [height, width] : {std::pair{7, 5}, std::pair{100, 90}, std::pair{1, 1}, std::pair{23, 300}}) {
      for (const Tensor& resized : {resize_antialiased(image, height, width), resize_plain(image, height, width)}) {
        for (const std::uint8_t pixel : resized.data<std::uint8_t>()) ASSERT_EQ(pixel, value);
      }
    }
  }
}

TEST(ResizeAntialiased, RefusesAbsurdSizes) {
  const Tensor image = testing::synthetic_image(4, 4, 1);
  EXPECT_THROW(resize_antialiased(image, 0, 4), Error);
  EXPECT_THROW(resize_antialiased(image, 1'000'000, 1'000'000), Error);
  EXPECT_THROW(resize_plain(image, 4, -1), Error);
}

TEST(ResizePlain, EqualsTheFormula) {
  SplitMix64 random(5);
  for (int round = 0; round < 20; ++round) {
    const auto side = [&] { return static_cast<std::int64_t>(1 + random.below(40)); };
    const std::int64_t h = side(), w = side(), to_h = side(), to_w = side();
    const Tensor image = testing::synthetic_image(h, w, random.next());
    const auto in = image.data<std::uint8_t>();
    const Tensor resized = resize_plain(image, to_h, to_w);
    const auto out = resized.data<std::uint8_t>();
    const auto pixel = [&](std::int64_t y, std::int64_t x, std::int64_t c) {
      return static_cast<double>(
          in[static_cast<std::size_t>((std::clamp<std::int64_t>(y, 0, h - 1) * w + std::clamp<std::int64_t>(x, 0, w - 1)) * 3 + c)]);
    };
    std::size_t at = 0;
    for (std::int64_t y = 0; y < to_h; ++y) {
      for (std::int64_t x = 0; x < to_w; ++x) {
        const double sy = (static_cast<double>(y) + 0.5) * static_cast<double>(h) / static_cast<double>(to_h) - 0.5;
        const double sx = (static_cast<double>(x) + 0.5) * static_cast<double>(w) / static_cast<double>(to_w) - 0.5;
        const auto y0 = static_cast<std::int64_t>(std::floor(sy));
        const auto x0 = static_cast<std::int64_t>(std::floor(sx));
        for (std::int64_t c = 0; c < 3; ++c) {
          const double fy = sy - std::floor(sy), fx = sx - std::floor(sx);
          const double exact = (1 - fy) * ((1 - fx) * pixel(y0, x0, c) + fx * pixel(y0, x0 + 1, c)) +
                               fy * ((1 - fx) * pixel(y0 + 1, x0, c) + fx * pixel(y0 + 1, x0 + 1, c));
          // Half a step of rounding, and a little for the order of the sums.
          ASSERT_LE(std::abs(static_cast<double>(out[at++]) - exact), 0.5 + 1e-9) << "round " << round;
        }
      }
    }
  }
}

}  // namespace
}  // namespace nibble
