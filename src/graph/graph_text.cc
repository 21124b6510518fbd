// The text form of a graph:
//
//   graph NAME
//   opset ai.onnx 13
//   input x float32[batch,3,8,8]
//   const w float32[2] = {1, 2.5}
//   const k int64[4096] splat 0
//   const big float32[64,3,3,3] hash 0123456789abcdef
//   y = Conv(x, w, _) [strides=[1, 1], auto_pad="SAME_UPPER"] name "conv1"
//   output y
//
// `_` is an input or output that is left out. Names with other characters than letters, digits and _./:-  stand in double quotes.
#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "base/fail.h"
#include "nibble/graph.h"
#include "tensor/dispatch.h"

namespace nibble {
namespace {

constexpr std::int64_t kPrintedElements = 64;
constexpr std::int64_t kLargestConstant = std::int64_t{1} << 27;

bool plain_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::string_view("_./:-").find(c) != std::string_view::npos; }

std::string quote(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    out += c;
  }
  return out + '"';
}

std::string print_name(const std::string& name) {
  if (name.empty() || name == "_") return quote(name);
  for (const char c : name) {
    if (!plain_char(c)) return quote(name);
  }
  return name;
}

// A domain or an operator: a colon stands between the two, so one inside either needs quotes.
std::string print_part(const std::string& name) { return name.find(':') == std::string::npos ? print_name(name) : quote(name); }

// As to_string(type), with the symbols in quotes that would read as something else.
std::string print_type(const TensorType& type) {
  TensorType quoted = type;
  for (Dim& dim : quoted.dims) {
    if (!dim.symbol.empty() && std::isdigit(static_cast<unsigned char>(dim.symbol[0])) != 0) dim.symbol = quote(dim.symbol);
    else if (!dim.symbol.empty()) dim.symbol = print_name(dim.symbol);
  }
  return to_string(quoted);
}

std::string print_number(double value) { return fmt::format("{}", value); }
std::string print_number(float value) { return fmt::format("{}", value); }

std::uint64_t fnv1a(const std::byte* data, std::size_t size) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (std::size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<std::uint64_t>(data[i])) * 0x100000001b3U;
  return hash;
}

std::string print_element(const Tensor& tensor, std::int64_t i) {
  if (tensor.type() == DataType::kFloat16 || tensor.type() == DataType::kBFloat16)
    return print_number(cast(tensor, DataType::kFloat32).data<float>()[static_cast<std::size_t>(i)]);
  return dispatch(tensor.type(), [&]<typename T>() -> std::string {
    const T value = tensor.data<T>()[static_cast<std::size_t>(i)];
    if constexpr (std::is_floating_point_v<T>) return print_number(value);
    else if constexpr (std::is_same_v<T, std::uint64_t>) return std::to_string(value);
    else return std::to_string(static_cast<std::int64_t>(value));
  });
}

std::string print_type(DataType type, const Shape& shape) { return std::string(to_string(type)) + to_string(shape); }

std::string print_tensor(const Tensor& tensor) {
  std::string out = print_type(tensor.type(), tensor.shape());
  const std::size_t element = element_size(tensor.type());
  bool splat = tensor.size() > 1;
  for (std::int64_t i = 1; i < tensor.size() && splat; ++i)
    splat = std::memcmp(tensor.bytes(), tensor.bytes() + static_cast<std::size_t>(i) * element, element) == 0;
  if (splat) return out + " splat " + print_element(tensor, 0);
  if (tensor.size() > kPrintedElements) return out + fmt::format(" hash {:016x}", fnv1a(tensor.bytes(), tensor.size_bytes()));
  out += " = {";
  for (std::int64_t i = 0; i < tensor.size(); ++i) out += (i > 0 ? ", " : "") + print_element(tensor, i);
  return out + "}";
}

template <typename List, typename Print>
std::string print_list(const List& list, Print print) {
  std::string out = "[";
  for (std::size_t i = 0; i < list.size(); ++i) out += (i > 0 ? ", " : "") + print(list[i]);
  return out + "]";
}

