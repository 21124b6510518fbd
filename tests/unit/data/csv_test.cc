#include "data/csv.h"

#include <gtest/gtest.h>

#include "unit/data/test_files.h"

namespace nibble {
namespace {

using Fields = std::vector<std::vector<std::string>>;

Fields fields(std::string_view text) {
  Fields result;
  for (const CsvRow& row : parse_csv(text, "t.csv")) result.push_back(row.fields);
  return result;
}

TEST(Csv, ReadsWhatSpreadsheetsWrite) {
  const Fields expected{{"file", "label"}, {"a b.png", "1"}};
  EXPECT_EQ(fields("file,label\na b.png,1\n"), expected);
  EXPECT_EQ(fields("file,label\na b.png,1"), expected);
  EXPECT_EQ(fields("file,label\r\na b.png,1\r\n"), expected);
  EXPECT_EQ(fields("file,label\r\na b.png,1\r"), expected);
  EXPECT_EQ(fields("\xEF\xBB\xBF"
                   "file,label\n\na b.png,1\n  \n\r\n"),
            expected);
  EXPECT_EQ(fields("\"file\",\"label\"\n\"a b.png\",\"1\"\n"), expected);
  EXPECT_TRUE(fields("").empty());
}

TEST(Csv, QuotedFieldsHoldAnything) {
  EXPECT_EQ(fields("a,b\n\"x, \"\"y\"\"\",\"two\nlines\"\n,\n"), (Fields{{"a", "b"}, {"x, \"y\"", "two\nlines"}, {"", ""}}));
  EXPECT_EQ(fields("a\n\"\"\n\"x\"").size(), 2U) << "an empty single field is an empty line";
}

TEST(Csv, RowsKnowTheirLine) {
  const auto rows = parse_csv("a,b\n\n\"two\nlines\",1\nx,y\n", "t.csv");
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[1].line, 3);
  EXPECT_EQ(rows[2].line, 5);
}

TEST(Csv, ErrorsNameFileAndRow) {
  struct Case {
    std::string text;
    const char* part;
  };
  const Case cases[] = {{"a,b\n1\n", "t.csv:2: the row has 1 fields, the header has 2"},
                        {"a,b\n1,2\n1,2,3\n", "t.csv:3: the row has 3 fields"},
                        {"a,b\n\"x,1\n", "t.csv:2: a quoted field is not closed"},
                        {"a,b\n\"x\"y,1\n", "t.csv:2: text follows a closing quote"},
                        {std::string("a,b\n\0,1\n", 8), "zero byte at 4"},
                        {"\xFF\xFE"
                         "a",
                         "UTF-16"}};
  for (const Case& c : cases) {
    const std::string message = testing::error_of(ErrorCode::kInvalidData, [&] { parse_csv(c.text, "t.csv"); });
    EXPECT_NE(message.find(c.part), std::string::npos) << message;
  }
}

TEST(Csv, LabelsAreIntegersFromZero) {
  EXPECT_EQ(parse_label("0", "t"), 0);
  EXPECT_EQ(parse_label(" 729\t", "t"), 729);
  for (const char* text : {"", " ", "cat", "1.0", "1x", "+1", "0x1", "99999999999999999999", "-1"})
    testing::error_of(ErrorCode::kInvalidData, [&] { parse_label(text, "t.csv:2"); });
}

}  // namespace
}  // namespace nibble
