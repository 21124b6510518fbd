// Tables of comma separated values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {

struct CsvRow {
  std::int64_t line = 0;  // where the row begins, from 1
  std::vector<std::string> fields;
};

// RFC 4180: fields may be quoted ("a, ""b"""), rows end with LF or CRLF; a UTF-8 byte order mark and empty lines are skipped. Every row
// must have as many fields as the first. Throws Error{kInvalidData} naming file:line.
std::vector<CsvRow> parse_csv(std::string_view text, const std::string& origin);

// An integer without anything around it but spaces; throws Error{kInvalidData} as "WHERE: the label 'cat' is not an integer".
std::int64_t parse_label(std::string_view text, const std::string& where);

// Text without a UTF-8 byte order mark; UTF-16 and zero bytes are errors.
std::string_view plain_text(std::string_view text, const std::string& origin);

}  // namespace nibble
