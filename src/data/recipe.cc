#include "data/recipe.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <tuple>

#include "base/fail.h"
#include "data/files.h"
#include "nibble/dataset.h"

namespace nibble {

const char* const kExampleRecipe =
    R"({"resize": {"short_side": 256, "filter": "bilinear", "antialias": true}, "crop": {"center": [224, 224]}, "layout": "NCHW", )"
    R"("channel_order": "RGB", "divide": 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]})";

namespace {

using Json = nlohmann::json;

// Larger sides than any network reads; keeps products far from overflow.
constexpr std::int64_t kLargestSide = 65536;

std::string joined(std::initializer_list<std::string_view> words) {
  std::string text;
  for (const std::string_view word : words) text += fmt::format("{}{}", text.empty() ? "" : ", ", word);
  return text;
}

// A JSON object under a name ("resize"), with typed access whose errors say file, key, what was found and what was expected.
class Section {
 public:
  Section(const Json& json, const std::string& origin, std::string path) : json_(json), origin_(origin), path_(std::move(path)) {
    if (!json.is_object())
      fail(ErrorCode::kInvalidData, "{}: {} must be a JSON object, not {}", origin_, path_.empty() ? "the recipe" : in_quotes(path_),
           shown(json));
  }

  void allow_only(std::initializer_list<std::string_view> keys) const {
    for (const auto& [key, value] : json_.items()) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end())
        fail(ErrorCode::kInvalidData, "{}: unknown key {} in the recipe; known are {}", origin_, in_quotes(name(key)), joined(keys));
    }
  }
  bool has(std::string_view key) const { return json_.contains(key); }
  Section section(std::string_view key) const { return {json_.at(std::string(key)), origin_, name(key)}; }

  double number(std::string_view key, double fallback) const {
    if (!has(key)) return fallback;
    const Json& value = json_.at(std::string(key));
    if (!value.is_number()) wrong(key, "a number", value);
    return value.get<double>();
  }
  std::int64_t integer(std::string_view key, std::int64_t fallback, std::int64_t least, std::int64_t most) const {
    return has(key) ? as_integer(json_.at(std::string(key)), key, least, most) : fallback;
  }
  bool boolean(std::string_view key, bool fallback) const {
    if (!has(key)) return fallback;
    const Json& value = json_.at(std::string(key));
    if (!value.is_boolean()) wrong(key, "true or false", value);
    return value.get<bool>();
  }
  // The index of the value in `words`.
  std::size_t word(std::string_view key, std::initializer_list<std::string_view> words) const {
    if (!has(key)) return 0;
    const Json& value = json_.at(std::string(key));
    const auto* found = words.end();
    if (value.is_string()) found = std::find(words.begin(), words.end(), value.get<std::string>());
    if (found == words.end()) wrong(key, fmt::format("one of {}", joined(words)), value);
    return static_cast<std::size_t>(found - words.begin());
  }
  std::pair<std::int64_t, std::int64_t> height_and_width(std::string_view key) const {
    const Json& value = json_.at(std::string(key));
    if (!value.is_array() || value.size() != 2) wrong(key, "[height, width]", value);
    return {as_integer(value[0], key, 1, kLargestSide), as_integer(value[1], key, 1, kLargestSide)};
  }
  std::vector<double> numbers(std::string_view key, std::size_t channels) const {
    if (!has(key)) return {};
    const Json& value = json_.at(std::string(key));
    const std::string expected = channels == 1 ? "a list of 1 number" : fmt::format("a list of 1 or {} numbers", channels);
    if (!value.is_array() || (value.size() != 1 && value.size() != channels)) wrong(key, expected, value);
    std::vector<double> result;
    for (const Json& item : value) {
      if (!item.is_number()) wrong(key, expected, value);
      result.push_back(item.get<double>());
      if (!std::isfinite(static_cast<float>(result.back()))) wrong(key, "finite numbers", value);
    }
    return result;
  }
  [[noreturn]] void wrong(std::string_view key, std::string_view expected, const Json& found) const {
    fail(ErrorCode::kInvalidData, "{}: {} must be {}, not {}", origin_, in_quotes(name(key)), expected, shown(found));
  }
  [[noreturn]] void wrong(std::string_view key, std::string_view expected) const { wrong(key, expected, json_.at(std::string(key))); }
  [[noreturn]] void wrong_as_a_whole(std::string_view expected) const {
    fail(ErrorCode::kInvalidData, "{}: {} must be {}, not {}", origin_, in_quotes(path_), expected, shown(json_));
  }

