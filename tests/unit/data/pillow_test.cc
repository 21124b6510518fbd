// Against Pillow itself, where /usr/bin/python3 has it: decoding, resizing and grey conversion give the same bits.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "data/preprocess.h"
#include "data/resize.h"
#include "nibble/dataset.h"
#include "unit/data/test_files.h"

namespace nibble {
namespace {

using testing::TempDir;

// Lines "IN OUT OP A B": reads IN, applies OP, saves the array as OUT.
constexpr const char* kScript = R"(
import sys
import numpy, PIL
from PIL import Image
for line in open(sys.argv[1]):
    source, target, op, a, b = line.rstrip('\n').split('\t')
    image = Image.fromarray(numpy.load(source)) if source.endswith('.npy') else Image.open(source).convert('RGB')
    if op == 'resize':
        image = image.resize((int(a), int(b)), Image.BILINEAR)
    if op == 'gray':
        image = image.convert('L')
    numpy.save(target, numpy.asarray(image))
)";

bool have_pillow() { return std::system("/usr/bin/python3 -c 'import numpy, PIL' >/dev/null 2>&1") == 0; }

class PillowTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!have_pillow()) GTEST_SKIP() << "skipped: /usr/bin/python3 has no Pillow and NumPy";
  }
  // Asks Pillow; the answers come in the order of the questions.
  void ask(const std::string& source, const std::string& op, std::int64_t a = 0, std::int64_t b = 0) {
    const std::string target = dir_ / ("out" + std::to_string(targets_.size()) + ".npy");
    jobs_ += source + "\t" + target + "\t" + op + "\t" + std::to_string(a) + "\t" + std::to_string(b) + "\n";
    targets_.push_back(target);
  }
  std::vector<Tensor> answers() {
    const std::string jobs = dir_.write("jobs", jobs_);
    const std::string script = dir_.write("script.py", kScript);
    EXPECT_EQ(std::system(("/usr/bin/python3 " + script + " " + jobs).c_str()), 0);
    std::vector<Tensor> results;
    for (const std::string& target : targets_) results.push_back(read_npy(target));
    return results;
  }
  static int max_difference(const Tensor& a, const Tensor& b) {
    EXPECT_EQ(a.shape(), b.shape());
    if (a.shape() != b.shape()) return 256;
    int most = 0;
    const auto x = a.data<std::uint8_t>();
    const auto y = b.data<std::uint8_t>();
    for (std::size_t i = 0; i < x.size(); ++i) most = std::max(most, std::abs(int{x[i]} - int{y[i]}));
    return most;
  }
  TempDir dir_;
  std::string jobs_;
  std::vector<std::string> targets_;
};

TEST_F(PillowTest, ResizeIsBitEqual) {
  // In, out: shrinking, growing, both at once, one axis alone, to and from one pixel, odd ratios.
  const std::int64_t sizes[][4] = {{37, 53, 11, 17},   {53, 37, 224, 224}, {100, 60, 50, 120},   {64, 64, 64, 31},    {64, 64, 31, 64},
                                   {64, 64, 64, 64},   {1, 1, 9, 5},       {9, 5, 1, 1},         {500, 3, 7, 3},      {3, 500, 3, 7},
                                   {97, 101, 96, 100}, {2, 2, 3, 3},       {333, 500, 256, 384}, {255, 257, 128, 127}};
  std::vector<Tensor> ours;
  std::uint64_t seed = 1;
  for (const auto& size : sizes) {
    const Tensor image = testing::synthetic_image(size[0], size[1], seed++);
    const std::string path = dir_ / ("in" + std::to_string(seed) + ".npy");
    write_npy(path, image);
    ask(path, "resize", size[3], size[2]);
    ours.push_back(resize_antialiased(image, size[2], size[3]));
  }
  const std::vector<Tensor> theirs = answers();
  for (std::size_t i = 0; i < ours.size(); ++i)
    EXPECT_EQ(max_difference(ours[i], theirs[i]), 0) << to_string(ours[i].shape()) << " case " << i;
}

TEST_F(PillowTest, GrayIsBitEqual) {
  const Tensor image = testing::synthetic_image(61, 67, 3);
  write_npy(dir_ / "in.npy", image);
  ask(dir_ / "in.npy", "gray");
  PreprocessRecipe recipe;
  recipe.channel_order = PreprocessRecipe::ChannelOrder::kGray;
  const Tensor ours = cast(preprocess(image, recipe), DataType::kUInt8).reshaped({61, 67});
  EXPECT_EQ(max_difference(ours, answers()[0]), 0);
}

