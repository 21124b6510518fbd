// The format: "\x93NUMPY", major, minor, header length (2 bytes in format 1, 4 after it), a Python dictionary literal with the keys descr,
// fortran_order and shape, then the elements.
#include "data/npy.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/checked.h"
#include "base/fail.h"
#include "data/bytes.h"
#include "data/files.h"
#include "data/zip.h"
#include "nibble/dataset.h"

namespace nibble {
namespace {

static_assert(std::endian::native == std::endian::little, "elements are copied as they lie in little endian files");

struct Header {
  std::string descr;
  bool fortran_order = false;
  Shape shape;
};

// A reader of the one dictionary that a header is; anything else is an error.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {}

  Header parse() {
    Header header;
    std::set<std::string> seen;
    expect('{');
    while (!take('}')) {
      const std::string key = parse_string();
      if (!seen.insert(key).second) bad(fmt::format("the key {} stands twice", in_quotes(key)));
      expect(':');
      if (key == "descr") {
        skip_space();
        if (at_ < text_.size() && text_[at_] == '[')
          fail(ErrorCode::kUnsupported, "{}: holds records with named fields; save each field as an array of its own", origin_);
        header.descr = parse_string();
      } else if (key == "fortran_order") {
        header.fortran_order = parse_bool();
      } else if (key == "shape") {
        header.shape = parse_shape();
      } else {
        bad(fmt::format("unknown key {}", in_quotes(key)));
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) bad("something follows the closing brace");
    for (const char* key : {"descr", "fortran_order", "shape"}) {
      if (!seen.contains(key)) bad(fmt::format("the key '{}' is missing", key));
    }
    return header;
  }

 private:
  [[noreturn]] void bad(const std::string& reason) const {
    fail(ErrorCode::kInvalidData, "{}: the .npy header is damaged: {} (at byte {} of the header)", origin_, reason, at_);
  }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
  }
  bool take(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) bad(fmt::format("'{}' expected", c));
  }
  std::string parse_string() {
    skip_space();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) bad("a quoted word expected");
    const char quote = text_[at_++];
    const auto end = text_.find(quote, at_);
    if (end == std::string_view::npos) bad("a quote is not closed");
    std::string word(text_.substr(at_, end - at_));
    at_ = end + 1;
    return word;
  }
  bool parse_bool() {
    skip_space();
    for (const auto& [word, value] : {std::pair{std::string_view("True"), true}, std::pair{std::string_view("False"), false}}) {
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return value;
      }
    }
    bad("True or False expected");
  }
  Shape parse_shape() {
    constexpr std::size_t kMostAxes = 32;  // NumPy's own limit
    Shape shape;
    expect('(');
    while (!take(')')) {
      skip_space();
      if (at_ >= text_.size() || text_[at_] < '0' || text_[at_] > '9') bad("a size (digits) expected in the shape");
      std::int64_t size = 0;
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
        const auto shifted = checked_mul(size, 10);
        const auto next = shifted ? checked_add(*shifted, text_[at_] - '0') : std::nullopt;
        if (!next) bad("a size of the shape does not fit into 64 bits");
        size = *next;
        ++at_;
      }
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // files of Python 2
      shape.push_back(size);
      if (shape.size() > kMostAxes) bad(fmt::format("more than {} axes", kMostAxes));
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  const std::string& origin_;
};

struct ElementType {
  DataType type = DataType::kUndefined;
  bool big_endian = false;
};

ElementType parse_descr(const std::string& descr, const std::string& origin) {
  static constexpr std::pair<std::string_view, DataType> kTypes[] = {
      {"f4", DataType::kFloat32}, {"f8", DataType::kFloat64}, {"f2", DataType::kFloat16}, {"i1", DataType::kInt8},
      {"u1", DataType::kUInt8},   {"i2", DataType::kInt16},   {"u2", DataType::kUInt16},  {"i4", DataType::kInt32},
      {"u4", DataType::kUInt32},  {"i8", DataType::kInt64},   {"u8", DataType::kUInt64},  {"b1", DataType::kBool}};
  if (descr.size() == 3 && std::string_view("<>|=").find(descr[0]) != std::string_view::npos) {
    for (const auto& [name, type] : kTypes) {
      if (std::string_view(descr).substr(1) == name) return {type, descr[0] == '>'};
    }
  }
  fail(ErrorCode::kUnsupported, "{}: element type {} is not read; save it as float32, float16, float64, an integer type or bool", origin,
       in_quotes(descr));
}