 private:
  std::string name(std::string_view key) const { return path_.empty() ? std::string(key) : path_ + "." + std::string(key); }
  static std::string shown(const Json& value) { return in_quotes(value.dump(-1, ' ', false, Json::error_handler_t::replace)); }
  std::int64_t as_integer(const Json& value, std::string_view key, std::int64_t least, std::int64_t most) const {
    const std::string expected = fmt::format("an integer from {} to {}", least, most);
    if (!value.is_number_integer()) wrong(key, expected, value);
    if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(most)) wrong(key, expected, value);
    const auto number = value.get<std::int64_t>();
    if (number < least || number > most) wrong(key, expected, value);
    return number;
  }

  const Json& json_;
  const std::string& origin_;
  std::string path_;
};

Json parse_json(const std::string& text, const std::string& origin) {
  // The library keeps the last of two equal keys; here that is an error, since one of them is not what its writer meant.
  std::vector<std::set<std::string>> keys;
  constexpr std::size_t kDeepest = 16;
  const auto check = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) {
      keys.emplace_back();
      if (keys.size() > kDeepest) fail(ErrorCode::kInvalidData, "{}: the recipe is nested too deeply", origin);
    }
    if (event == Json::parse_event_t::object_end || event == Json::parse_event_t::array_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second)
      fail(ErrorCode::kInvalidData, "{}: the key {} stands twice in the recipe", origin, in_quotes(parsed.get<std::string>()));
    return true;
  };
  try {
    return Json::parse(text.starts_with("\xEF\xBB\xBF") ? text.substr(3) : text, check);
  } catch (const Json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ...": the part in brackets says nothing to a user.
    std::string reason = error.what();
    if (const auto end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
    std::replace_if(
        reason.begin(), reason.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
    fail(ErrorCode::kInvalidData, "{}: the recipe is not valid JSON: {}", origin, reason);
  }
}

void read_resize(const Section& resize, PreprocessRecipe& recipe) {
  resize.allow_only({"short_side", "exact", "letterbox", "pad", "filter", "antialias"});
  const int kinds = int{resize.has("short_side")} + int{resize.has("exact")} + int{resize.has("letterbox")};
  if (kinds != 1) resize.wrong_as_a_whole("an object with exactly one of short_side, exact and letterbox");
  if (resize.has("short_side")) {
    recipe.resize = PreprocessRecipe::Resize::kShortSide;
    recipe.short_side = resize.integer("short_side", 0, 1, kLargestSide);
  } else {
    recipe.resize = resize.has("exact") ? PreprocessRecipe::Resize::kExact : PreprocessRecipe::Resize::kLetterbox;
    std::tie(recipe.height, recipe.width) = resize.height_and_width(resize.has("exact") ? "exact" : "letterbox");
  }
  if (resize.has("pad")) {
    if (recipe.resize != PreprocessRecipe::Resize::kLetterbox) resize.wrong("pad", "left out where there is no letterbox");
    recipe.pad = static_cast<double>(resize.integer("pad", 0, 0, 255));
  }
  resize.word("filter", {"bilinear"});
  recipe.antialias = resize.boolean("antialias", true);
}

}  // namespace

