#include "data/csv.h"

#include <charconv>

#include "base/fail.h"
#include "data/files.h"

namespace nibble {
namespace {

class CsvParser {
 public:
  CsvParser(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {}

  std::vector<CsvRow> parse() {
    std::vector<CsvRow> rows;
    while (at_ < text_.size()) {
      CsvRow row = parse_row();
      if (row.fields.size() == 1 && row.fields[0].find_first_not_of(" \t") == std::string::npos) continue;
      if (!rows.empty() && row.fields.size() != rows.front().fields.size())
        fail(ErrorCode::kInvalidData, "{}:{}: the row has {} fields, the header has {}; quote fields that hold a comma", origin_, row.line,
             row.fields.size(), rows.front().fields.size());
      rows.push_back(std::move(row));
    }
    return rows;
  }

 private:
  CsvRow parse_row() {
    CsvRow row{line_, {}};
    for (;;) {
      row.fields.push_back(at_ < text_.size() && text_[at_] == '"' ? quoted_field(row.line) : plain_field());
      if (at_ < text_.size() && text_[at_] == ',') {
        ++at_;
        continue;
      }
      if (at_ < text_.size() && text_[at_] == '\r') ++at_;
      if (at_ < text_.size() && text_[at_] == '\n') {
        ++at_;
        ++line_;
      }
      return row;
    }
  }
  // A lone CR inside a row is part of the field.
  bool at_row_end() const { return text_[at_] == '\n' || (text_[at_] == '\r' && (at_ + 1 == text_.size() || text_[at_ + 1] == '\n')); }

  std::string plain_field() {
    const std::size_t start = at_;
    while (at_ < text_.size() && text_[at_] != ',' && !at_row_end()) ++at_;
    return std::string(text_.substr(start, at_ - start));
  }
  std::string quoted_field(std::int64_t row_line) {
    std::string field;
    ++at_;
    for (;;) {
      if (at_ >= text_.size()) fail(ErrorCode::kInvalidData, "{}:{}: a quoted field is not closed", origin_, row_line);
      const char c = text_[at_++];
      if (c == '\n') ++line_;
      if (c != '"') {
        field += c;
      } else if (at_ < text_.size() && text_[at_] == '"') {
        field += '"';
        ++at_;
      } else {
        break;
      }
    }
    if (at_ < text_.size() && text_[at_] != ',' && !at_row_end())
      fail(ErrorCode::kInvalidData, "{}:{}: text follows a closing quote; double the quotes inside a quoted field", origin_, row_line);
    return field;
  }

  std::string_view text_;
  const std::string& origin_;
  std::size_t at_ = 0;
  std::int64_t line_ = 1;
};

}  // namespace

std::string_view plain_text(std::string_view text, const std::string& origin) {
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF"))
    fail(ErrorCode::kInvalidData, "{}: is UTF-16; save it as UTF-8", origin);
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  if (const auto zero = text.find('\0'); zero != std::string_view::npos)
    fail(ErrorCode::kInvalidData, "{}: is not a text file (a zero byte at {})", origin, zero);
  return text;
}

std::vector<CsvRow> parse_csv(std::string_view text, const std::string& origin) {
  return CsvParser(plain_text(text, origin), origin).parse();
}

std::int64_t parse_label(std::string_view text, const std::string& where) {
  const auto first = text.find_first_not_of(" \t");
  const auto last = text.find_last_not_of(" \t");
  const std::string_view digits = first == std::string_view::npos ? std::string_view() : text.substr(first, last - first + 1);
  std::int64_t label = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), label);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.empty())
    fail(ErrorCode::kInvalidData, "{}: the label {} is not an integer", where, in_quotes(text));
  if (label < 0) fail(ErrorCode::kInvalidData, "{}: the label {} is negative; classes are counted from 0", where, label);
  return label;
}

}  // namespace nibble