void swap_bytes(std::byte* data, std::size_t count, std::size_t element) {
  for (std::size_t i = 0; i < count; ++i) std::reverse(data + i * element, data + (i + 1) * element);
}

// From column-major to row-major: walks the destination in order and steps through the source by its strides.
void transpose_fortran(const char* src, std::byte* dst, const Shape& shape, std::size_t element) {
  const std::size_t rank = shape.size();
  std::vector<std::size_t> stride(rank, element);
  for (std::size_t i = 1; i < rank; ++i) stride[i] = stride[i - 1] * static_cast<std::size_t>(shape[i - 1]);
  std::vector<std::int64_t> index(rank, 0);
  std::size_t from = 0;
  const std::int64_t count = element_count(shape);
  for (std::int64_t n = 0; n < count; ++n) {
    std::memcpy(dst, src + from, element);
    dst += element;
    for (std::size_t axis = rank; axis-- > 0;) {
      from += stride[axis];
      if (++index[axis] < shape[axis]) break;
      from -= stride[axis] * static_cast<std::size_t>(shape[axis]);
      index[axis] = 0;
    }
  }
}

// Like element_count, but the answer to an overflow names the file, and a zero axis does not hide one.
std::int64_t checked_bytes(const Shape& shape, std::size_t element, const std::string& origin) {
  std::optional<std::int64_t> bytes = static_cast<std::int64_t>(element);
  bool empty = false;
  for (const std::int64_t axis : shape) {
    if (axis == 0) empty = true;
    if (axis != 0 && bytes) bytes = checked_mul(*bytes, axis);
  }
  if (!bytes) fail(ErrorCode::kInvalidData, "{}: shape {} is larger than any memory: the file is damaged", origin, to_string(shape));
  return empty ? 0 : *bytes;
}

}  // namespace

Tensor parse_npy(std::string_view bytes, const std::string& origin) {
  constexpr std::string_view kMagic("\x93NUMPY", 6);
  if (bytes.substr(0, kMagic.size()) != kMagic)
    fail(ErrorCode::kInvalidData, "{}: is not an .npy file (it does not begin with \\x93NUMPY)", origin);
  if (bytes.size() < 10)
    fail(ErrorCode::kInvalidData, "{}: the file is truncated: {} bytes do not hold an .npy header", origin, bytes.size());
  const auto major = static_cast<unsigned char>(bytes[6]);
  if (major < 1 || major > 3)
    fail(ErrorCode::kUnsupported, "{}: .npy format {}.{} is unknown (1 to 3 are read)", origin, int{major}, int{bytes[7]});
  const std::size_t start = major == 1 ? 10 : 12;
  if (bytes.size() < start) fail(ErrorCode::kInvalidData, "{}: the file is truncated inside its header", origin);
  const std::size_t length = major == 1 ? load_le<std::uint16_t>(bytes, 8) : load_le<std::uint32_t>(bytes, 8);
  if (length > bytes.size() - start)
    fail(ErrorCode::kInvalidData, "{}: the file is truncated: its header has {} bytes, {} are there", origin, length, bytes.size() - start);
  const Header header = HeaderParser(bytes.substr(start, length), origin).parse();
  const auto [type, big_endian] = parse_descr(header.descr, origin);
  const std::string_view data = bytes.substr(start + length);
  const std::size_t element = element_size(type);
  const std::int64_t wanted = checked_bytes(header.shape, element, origin);
  if (static_cast<std::int64_t>(data.size()) != wanted) {
    const bool short_of = static_cast<std::int64_t>(data.size()) < wanted;
    fail(ErrorCode::kInvalidData, "{}: {}: {} elements of shape {} are {} bytes, {} are there", origin,
         short_of ? "the file is truncated" : "more data than its shape has room for", to_string(type), to_string(header.shape), wanted,
         data.size());
  }
  Tensor tensor(type, header.shape);
  std::byte* out = tensor.mutable_bytes();
  const auto count = static_cast<std::size_t>(tensor.size());
  // A Fortran array of one axis (or none) is a C array.
  if (header.fortran_order && header.shape.size() > 1 && count > 0)
    transpose_fortran(data.data(), out, header.shape, element);
  else if (count > 0)
    std::memcpy(out, data.data(), data.size());
  if (big_endian && element > 1) swap_bytes(out, count, element);
  if (type == DataType::kBool) {
    for (auto& value : tensor.mutable_data<std::uint8_t>()) value = value != 0 ? 1 : 0;
  }
  return tensor;
}