PreprocessRecipe parse_recipe(const std::string& json_text, const std::string& origin) {
  const Json json = parse_json(json_text, origin);
  const Section top(json, origin, "");
  top.allow_only({"resize", "crop", "channel_order", "divide", "mean", "std", "layout", "label_offset"});
  PreprocessRecipe recipe;
  if (top.has("resize")) read_resize(top.section("resize"), recipe);
  if (top.has("crop")) {
    const Section crop = top.section("crop");
    crop.allow_only({"center"});
    if (!crop.has("center")) top.wrong("crop", "{\"center\": [height, width]}");
    recipe.center_crop = crop.height_and_width("center");
  }
  recipe.channel_order = static_cast<PreprocessRecipe::ChannelOrder>(top.word("channel_order", {"RGB", "BGR", "GRAY"}));
  recipe.layout = static_cast<PreprocessRecipe::Layout>(top.word("layout", {"NCHW", "NHWC"}));
  const std::size_t channels = recipe.channel_order == PreprocessRecipe::ChannelOrder::kGray ? 1 : 3;
  recipe.divide = top.number("divide", 1);
  const auto float_divide = static_cast<float>(recipe.divide);
  if (!std::isfinite(float_divide) || float_divide == 0.0F) top.wrong("divide", "a finite number other than 0");
  recipe.mean = top.numbers("mean", channels);
  recipe.std = top.numbers("std", channels);
  for (const double value : recipe.std) {
    if (static_cast<float>(value) == 0.0F) top.wrong("std", "numbers other than 0");
  }
  recipe.label_offset = top.integer("label_offset", 0, -1'000'000, 1'000'000);
  return recipe;
}

std::string to_json(const PreprocessRecipe& recipe) {
  static constexpr std::string_view kOrders[] = {"RGB", "BGR", "GRAY"};
  static constexpr std::string_view kLayouts[] = {"NCHW", "NHWC"};
  nlohmann::ordered_json json;
  // 255.0 is written 255.
  const auto number = [](double value) -> nlohmann::ordered_json {
    if (std::abs(value) < 1e15 && value == std::floor(value)) return static_cast<std::int64_t>(value);
    return value;
  };
  const auto numbers = [&](const std::vector<double>& values) {
    auto list = nlohmann::ordered_json::array();
    for (const double value : values) list.push_back(number(value));
    return list;
  };
  if (recipe.resize != PreprocessRecipe::Resize::kNone) {
    nlohmann::ordered_json resize;
    if (recipe.resize == PreprocessRecipe::Resize::kShortSide)
      resize["short_side"] = recipe.short_side;
    else
      resize[recipe.resize == PreprocessRecipe::Resize::kExact ? "exact" : "letterbox"] = {recipe.height, recipe.width};
    if (recipe.resize == PreprocessRecipe::Resize::kLetterbox) resize["pad"] = number(recipe.pad);
    resize["filter"] = recipe.filter;
    resize["antialias"] = recipe.antialias;
    json["resize"] = resize;
  }
  if (recipe.center_crop) json["crop"] = {{"center", {recipe.center_crop->first, recipe.center_crop->second}}};
  json["layout"] = kLayouts[static_cast<std::size_t>(recipe.layout)];
  json["channel_order"] = kOrders[static_cast<std::size_t>(recipe.channel_order)];
  json["divide"] = number(recipe.divide);
  if (!recipe.mean.empty()) json["mean"] = numbers(recipe.mean);
  if (!recipe.std.empty()) json["std"] = numbers(recipe.std);
  if (recipe.label_offset != 0) json["label_offset"] = recipe.label_offset;
  return json.dump(1) + "\n";
}

std::string recipe_path_for(const std::string& model_path) {
  constexpr std::string_view kSuffix = ".onnx";
  const bool onnx = model_path.size() > kSuffix.size() && model_path.ends_with(kSuffix);
  return (onnx ? model_path.substr(0, model_path.size() - kSuffix.size()) : model_path) + ".preprocess.json";
}

std::optional<PreprocessRecipe> find_recipe(const std::string& explicit_path, const std::string& model_path) {
  const std::string path = explicit_path.empty() ? recipe_path_for(model_path) : explicit_path;
  if (explicit_path.empty() && path_kind(path) == PathKind::kMissing) return std::nullopt;
  return parse_recipe(read_regular_file(path, "the preprocessing recipe"), path);
}

}  // namespace nibble
