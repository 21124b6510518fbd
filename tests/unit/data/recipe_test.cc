#include "data/recipe.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "nibble/dataset.h"
#include "unit/data/test_files.h"

namespace nibble {
namespace {

using Recipe = PreprocessRecipe;

TEST(Recipe, EveryKeyIsRead) {
  const Recipe recipe = parse_recipe(
      R"({"resize": {"letterbox": [416, 320], "pad": 114, "filter": "bilinear", "antialias": false}, "crop": {"center": [224, 200]},
          "layout": "NHWC", "channel_order": "BGR", "divide": 127.5, "mean": [1, 2, 3], "std": [0.5, 0.25, 4], "label_offset": 1})",
      "r.json");
  EXPECT_EQ(recipe.resize, Recipe::Resize::kLetterbox);
  EXPECT_EQ(recipe.height, 416);
  EXPECT_EQ(recipe.width, 320);
  EXPECT_EQ(recipe.pad, 114);
  EXPECT_FALSE(recipe.antialias);
  EXPECT_EQ(*recipe.center_crop, (std::pair<std::int64_t, std::int64_t>{224, 200}));
  EXPECT_EQ(recipe.layout, Recipe::Layout::kNhwc);
  EXPECT_EQ(recipe.channel_order, Recipe::ChannelOrder::kBgr);
  EXPECT_EQ(recipe.divide, 127.5);
  EXPECT_EQ(recipe.mean, (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(recipe.std, (std::vector<double>{0.5, 0.25, 4}));
  EXPECT_EQ(recipe.label_offset, 1);
}

TEST(Recipe, NothingIsTheIdentity) {
  const Recipe recipe = parse_recipe("{}", "r.json");
  EXPECT_EQ(recipe.resize, Recipe::Resize::kNone);
  EXPECT_FALSE(recipe.center_crop);
  EXPECT_EQ(recipe.channel_order, Recipe::ChannelOrder::kRgb);
  EXPECT_EQ(recipe.divide, 1);
  EXPECT_TRUE(recipe.antialias);
}

TEST(Recipe, WrittenAndReadAgainItIsTheSame) {
  for (const char* text :
       {R"({})", R"({"resize": {"short_side": 256}, "divide": 255, "mean": [0.485, 0.456, 0.406], "label_offset": 1})",
        R"({"resize": {"exact": [240, 320], "antialias": false}, "channel_order": "GRAY", "mean": [127], "std": [128.5]})",
        R"({"resize": {"letterbox": [4, 5], "pad": 7}, "crop": {"center": [2, 3]}, "layout": "NHWC"})", kExampleRecipe}) {
    const std::string once = to_json(parse_recipe(text, "r.json"));
    EXPECT_EQ(to_json(parse_recipe(once, "again")), once);
  }
  EXPECT_NE(to_json(parse_recipe(R"({"divide": 255})", "r")).find("\"divide\": 255\n"), std::string::npos) << "255, not 255.0";
}

TEST(Recipe, LiesBesideTheModel) {
  EXPECT_EQ(recipe_path_for("dir/net.onnx"), "dir/net.preprocess.json");
  EXPECT_EQ(recipe_path_for("net"), "net.preprocess.json");
  EXPECT_EQ(recipe_path_for("a.onnx.b"), "a.onnx.b.preprocess.json");
  const testing::TempDir dir;
  EXPECT_FALSE(find_recipe("", dir / "net.onnx"));
  dir.write("net.preprocess.json", R"({"divide": 2})");
  EXPECT_EQ(find_recipe("", dir / "net.onnx")->divide, 2);
  EXPECT_EQ(find_recipe(dir.write("other.json", R"({"divide": 3})"), dir / "net.onnx")->divide, 3);
  testing::error_of(ErrorCode::kNotFound, [&] { find_recipe(dir / "none.json", dir / "net.onnx"); });
}

TEST(Recipe, ErrorsNameFileKeyFoundAndExpected) {
  struct Case {
    const char* text;
    const char* part;
  };
  const Case cases[] = {
      {R"({"divde": 255})", "unknown key 'divde'"},
      {R"({"resize": {"shortside": 256}})", "unknown key 'resize.shortside'"},
      {R"({"crop": {"centre": [2, 2]}})", "unknown key 'crop.centre'"},
      {R"({"resize": {}})", "exactly one of short_side, exact and letterbox"},
      {R"({"resize": {"short_side": 2, "exact": [2, 2]}})", "exactly one of"},
      {R"({"resize": {"short_side": 0}})", "'resize.short_side' must be an integer from 1"},
      {R"({"resize": {"short_side": 2.5}})", "not '2.5'"},
      {R"({"resize": {"short_side": "256"}})", "'resize.short_side'"},
      {R"({"resize": {"short_side": 18446744073709551615}})", "'resize.short_side'"},
      {R"({"resize": {"exact": [224]}})", "[height, width]"},
      {R"({"resize": {"exact": 224}})", "[height, width]"},
      {R"({"resize": {"exact": [224, -1]}})", "'resize.exact'"},
      {R"({"resize": {"short_side": 2, "pad": 3}})", "'resize.pad'"},
      {R"({"resize": {"letterbox": [2, 2], "pad": 256}})", "'resize.pad'"},
      {R"({"resize": {"short_side": 2, "filter": "lanczos"}})", "one of bilinear, not '\"lanczos\"'"},
      {R"({"resize": {"short_side": 2, "antialias": 1}})", "true or false"},
      {R"({"resize": 256})", "'resize' must be a JSON object"},
      {R"({"crop": [224, 224]})", "'crop' must be a JSON object"},
      {R"({"crop": {}})", "\"center\""},
      {R"({"layout": "HWC"})", "one of NCHW, NHWC"},
      {R"({"channel_order": "rgb"})", "one of RGB, BGR, GRAY"},
      {R"({"divide": 0})", "other than 0"},
      {R"({"divide": 1e400})", "not valid JSON"},
      {R"({"divide": 1e300})", "finite"},
      {R"({"divide": "255"})", "'divide' must be a number"},
      {R"({"mean": 0.5})", "a list of 1 or 3 numbers"},
      {R"({"mean": [1, 2]})", "a list of 1 or 3 numbers"},
      {R"({"mean": [1, 2, "3"]})", "a list of 1 or 3 numbers"},
      {R"({"channel_order": "GRAY", "mean": [1, 2, 3]})", "a list of 1 number"},
      {R"({"std": [1, 0, 1]})", "other than 0"},
      {R"({"std": []})", "'std'"},
      {R"({"label_offset": 0.5})", "'label_offset'"},
      {R"({"divide": 1, "divide": 2})", "stands twice"},
      {R"([1, 2])", "the recipe must be a JSON object"},
      {R"({"divide": 1)", "not valid JSON"},
      {R"({"divide": 1} x)", "not valid JSON"},
      {"", "not valid JSON"},
      {"\xFF\xFE{", "not valid JSON"},
      {"{\n\"divide\":\n\x01}", "not valid JSON"},
  };
  for (const Case& c : cases) {
    const std::string message = testing::error_of(ErrorCode::kInvalidData, [&] { parse_recipe(c.text, "dir/r.json"); });
    EXPECT_EQ(message.find("dir/r.json: "), 0U) << message;
    EXPECT_NE(message.find(c.part), std::string::npos) << c.text << " gave: " << message;
  }
  std::string deep = "{\"mean\": ";
  for (int i = 0; i < 100000; ++i) deep += '[';
  testing::error_of(ErrorCode::kInvalidData, [&] { parse_recipe(deep, "r.json"); });
}

TEST(Recipe, AllOfTheAssetsAreRead) {
  const std::string assets = testing::assets_folder();
  if (assets.empty()) GTEST_SKIP() << "skipped: the assets are missing (NIBBLE_ASSETS)";
  int count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(assets)) {
    const std::string path = entry.path().string();
    if (!path.ends_with(".preprocess.json")) continue;
    EXPECT_TRUE(find_recipe(path, ""));
    ++count;
  }
  EXPECT_GE(count, 13);
  const auto v2 = find_recipe("", assets + "/models/mobilenet_v2_1.0_224.onnx");
  ASSERT_TRUE(v2);
  EXPECT_EQ(v2->short_side, 256);
  EXPECT_EQ(v2->label_offset, 1);
}

}  // namespace
}  // namespace nibble