std::string npy_bytes(const Tensor& tensor) {
  if (tensor.type() == DataType::kBFloat16) return npy_bytes(cast(tensor, DataType::kFloat32));
  std::string_view descr;
  switch (tensor.type()) {
    case DataType::kFloat32: descr = "<f4"; break;
    case DataType::kFloat64: descr = "<f8"; break;
    case DataType::kFloat16: descr = "<f2"; break;
    case DataType::kInt4:
    case DataType::kInt8: descr = "|i1"; break;
    case DataType::kUInt4:
    case DataType::kUInt8: descr = "|u1"; break;
    case DataType::kInt16: descr = "<i2"; break;
    case DataType::kUInt16: descr = "<u2"; break;
    case DataType::kInt32: descr = "<i4"; break;
    case DataType::kUInt32: descr = "<u4"; break;
    case DataType::kInt64: descr = "<i8"; break;
    case DataType::kUInt64: descr = "<u8"; break;
    case DataType::kBool: descr = "|b1"; break;
    case DataType::kBFloat16:
    case DataType::kUndefined: fail(ErrorCode::kInvalidArgument, "a tensor without elements' type cannot be written as .npy");
  }
  std::string shape;
  for (const std::int64_t axis : tensor.shape()) shape += fmt::format("{}{}", shape.empty() ? "" : ", ", axis);
  if (tensor.rank() == 1) shape += ",";
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr, shape);
  // The elements begin at a multiple of 64 bytes, so that they can be mapped into memory; the header ends with a newline.
  constexpr std::size_t kPrefix = 10;
  constexpr std::size_t kAlignment = 64;
  header.append(kAlignment - 1 - (kPrefix + header.size()) % kAlignment, ' ');
  header += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size() & 0xFFU);
  bytes += static_cast<char>(header.size() >> 8);
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(tensor.bytes()), tensor.size_bytes());
  return bytes;
}

Tensor read_npy(const std::string& path) { return parse_npy(read_regular_file(path, "the .npy file"), path); }

void write_npy(const std::string& path, const Tensor& tensor) { write_file(path, npy_bytes(tensor)); }

std::vector<std::pair<std::string, Tensor>> read_npz(const std::string& path) {
  const std::string archive = read_regular_file(path, "the .npz file");
  std::vector<std::pair<std::string, Tensor>> arrays;
  std::set<std::string> names;
  for (const ZipEntry& entry : read_zip_directory(archive, path)) {
    if (!entry.name.empty() && entry.name.back() == '/') continue;  // a folder
    if (!is_npy_name(entry.name)) fail(ErrorCode::kInvalidData, "{}: entry {} is not an .npy array", path, in_quotes(entry.name));
    const std::string name = entry.name.substr(0, entry.name.size() - 4);
    if (!names.insert(name).second) fail(ErrorCode::kInvalidData, "{}: the array {} is there twice", path, in_quotes(name));
    arrays.emplace_back(name, parse_npy(read_zip_entry(archive, entry, path), fmt::format("{}: array {}", path, in_quotes(name))));
  }
  if (arrays.empty()) fail(ErrorCode::kInvalidData, "{}: holds no arrays", path);
  return arrays;
}

}  // namespace nibble