TEST_F(PillowTest, DecodingIsBitEqual) {
  const Tensor image = testing::synthetic_image(75, 93, 5);
  std::vector<std::string> files;
  int number = 0;
  const auto add = [&](const std::string& bytes, const char* extension) {
    files.push_back(dir_.write("image" + std::to_string(number++) + extension, bytes));
  };
  add(testing::jpeg_bytes(image), ".jpg");
  add(testing::jpeg_bytes(image, {.quality = 30}), ".jpg");
  add(testing::jpeg_bytes(image, {.subsample = false}), ".jpg");
  add(testing::jpeg_bytes(image, {.progressive = true}), ".jpg");
  add(testing::jpeg_bytes(image, {.gray = true}), ".jpg");
  add(testing::jpeg_bytes(image, {.cmyk = true}), ".jpg");
  add(testing::png_bytes(image), ".png");
  // Every kind of PNG but 16-bit grey (see image_test.cc), plain and with transparency.
  const auto rows = [](std::size_t height, std::size_t bytes) {
    std::string result;
    for (std::size_t y = 0; y < height; ++y) {
      result += '\0';
      for (std::size_t x = 0; x < bytes; ++x) result += static_cast<char>((x * 37 + y * 101 + x * y) & 0xFFU);
    }
    return result;
  };
  std::string palette;
  for (int i = 0; i < 256; ++i) palette += {static_cast<char>(i), static_cast<char>(255 - i), static_cast<char>(i * 7)};
  for (const int depth : {1, 2, 4, 8}) {
    const std::size_t bytes = (16 * static_cast<std::size_t>(depth) + 7) / 8;
    add(testing::png_bytes({.width = 16, .height = 9, .depth = depth, .color = 0, .rows = rows(9, bytes)}), ".png");
    const auto colors = std::size_t{3} << depth;
    add(testing::png_bytes(
            {.width = 16, .height = 9, .depth = depth, .color = 3, .rows = rows(9, bytes), .palette = palette.substr(0, colors)}),
        ".png");
    add(testing::png_bytes({.width = 16,
                            .height = 9,
                            .depth = depth,
                            .color = 3,
                            .rows = rows(9, bytes),
                            .palette = palette.substr(0, colors),
                            .transparency = std::string("\x00\x80", 2)}),
        ".png");
  }
  for (const int depth : {8, 16}) {
    const auto bytes = static_cast<std::size_t>(depth / 8) * 16;
    add(testing::png_bytes({.width = 16, .height = 9, .depth = depth, .color = 2, .rows = rows(9, 3 * bytes)}), ".png");
    add(testing::png_bytes({.width = 16, .height = 9, .depth = depth, .color = 4, .rows = rows(9, 2 * bytes)}), ".png");
    add(testing::png_bytes({.width = 16, .height = 9, .depth = depth, .color = 6, .rows = rows(9, 4 * bytes)}), ".png");
  }
  for (const std::string& file : files) ask(file, "decode");
  const std::vector<Tensor> theirs = answers();
  for (std::size_t i = 0; i < files.size(); ++i) EXPECT_EQ(max_difference(read_image(files[i]), theirs[i]), 0) << files[i] << " case " << i;
}

TEST_F(PillowTest, PhotographsAreBitEqual) {
  const std::string assets = testing::assets_folder();
  if (assets.empty()) GTEST_SKIP() << "skipped: the assets are missing (NIBBLE_ASSETS)";
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(assets + "/imagenet/calibration/images")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Tensor> ours;
  for (const std::string& file : files) {
    const Tensor image = read_image(file);
    const std::int64_t height = image.shape()[0] < image.shape()[1] ? 256 : 256 * image.shape()[0] / image.shape()[1];
    const std::int64_t width = image.shape()[0] < image.shape()[1] ? 256 * image.shape()[1] / image.shape()[0] : 256;
    ask(file, "decode");
    ours.push_back(image);
    ask(file, "resize", width, height);
    ours.push_back(resize_antialiased(image, height, width));
  }
  const std::vector<Tensor> theirs = answers();
  for (std::size_t i = 0; i < ours.size(); ++i)
    EXPECT_EQ(max_difference(ours[i], theirs[i]), 0) << files[i / 2] << (i % 2 == 0 ? " decoded" : " resized");
}

}  // namespace
}  // namespace nibble