std::string print_attribute(const Attribute& attribute) {
  // A float always shows a point or an exponent, which is what tells it from an integer.
  const auto print_float = [](float v) {
    std::string s = print_number(v);
    return s.find_first_of(".en") == std::string::npos ? s + ".0" : s;
  };
  struct Visitor {
    decltype(print_float) f;
    std::string operator()(std::int64_t v) const { return std::to_string(v); }
    std::string operator()(float v) const { return f(v); }
    std::string operator()(const std::string& v) const { return quote(v); }
    std::string operator()(const std::vector<std::int64_t>& v) const {
      return print_list(v, [](std::int64_t x) { return std::to_string(x); });
    }
    std::string operator()(const std::vector<float>& v) const { return v.empty() ? "floats[]" : print_list(v, f); }
    std::string operator()(const std::vector<std::string>& v) const { return v.empty() ? "strings[]" : print_list(v, quote); }
    std::string operator()(const Tensor& v) const { return "tensor " + print_tensor(v); }
  };
  return std::visit(Visitor{print_float}, attribute);
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {}

  Graph parse() {
    Graph graph;
    GraphEditor editor(graph);
    std::vector<ValueId> outputs;
    while (next_line()) {
      try {
        line(editor, outputs);
      } catch (const Error& e) {
        // Errors of the rooms below (a shape, a value produced twice) know no line.
        if (std::string_view(e.what()).starts_with(where())) throw;
        error(e.what());
      }
    }
    editor.set_outputs(outputs);
    editor.finish(GraphEditor::Prune::kNo);
    return graph;
  }

 private:
  std::string where() const { return fmt::format("{}: line {}: ", origin_, line_number_); }
  [[noreturn]] void error(const std::string& what) const { fail(ErrorCode::kInvalidModel, "{}{}", where(), what); }

  void line(GraphEditor& editor, std::vector<ValueId>& outputs) {
    const std::size_t start = pos_;
    const std::string word = name();
    // A value may be called "input" or "output": what follows tells a node from a keyword.
    if (peek() == '=' || peek() == ',') {
      pos_ = start;
      node(editor);
    } else if (word == "graph") {
      editor.set_name(name());
    } else if (word == "opset") {
      const std::string domain = name();
      const std::int64_t version = integer();
      if (version < 0 || version > std::numeric_limits<int>::max()) error(fmt::format("{} is not a version", version));
      editor.set_opset(domain, static_cast<int>(version));
    } else if (word == "input") {
      const std::string id = new_name(editor);
      editor.add_input(id, type());
    } else if (word == "const") {
      const std::string id = new_name(editor);
      editor.add_constant(id, tensor());
    } else if (word == "output") {
      outputs.push_back(value(editor));
    } else {
      error(fmt::format("'{}' begins neither a node nor a declaration (graph, opset, input, const, output)", word));
    }
    end_of_line();
  }

  bool next_line() {
    while (at_ < text_.size()) {
      const std::size_t end = std::min(text_.find('\n', at_), text_.size());
      line_ = text_.substr(at_, end - at_);
      at_ = end + 1;
      pos_ = 0;
      ++line_number_;
      skip();
      if (pos_ < line_.size() && line_[pos_] != '#') return true;
    }
    return false;
  }
  void skip() {
    while (pos_ < line_.size() && line_[pos_] == ' ') ++pos_;
  }
  char peek() {
    skip();
    return pos_ < line_.size() ? line_[pos_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c) return false;
    ++pos_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) error(fmt::format("'{}' expected at column {}", c, pos_ + 1));
  }
  void end_of_line() {
    skip();
    if (pos_ < line_.size()) error(fmt::format("unexpected text at column {}", pos_ + 1));
  }
  std::string quoted() {
    expect('"');
    std::string out;
    while (pos_ < line_.size() && line_[pos_] != '"') {
      if (line_[pos_] == '\\' && pos_ + 1 < line_.size()) {
        ++pos_;
        out += line_[pos_] == 'n' ? '\n' : line_[pos_];
      } else {
        out += line_[pos_];
      }
      ++pos_;
    }
    expect('"');
    return out;
  }
  std::string name() {
    if (peek() == '"') return quoted();
    std::string out;
    while (pos_ < line_.size() && plain_char(line_[pos_])) out += line_[pos_++];
    if (out.empty()) error(fmt::format("a name expected at column {}", pos_ + 1));
    return out;
  }
  std::string number_text() {
    skip();
    std::string out;
    while (pos_ < line_.size() && (std::isalnum(static_cast<unsigned char>(line_[pos_])) != 0 || std::string_view("+-.").find(line_[pos_]) != std::string_view::npos))
      out += line_[pos_++];
    if (out.empty()) error(fmt::format("a number expected at column {}", pos_ + 1));
    return out;
  }
  template <typename T = std::int64_t>
  T integer() {
    const std::string text = number_text();
    T value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status != std::errc() || end != text.data() + text.size()) error("'" + text + "' is not an integer, or out of range");
    return value;
  }
  double real() {
    const std::string text = number_text();
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (end != text.c_str() + text.size()) error("'" + text + "' is not a number");
    return value;
  }
  DataType data_type() {
    const std::string text = name();
    for (int t = 1; t <= static_cast<int>(DataType::kUInt4); ++t) {
      if (to_string(static_cast<DataType>(t)) == text) return static_cast<DataType>(t);
    }
    error("'" + text + "' is not an element type");
  }
  TensorType type() {
    TensorType result;
    const std::string text = name();
    for (int t = 0; t <= static_cast<int>(DataType::kUInt4); ++t) {
      if (to_string(static_cast<DataType>(t)) == text) result.dtype = static_cast<DataType>(t);
    }
    if (result.dtype == DataType::kUndefined && text != to_string(DataType::kUndefined)) error("'" + text + "' is not an element type");
    if (!accept('[')) return result;
    result.has_rank = true;
    while (!accept(']')) {
      if (accept('?')) {
        result.dims.push_back({});
      } else if (std::isdigit(static_cast<unsigned char>(peek())) != 0) {
        result.dims.push_back({.size = integer(), .symbol = {}});
      } else {
        result.dims.push_back({.size = -1, .symbol = name()});
      }
      if (peek() != ']') expect(',');
    }
    return result;
  }
  Tensor element(DataType dtype) {
    // 64-bit integers do not fit a double.
    if (dtype == DataType::kInt64) return Tensor::scalar(integer<std::int64_t>());
    if (dtype == DataType::kUInt64) return Tensor::scalar(integer<std::uint64_t>());
    return cast(Tensor::scalar<double>(real()), dtype);
  }
  Tensor tensor() {
    const DataType dtype = data_type();
    Shape shape;
    expect('[');
    while (!accept(']')) {
      shape.push_back(integer());
      if (peek() != ']') expect(',');
    }
    // A few characters must not fill the memory.
    if (element_count(shape) > kLargestConstant) error(fmt::format("a constant of shape {} is too large for a text", to_string(shape)));
    Tensor result(dtype, shape);
    const std::size_t bytes = element_size(dtype);
    std::byte* out = result.mutable_bytes();
    if (accept('=')) {
      expect('{');
      for (std::int64_t i = 0; i < result.size(); ++i, out += bytes) {
        if (i > 0) expect(',');
        std::memcpy(out, element(dtype).bytes(), bytes);
      }
      expect('}');
      return result;
    }
    const std::string word = name();
    if (word != "splat") error("only small and splat constants can be read back");
    const Tensor value = element(dtype);
    for (std::int64_t i = 0; i < result.size(); ++i, out += bytes) std::memcpy(out, value.bytes(), bytes);
    return result;
  }
  Attribute attribute() {
    if (peek() == '"') return quoted();
    if (peek() == '[') return list();
    skip();
    if (line_.substr(pos_).starts_with("tensor ")) {
      pos_ += 7;
      return tensor();
    }
    if (line_.substr(pos_).starts_with("floats[]")) {
      pos_ += 8;
      return std::vector<float>{};
    }
    if (line_.substr(pos_).starts_with("strings[]")) {
      pos_ += 9;
      return std::vector<std::string>{};
    }
    return scalar();
  }
  Attribute scalar() {
    const std::size_t start = pos_;
    const std::string text = number_text();
    pos_ = start;
    if (text.find_first_of(".en") == std::string::npos) return integer();
    return static_cast<float>(real());
  }
  Attribute list() {
    expect('[');
    std::vector<std::int64_t> ints;
    std::vector<float> floats;
    std::vector<std::string> strings;
    while (!accept(']')) {
      if (peek() == '"') {
        strings.push_back(quoted());
      } else {
        // One float makes them all floats.
        const Attribute element = scalar();
        const auto* i = std::get_if<std::int64_t>(&element);
        if (i != nullptr) ints.push_back(*i);
        floats.push_back(i != nullptr ? static_cast<float>(*i) : std::get<float>(element));
      }
      if (!strings.empty() && !floats.empty()) error("a list holds strings or numbers, not both");
      if (peek() != ']') expect(',');
    }
    if (!strings.empty()) return strings;
    if (floats.size() > ints.size()) return floats;
    return ints;
  }
  std::string value_name() {
    std::string id = name();
    if (id.empty()) error("a value's name is empty");
    return id;
  }
  std::string new_name(const GraphEditor& editor) {
    std::string id = value_name();
    if (editor.graph().find_value(id)) error("'" + id + "' is already in use above");
    return id;
  }
  ValueId value(GraphEditor& editor) {
    const bool is_quoted = peek() == '"';  // "_" in quotes is a name
    const std::string id = value_name();
    if (id == "_" && !is_quoted) return kNoValue;
    const auto found = editor.graph().find_value(id);
    return found ? *found : editor.add_value(id);
  }
  void node(GraphEditor& editor) {
    Node result;
    do {
      result.outputs.push_back(value(editor));
    } while (accept(','));
    expect('=');
    if (peek() == '"') {
      result.op_type = quoted();
      if (accept(':')) result.domain = std::exchange(result.op_type, name());
    } else {
      result.op_type = name();
      if (const std::size_t colon = result.op_type.find(':'); colon != std::string::npos) {
        result.domain = result.op_type.substr(0, colon);
        result.op_type = colon + 1 < result.op_type.size() ? result.op_type.substr(colon + 1) : name();
      }
    }
    expect('(');
    while (!accept(')')) {
      result.inputs.push_back(value(editor));
      if (peek() != ')') expect(',');
    }
    if (accept('[')) {
      while (!accept(']')) {
        const std::string key = name();
        expect('=');
        result.attributes.insert_or_assign(key, attribute());
        if (peek() != ']') expect(',');
      }
    }
    if (peek() != '\0') {
      if (name() != "name") error("'name' expected");
      result.name = name();
    }
    editor.add_node(std::move(result));
  }

  std::string_view text_;
  std::string origin_;
  std::size_t at_ = 0;
  std::string_view line_;
  std::size_t pos_ = 0;
  int line_number_ = 0;
};

}  // namespace

