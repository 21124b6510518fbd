#include "data/preprocess.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/fail.h"
#include "data/image.h"
#include "data/resize.h"

namespace nibble {
namespace {

Tensor resize_to(const Tensor& image, const PreprocessRecipe& recipe, std::int64_t height, std::int64_t width, const std::string& origin) {
  check_image_size(height, width, origin);
  // The first pass makes an image of the old height and the new width.
  if (recipe.antialias) check_image_size(image.shape()[0], width, origin);
  return recipe.antialias ? resize_antialiased(image, height, width) : resize_plain(image, height, width);
}

Tensor resize_short_side(const Tensor& image, const PreprocessRecipe& recipe, const std::string& origin) {
  const std::int64_t height = image.shape()[0];
  const std::int64_t width = image.shape()[1];
  // Integer division truncates exactly where a quotient of doubles would.
  if (width <= height) return resize_to(image, recipe, recipe.short_side * height / width, recipe.short_side, origin);
  return resize_to(image, recipe, recipe.short_side, recipe.short_side * width / height, origin);
}

Tensor letterbox(const Tensor& image, const PreprocessRecipe& recipe, const std::string& origin) {
  const std::int64_t in_height = image.shape()[0];
  const std::int64_t in_width = image.shape()[1];
  const double ratio = std::min(static_cast<double>(recipe.height) / static_cast<double>(in_height),
                                static_cast<double>(recipe.width) / static_cast<double>(in_width));
  const auto shrunk = [&](std::int64_t size, std::int64_t most) {
    return std::clamp<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(size) * ratio), 1, most);
  };
  const Tensor small = resize_to(image, recipe, shrunk(in_height, recipe.height), shrunk(in_width, recipe.width), origin);
  Tensor result(DataType::kUInt8, {recipe.height, recipe.width, 3});
  std::uint8_t* dst = result.mutable_data<std::uint8_t>().data();
  const std::uint8_t* src = small.data<std::uint8_t>().data();
  const auto row = static_cast<std::size_t>(recipe.width) * 3;
  const auto small_row = static_cast<std::size_t>(small.shape()[1]) * 3;
  std::memset(dst, static_cast<int>(std::lround(recipe.pad)), result.size_bytes());
  for (std::size_t y = 0; y < static_cast<std::size_t>(small.shape()[0]); ++y) std::memcpy(dst + y * row, src + y * small_row, small_row);
  return result;
}

// round((n - crop) / 2), halves to even.
std::int64_t crop_offset(std::int64_t n, std::int64_t crop) {
  const std::int64_t twice = n - crop;
  const std::int64_t down = twice / 2;
  return twice % 2 == 0 || down % 2 == 0 ? down : down + 1;
}

Tensor center_crop(const Tensor& image, std::int64_t height, std::int64_t width, const std::string& origin) {
  if (image.shape()[0] < height || image.shape()[1] < width)
    fail(ErrorCode::kInvalidData,
         "{}: the image is {} x {} (width x height) where the recipe crops {} x {}; let the recipe resize it first", origin,
         image.shape()[1], image.shape()[0], width, height);
  const std::int64_t top = crop_offset(image.shape()[0], height);
  const std::int64_t left = crop_offset(image.shape()[1], width);
  Tensor result(DataType::kUInt8, {height, width, 3});
  std::uint8_t* dst = result.mutable_data<std::uint8_t>().data();
  const std::uint8_t* src = image.data<std::uint8_t>().data();
  const auto row = static_cast<std::size_t>(width) * 3;
  for (std::int64_t y = 0; y < height; ++y)
    std::memcpy(dst + static_cast<std::size_t>(y) * row, src + static_cast<std::size_t>((top + y) * image.shape()[1] + left) * 3, row);
  return result;
}

// (x / divide - mean) / std in float32 for each of the 256 values a pixel can have.
using ValueTable = std::array<float, 256>;
ValueTable value_table(const PreprocessRecipe& recipe, std::size_t channel) {
  const auto pick = [&](const std::vector<double>& values, double fallback) {
    if (values.empty()) return static_cast<float>(fallback);
    return static_cast<float>(values.size() == 1 ? values[0] : values[channel]);
  };
  const float mean = pick(recipe.mean, 0);
  const float std = pick(recipe.std, 1);
  const auto divide = static_cast<float>(recipe.divide);
  ValueTable table;
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = (static_cast<float>(i) / divide - mean) / std;
  return table;
}

// ITU-R 601 luma as Pillow's mode "L" computes it.
std::uint8_t luma(const std::uint8_t* rgb) {
  return static_cast<std::uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

}  // namespace

Tensor preprocess_image(const Tensor& image, const PreprocessRecipe& recipe, const std::string& origin) {
  if (image.type() != DataType::kUInt8 || image.rank() != 3 || image.shape()[2] != 3)
    fail(ErrorCode::kInvalidArgument, "{}: an image is uint8 [H,W,3], not {} {}", origin, to_string(image.type()),
         to_string(image.shape()));
  check_image_size(image.shape()[0], image.shape()[1], origin);
  Tensor pixels = image;
  switch (recipe.resize) {
    case PreprocessRecipe::Resize::kNone: break;
    case PreprocessRecipe::Resize::kShortSide: pixels = resize_short_side(image, recipe, origin); break;
    case PreprocessRecipe::Resize::kExact: pixels = resize_to(image, recipe, recipe.height, recipe.width, origin); break;
    case PreprocessRecipe::Resize::kLetterbox: pixels = letterbox(image, recipe, origin); break;
  }
  if (recipe.center_crop) pixels = center_crop(pixels, recipe.center_crop->first, recipe.center_crop->second, origin);

  const std::int64_t height = pixels.shape()[0];
  const std::int64_t width = pixels.shape()[1];
  const bool gray = recipe.channel_order == PreprocessRecipe::ChannelOrder::kGray;
  const bool bgr = recipe.channel_order == PreprocessRecipe::ChannelOrder::kBgr;
  const std::size_t channels = gray ? 1 : 3;
  for (const auto* values : {&recipe.mean, &recipe.std}) {
    if (values->size() > 1 && values->size() != channels)
      fail(ErrorCode::kInvalidArgument, "{}: the recipe has {} values of mean or std for {} channels", origin, values->size(), channels);
  }
  const auto count = static_cast<std::size_t>(height * width);
  const bool planes = recipe.layout == PreprocessRecipe::Layout::kNchw;
  const auto axis = static_cast<std::int64_t>(channels);
  Tensor result(DataType::kFloat32, planes ? Shape{1, axis, height, width} : Shape{1, height, width, axis});
  const std::uint8_t* src = pixels.data<std::uint8_t>().data();
  float* dst = result.mutable_data<float>().data();
  const std::size_t channel_step = planes ? count : 1;
  const std::size_t pixel_step = planes ? 1 : channels;
  for (std::size_t c = 0; c < channels; ++c) {
    const ValueTable table = value_table(recipe, c);
    float* out = dst + c * channel_step;
    if (gray) {
      for (std::size_t i = 0; i < count; ++i) out[i] = table[luma(src + 3 * i)];
      continue;
    }
    const std::uint8_t* in = src + (bgr ? 2 - c : c);
    for (std::size_t i = 0; i < count; ++i) out[i * pixel_step] = table[in[3 * i]];
  }
  return result;
}

Tensor preprocess(const Tensor& image, const PreprocessRecipe& recipe) { return preprocess_image(image, recipe, "preprocess"); }

}  // namespace nibble
