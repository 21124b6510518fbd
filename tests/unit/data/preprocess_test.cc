#include "data/preprocess.h"

#include <gtest/gtest.h>

#include "data/draw.h"
#include "data/resize.h"
#include "nibble/dataset.h"
#include "unit/data/test_files.h"

namespace nibble {
namespace {

using Recipe = PreprocessRecipe;

float at(const Tensor& tensor, std::size_t i) { return tensor.data<float>()[i]; }

TEST(Preprocess, WithoutARecipeTheValuesArePlanes) {
  const Tensor image = Tensor::from<std::uint8_t>({1, 2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_TRUE(bit_equal(preprocess(image, {}), Tensor::from<float>({1, 3, 1, 2}, {1, 4, 2, 5, 3, 6})));
  Recipe recipe;
  recipe.layout = Recipe::Layout::kNhwc;
  EXPECT_TRUE(bit_equal(preprocess(image, recipe), Tensor::from<float>({1, 1, 2, 3}, {1, 2, 3, 4, 5, 6})));
  recipe.channel_order = Recipe::ChannelOrder::kBgr;
  EXPECT_TRUE(bit_equal(preprocess(image, recipe), Tensor::from<float>({1, 1, 2, 3}, {3, 2, 1, 6, 5, 4})));
  recipe.layout = Recipe::Layout::kNchw;
  EXPECT_TRUE(bit_equal(preprocess(image, recipe), Tensor::from<float>({1, 3, 1, 2}, {3, 6, 2, 5, 1, 4})));
}

TEST(Preprocess, GrayIsLuma) {
  const Tensor image = Tensor::from<std::uint8_t>({1, 4, 3}, {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255});
  Recipe recipe;
  recipe.channel_order = Recipe::ChannelOrder::kGray;
  // 255 * (19595, 38470, 7471) / 65536, rounded.
  EXPECT_TRUE(bit_equal(preprocess(image, recipe), Tensor::from<float>({1, 1, 1, 4}, {76, 150, 29, 255})));
}

TEST(Preprocess, NormalisesInFloat32) {
  const Tensor image = Tensor::from<std::uint8_t>({1, 1, 3}, {0, 128, 255});
  Recipe recipe;
  recipe.divide = 255;
  recipe.mean = {0.485, 0.456, 0.406};
  recipe.std = {0.229, 0.224, 0.225};
  const Tensor result = preprocess(image, recipe);
  EXPECT_EQ(at(result, 0), (0.0F / 255.0F - 0.485F) / 0.229F);
  EXPECT_EQ(at(result, 1), (128.0F / 255.0F - 0.456F) / 0.224F);
  EXPECT_EQ(at(result, 2), (255.0F / 255.0F - 0.406F) / 0.225F);
  recipe.mean = {0.5};
  recipe.std = {2};
  EXPECT_EQ(at(preprocess(image, recipe), 2), 0.25F);
  // Mean and std belong to the channels of the output: BGR's first is blue.
  recipe.channel_order = Recipe::ChannelOrder::kBgr;
  recipe.mean = {1, 0, 0};
  recipe.std = {1};
  EXPECT_EQ(at(preprocess(image, recipe), 0), 0.0F);
}

TEST(Preprocess, TheOtherSideIsTruncated) {
  struct Case {
    std::int64_t height, width, short_side, to_height, to_width;
  };
  const Case cases[] = {{375, 500, 256, 256, 341}, {500, 375, 256, 341, 256}, {10, 10, 4, 4, 4},
                        {3, 8, 5, 5, 13},          {7, 100, 7, 7, 100},       {1, 1, 9, 9, 9}};
  for (const Case& c : cases) {
    Recipe recipe;
    recipe.resize = Recipe::Resize::kShortSide;
    recipe.short_side = c.short_side;
    EXPECT_EQ(preprocess(testing::synthetic_image(c.height, c.width, 1), recipe).shape(), (Shape{1, 3, c.to_height, c.to_width}));
  }
}

// An image whose red is its row and whose green is its column.
Tensor coordinates(std::int64_t height, std::int64_t width) {
  Tensor image = Tensor::zeros(DataType::kUInt8, {height, width, 3});
  auto pixels = image.mutable_data<std::uint8_t>();
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      pixels[static_cast<std::size_t>((y * width + x) * 3)] = static_cast<std::uint8_t>(y);
      pixels[static_cast<std::size_t>((y * width + x) * 3 + 1)] = static_cast<std::uint8_t>(x);
    }
  }
  return image;
}

TEST(Preprocess, TheCropsOffsetRoundsHalvesToEven) {
  // (n - crop) / 2 = 0.5, 1.5, 2.5, 3.5 -> 0, 2, 2, 4, as Python's round().
  for (const auto& [n, expected] :
       {std::pair{5, 0}, std::pair{7, 2}, std::pair{9, 2}, std::pair{11, 4}, std::pair{6, 1}, std::pair{4, 0}}) {
    Recipe recipe;
    recipe.center_crop = {4, 3};
    const Tensor result = preprocess(coordinates(n, n - 1), recipe);
    EXPECT_EQ(result.shape(), (Shape{1, 3, 4, 3}));
    EXPECT_EQ(at(result, 0), static_cast<float>(expected)) << n;
    EXPECT_EQ(at(result, 12), static_cast<float>(expected)) << n;
  }
}

TEST(Preprocess, ACropLargerThanTheImageIsAnError) {
  Recipe recipe;
  recipe.center_crop = {5, 4};
  const std::string message = testing::error_of(ErrorCode::kInvalidData, [&] { preprocess_image(coordinates(4, 4), recipe, "cat.jpg"); });
  EXPECT_NE(message.find("cat.jpg"), std::string::npos);
  EXPECT_NE(message.find("4 x 5"), std::string::npos) << message;
}

TEST(Preprocess, LetterboxPutsTheImageTopLeft) {
  Recipe recipe;
  recipe.resize = Recipe::Resize::kLetterbox;
  recipe.height = 10;
  recipe.width = 20;
  recipe.pad = 114;
  recipe.antialias = false;
  const Tensor image = testing::synthetic_image(30, 40, 9);  // ratio 1/3: 10 x 13
  const Tensor result = preprocess(image, recipe);
  EXPECT_EQ(result.shape(), (Shape{1, 3, 10, 20}));
  const Tensor small = resize_plain(image, 10, 13);
  for (std::size_t y = 0; y < 10; ++y) {
    for (std::size_t x = 0; x < 20; ++x)
      EXPECT_EQ(at(result, y * 20 + x), x < 13 ? static_cast<float>(small.data<std::uint8_t>()[(y * 13 + x) * 3]) : 114.0F);
  }
  // A very long image keeps at least one row.
  EXPECT_EQ(preprocess(testing::synthetic_image(1, 500, 9), recipe).shape(), (Shape{1, 3, 10, 20}));
}

TEST(Preprocess, GoldenChecksums) {
  // From the reference in Pillow 9.4 and NumPy: resize short side 64, crop 56, x / 255 - mean / std in float32 for each layout and order.
  const Tensor image = testing::synthetic_image(90, 120, 42);
  Recipe recipe;
  recipe.resize = Recipe::Resize::kShortSide;
  recipe.short_side = 64;
  recipe.center_crop = {56, 55};
  recipe.divide = 255;
  recipe.mean = {0.5};
  recipe.std = {0.25};
  EXPECT_EQ(testing::fnv1a(preprocess(image, recipe)), 0x513552DD1B20FDE3U);
  recipe.layout = Recipe::Layout::kNhwc;
  EXPECT_EQ(testing::fnv1a(preprocess(image, recipe)), 0x09EE0403826FA743U);
  recipe.channel_order = Recipe::ChannelOrder::kGray;
  EXPECT_EQ(testing::fnv1a(preprocess(image, recipe)), 0x19FA9E7C90FB40C4U);
}

TEST(Preprocess, WrongTensorsAreErrors) {
  testing::error_of(ErrorCode::kInvalidArgument, [] { preprocess(Tensor::zeros(DataType::kFloat32, {2, 2, 3}), {}); });
  testing::error_of(ErrorCode::kInvalidArgument, [] { preprocess(Tensor::zeros(DataType::kUInt8, {2, 2, 4}), {}); });
  testing::error_of(ErrorCode::kInvalidData, [] { preprocess(Tensor::zeros(DataType::kUInt8, {0, 2, 3}), {}); });
  Recipe recipe;
  recipe.mean = {1, 2};
  testing::error_of(ErrorCode::kInvalidArgument, [&] { preprocess(Tensor::zeros(DataType::kUInt8, {2, 2, 3}), recipe); });
}

}  // namespace
}  // namespace nibble
