#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "nibble/calibrate.h"
#include "nibble/error.h"

namespace nibble {
namespace {

RangeTable example() {
  RangeTable table;
  table.method = "min_max";
  table.target = {.type = {.bit_width = 7, .is_signed = true, .narrow_range = true}, .symmetric = true};
  table.data_hash = "abc";
  table.samples = 3;
  table.warnings = {"value \"x\" is odd"};
  table.entries["x"] = {.range = Range{-0.1, 1.0 / 3},
                        .pinned = std::nullopt,
                        .states = {{"min_max", R"({"empty":false,"hi":0.5,"lo":-0.1})"}},
                        .samples = 3};
  table.entries["pinned"] = {.range = std::nullopt,
                             .pinned = QuantParams{.type = {.bit_width = 4, .is_signed = true},
                                                   .granularity = PerChannel{.axis = 1},
                                                   .scale = {0.1F, 1e-38F, 3.4e38F},
                                                   .zero_point = {-8, 0, 7}},
                             .states = {},
                             .samples = 0};
  table.entries["blocks"].pinned =
      QuantParams{.type = {.bit_width = 8}, .granularity = PerBlock{.axis = 0, .block_size = 2}, .scale = {1, 2}, .zero_point = {3, 255}};
  table.entries["bases"].bases = {*table.entries["pinned"].pinned, *table.entries["blocks"].pinned};
  table.entries["quote \" and \\ and \n and \u00e9"] = {.range = Range{0, 0}, .pinned = std::nullopt, .states = {}, .samples = 1};
  return table;
}

bool equal(const RangeTable& a, const RangeTable& b) {
  if (a.method != b.method || !(a.target == b.target) || a.data_hash != b.data_hash || a.samples != b.samples || a.warnings != b.warnings ||
      a.entries.size() != b.entries.size()) {
    return false;
  }
  for (const auto& [name, entry] : a.entries) {
    const auto other = b.entries.find(name);
    if (other == b.entries.end()) return false;
    if (entry.range != other->second.range || entry.pinned != other->second.pinned || entry.bases != other->second.bases || entry.states != other->second.states ||
        entry.samples != other->second.samples) {
      return false;
    }
  }
  return true;
}

TEST(RangeTable, TextGivesTheTableBack) {
  const RangeTable table = example();
  const std::string text = to_json(table);
  const RangeTable back = range_table_from_json(text, "test");
  EXPECT_TRUE(equal(table, back)) << text;
  EXPECT_EQ(to_json(back), text);
}

TEST(RangeTable, EmptyTable) { EXPECT_TRUE(equal(range_table_from_json(to_json(RangeTable{}), "test"), RangeTable{})); }

TEST(RangeTable, FileAndBack) {
  const std::string path = ::testing::TempDir() + "/nibble_ranges_test.json";
  save_ranges(example(), path);
  EXPECT_TRUE(equal(load_ranges(path), example()));
  std::remove(path.c_str());
  EXPECT_THROW(load_ranges(path), Error);
}

// Whatever happens to a file: the table or an Error that names the file, never anything else.
TEST(RangeTable, DamagedFilesAreRefused) {
  const std::string good = to_json(example());
  for (std::size_t n = 0; n < good.size() - 2; ++n) {
    try {
      range_table_from_json(good.substr(0, n), "ranges.json");
      ADD_FAILURE() << "accepted the first " << n << " bytes";
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), ::testing::HasSubstr("ranges.json"));
    }
  }
  const std::uint64_t seed = 11;
  std::mt19937_64 random(seed);
  for (int i = 0; i < 3000; ++i) {
    std::string text = good;
    for (std::uint64_t flips = 1 + random() % 3; flips > 0; --flips) text[random() % text.size()] = static_cast<char>(random());
    try {
      const RangeTable table = range_table_from_json(text, "ranges.json");
      to_json(table);
      merge_ranges(std::vector<RangeTable>{table, table});
    } catch (const Error&) {
    }
  }
}

std::string refusal(const std::string& text) {
  try {
    range_table_from_json(text, "ranges.json");
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST(RangeTable, SaysWhatIsWrong) {
  const std::string head =
      R"({"nibble_ranges":1,"method":"min_max","target":{"bit_width":8,"signed":false,"narrow_range":false,"symmetric":false},"data_hash":"","samples":1,"warnings":[],"values":)";
  EXPECT_THAT(refusal("[]"), ::testing::HasSubstr("not a range file"));
  EXPECT_THAT(refusal(R"({"nibble_ranges":2})"), ::testing::HasSubstr("version 2"));
  EXPECT_THAT(refusal(R"({"nibble_ranges":1})"), ::testing::HasSubstr("missing"));
  EXPECT_THAT(refusal(head + R"({"x":{"samples":1,"range":[2,1]}}})"), ::testing::HasSubstr("value \"x\".range: lo is above hi"));
  EXPECT_THAT(refusal(head + R"({"x":{"samples":1,"range":[1e39,1e39]}}})"), ::testing::HasSubstr("finite float32"));
  EXPECT_THAT(refusal(head + R"({"x":{"samples":1,"rnage":[1,1]}}})"), ::testing::HasSubstr("rnage"));
  EXPECT_THAT(refusal(head + R"({"x":{"samples":-1}}})"), ::testing::HasSubstr("samples"));
  EXPECT_THAT(
      refusal(head + R"({"x":{"samples":1,"pinned":{"bit_width":8,"signed":false,"narrow_range":false,"scale":[0],"zero_point":[0]}}}})"),
      ::testing::HasSubstr("above 0"));
  EXPECT_THAT(
      refusal(head + R"({"x":{"samples":1,"pinned":{"bit_width":8,"signed":false,"narrow_range":false,"scale":[1],"zero_point":[256]}}}})"),
      ::testing::HasSubstr("0 to 255"));
  EXPECT_THAT(
      refusal(head + R"({"x":{"samples":1,"pinned":{"bit_width":99,"signed":false,"narrow_range":false,"scale":[1],"zero_point":[0]}}}})"),
      ::testing::HasSubstr("1 to 16"));
}

TEST(MergeRanges, RefusesShardsThatDiffer) {
  RangeTable a = example(), b = example();
  const auto merged = [&] { return merge_ranges(std::vector<RangeTable>{a, b}); };
  EXPECT_THROW(merged(), Error);  // a range without a state
  for (auto& [name, entry] : a.entries) {
    if (entry.range) entry.states = a.entries["x"].states;
  }
  b = a;
  const RangeTable good = merged();
  EXPECT_EQ(good.samples, 6);
  EXPECT_EQ(good.entries.at("x").range, (Range{-0.1, 0.5}));
  EXPECT_EQ(good.entries.at("x").samples, 6);
  EXPECT_EQ(good.entries.at("pinned").pinned, a.entries["pinned"].pinned);
  b.method = "average";
  EXPECT_THROW(merged(), Error);
  b = a;
  b.target.symmetric = false;
  EXPECT_THROW(merged(), Error);
  b = a;
  b.entries["pinned"].pinned->scale[0] = 0.2F;
  EXPECT_THROW(merged(), Error);
  EXPECT_THROW(merge_ranges({}), Error);
}

}  // namespace
}  // namespace nibble