std::string print_graph(const Graph& graph) {
  std::string out = "graph " + print_name(graph.name()) + "\n";
  for (const auto& [domain, version] : graph.opsets())
    out += fmt::format("opset {} {}\n", domain.empty() ? "ai.onnx" : print_name(domain), version);
  const auto name = [&](ValueId id) { return id == kNoValue ? std::string("_") : print_name(graph.value(id).name); };
  for (const ValueId id : graph.inputs()) out += "input " + name(id) + " " + print_type(graph.value(id).type) + "\n";
  for (std::size_t v = 0; v < graph.values().size(); ++v) {
    const Value& value = graph.values()[v];
    if (value.constant) out += "const " + name(static_cast<ValueId>(v)) + " " + print_tensor(*value.constant) + "\n";
  }
  for (const Node& node : graph.nodes()) {
    for (std::size_t i = 0; i < node.outputs.size(); ++i) out += (i > 0 ? ", " : "") + name(node.outputs[i]);
    out += " = " + (node.domain.empty() ? "" : print_part(node.domain) + ":") + print_part(node.op_type) + "(";
    for (std::size_t i = 0; i < node.inputs.size(); ++i) out += (i > 0 ? ", " : "") + name(node.inputs[i]);
    out += ")";
    if (!node.attributes.empty()) {
      out += " [";
      bool first = true;
      for (const auto& [key, attribute] : node.attributes) {
        out += (first ? "" : ", ") + print_name(key) + "=" + print_attribute(attribute);
        first = false;
      }
      out += "]";
    }
    out += " name " + print_name(node.name) + "\n";
  }
  for (const ValueId id : graph.outputs()) out += "output " + name(id) + "\n";
  return out;
}

Graph parse_graph_text(std::string_view text, const std::string& origin) { return Parser(text, origin).parse(); }

}  // namespace nibble
