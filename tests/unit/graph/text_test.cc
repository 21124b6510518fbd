#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "graph_test_util.h"
#include "nibble/graph.h"

namespace nibble {
namespace {

using test::message;
using testing::HasSubstr;

// Draws graphs with every kind of attribute, constant, type and name.
class RandomGraph {
 public:
  explicit RandomGraph(std::uint32_t seed) : random_(seed) {}

  Graph draw() {
    Graph graph;
    GraphEditor editor(graph);
    editor.set_name(text());
    editor.set_opset("", below(25));
    if (coin()) editor.set_opset(text() + "d", below(1000));
    std::vector<ValueId> values;
    for (int i = below(4); i >= 0; --i) values.push_back(editor.add_input(value_name(), type()));
    for (int i = below(6); i > 0; --i) values.push_back(editor.add_constant(value_name(), tensor()));
    for (int n = below(12); n > 0; --n) {
      Node node;
      node.name = coin() ? text() : "";
      node.op_type = coin() ? "Conv" : text();
      node.domain = coin() ? "" : text();
      for (int i = below(4); i > 0; --i) node.inputs.push_back(values[static_cast<std::size_t>(below(static_cast<int>(values.size())))]);
      if (node.inputs.size() > 1 && coin()) node.inputs[0] = kNoValue;
      std::vector<ValueId> made;
      for (int i = below(3); i >= 0; --i) made.push_back(below(5) == 0 && i > 0 ? kNoValue : editor.add_value(value_name()));
      node.outputs = made;
      for (int i = below(5); i > 0; --i) node.attributes.insert_or_assign(text(), attribute());
      editor.add_node(std::move(node));
      for (const ValueId id : made) {
        if (id != kNoValue) values.push_back(id);
      }
    }
    std::vector<ValueId> outputs;
    for (int i = below(3); i >= 0; --i) outputs.push_back(values[static_cast<std::size_t>(below(static_cast<int>(values.size())))]);
    editor.set_outputs(outputs);
    editor.finish(GraphEditor::Prune::kNo);
    return graph;
  }

 private:
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  bool coin() { return below(2) == 0; }

  std::string text() {
    static const std::vector<std::string> kHard = {"",       "_",      "input", "output", "const", "graph", "opset", "name", "a b", "a\"b", "a\\b",
                                                   "a\nb",   "\\n",    "a:b",   ":",      "x,y",   "(",     "]",     "=",    "#",   "tensor ",
                                                   "1.5e3",  "?",      "naïve", "\t",     "\r",    "aten::add", std::string("a\0b", 3), " a ", "floats[]"};
    if (coin()) return kHard[static_cast<std::size_t>(below(static_cast<int>(kHard.size())))];
    std::string out;
    for (int i = below(6); i >= 0; --i) out += static_cast<char>(1 + below(255));
    return out;
  }
  std::string value_name() { return text(); }  // the editor makes it unique and never empty

  TensorType type() {
    TensorType result;
    result.dtype = static_cast<DataType>(below(16));
    result.has_rank = coin();
    if (!result.has_rank) return result;
    for (int i = below(4); i > 0; --i) {
      Dim dim;
      if (coin()) dim.size = below(1000);
      else if (coin()) dim.symbol = text();
      result.dims.push_back(dim);
    }
    return result;
  }

  float number() {
    switch (below(8)) {
      case 0: return 0.0F;
      case 1: return -0.0F;
      case 2: return std::numeric_limits<float>::infinity();
      case 3: return -std::numeric_limits<float>::infinity();
      case 4: return std::numeric_limits<float>::quiet_NaN();
      case 5: return static_cast<float>(below(100) - 50);
      default: {
        const auto v = std::bit_cast<float>(static_cast<std::uint32_t>(random_()));
        return std::isnan(v) ? 1e-42F : v;
      }
    }
  }
  std::int64_t integer() {
    if (coin()) return below(100) - 50;
    const std::uint64_t high = random_();
    return std::bit_cast<std::int64_t>(high << 32 | random_());
  }

  Tensor tensor() {
    const auto dtype = static_cast<DataType>(1 + below(15));
    Shape shape;
    for (int i = below(4); i > 0; --i) shape.push_back(below(5));
    if (element_count(shape) > 64) shape = {64};
    const bool splat = below(4) == 0;
    if (splat) shape = {100 + below(100)};
    const std::int64_t count = element_count(shape);
    if (dtype == DataType::kInt64 || dtype == DataType::kUInt64) {
      Tensor result(dtype, shape);
      std::int64_t v = integer();
      for (std::int64_t i = 0; i < count; ++i) {
        if (!splat) v = integer();
        reinterpret_cast<std::int64_t*>(result.mutable_bytes())[i] = v;
      }
      return result;
    }
    Tensor result(DataType::kFloat32, shape);
    float v = number();
    for (float& out : result.mutable_data<float>()) {
      if (!splat) v = number();
      out = v;
    }
    return cast(result, dtype);
  }

  Attribute attribute() {
    const auto n = static_cast<std::size_t>(below(4));
    switch (below(7)) {
      case 0: return integer();
      case 1: return number();
      case 2: return text();
      case 3: {
        std::vector<std::int64_t> list(n);
        for (auto& v : list) v = integer();
        return list;
      }
      case 4: {
        std::vector<float> list(n);
        for (auto& v : list) v = number();
        return list;
      }
      case 5: {
        std::vector<std::string> list(n);
        for (auto& v : list) v = text();
        return list;
      }
      default: return tensor();
    }
  }

  std::mt19937 random_;
};

bool same_floats(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && bit_equal(Tensor::from<float>({static_cast<std::int64_t>(a.size())}, a), Tensor::from<float>({static_cast<std::int64_t>(b.size())}, b));
}

bool same(const Attribute& a, const Attribute& b) {
  if (a.index() != b.index()) return false;
  if (const auto* t = std::get_if<Tensor>(&a)) return bit_equal(*t, std::get<Tensor>(b));
  if (const auto* f = std::get_if<float>(&a)) return same_floats({*f}, {std::get<float>(b)});
  if (const auto* f = std::get_if<std::vector<float>>(&a)) return same_floats(*f, std::get<std::vector<float>>(b));
  if (const auto* v = std::get_if<std::int64_t>(&a)) return *v == std::get<std::int64_t>(b);
  if (const auto* v = std::get_if<std::string>(&a)) return *v == std::get<std::string>(b);
  if (const auto* v = std::get_if<std::vector<std::int64_t>>(&a)) return *v == std::get<std::vector<std::int64_t>>(b);
  return std::get<std::vector<std::string>>(a) == std::get<std::vector<std::string>>(b);
}

std::vector<std::string> names_of(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<std::string> names;
  for (const ValueId id : ids) names.push_back(id == kNoValue ? "<none>" : "=" + graph.value(id).name);
  return names;
}

void expect_same(const Graph& a, const Graph& b) {
  EXPECT_EQ(a.name(), b.name());
  EXPECT_EQ(a.opsets(), b.opsets());
  EXPECT_EQ(names_of(a, a.inputs()), names_of(b, b.inputs()));
  EXPECT_EQ(names_of(a, a.outputs()), names_of(b, b.outputs()));
  ASSERT_EQ(a.values().size(), b.values().size());
  for (const Value& value : a.values()) {
    const auto other = b.find_value(value.name);
    ASSERT_TRUE(other) << value.name;
    ASSERT_EQ(value.constant.has_value(), b.is_constant(*other)) << value.name;
    if (value.constant) {
      EXPECT_TRUE(bit_equal(*value.constant, *b.value(*other).constant)) << value.name;
    }
    if (value.producer == kNoNode) {
      EXPECT_EQ(value.type, b.value(*other).type) << value.name;
    }
  }
  ASSERT_EQ(a.nodes().size(), b.nodes().size());
  for (std::size_t n = 0; n < a.nodes().size(); ++n) {
    const Node &x = a.nodes()[n], &y = b.nodes()[n];
    EXPECT_EQ(x.name, y.name);
    EXPECT_EQ(x.op_type, y.op_type);
    EXPECT_EQ(x.domain, y.domain);
    EXPECT_EQ(names_of(a, x.inputs), names_of(b, y.inputs));
    EXPECT_EQ(names_of(a, x.outputs), names_of(b, y.outputs));
    ASSERT_EQ(x.attributes.size(), y.attributes.size());
    for (const auto& [key, attribute] : x.attributes) {
      const auto it = y.attributes.find(key);
      ASSERT_NE(it, y.attributes.end()) << key;
      EXPECT_TRUE(same(attribute, it->second)) << key;
    }
  }
}

TEST(GraphText, RandomGraphsComeBack) {
  for (std::uint32_t seed = 1; seed <= 1500; ++seed) {
    const Graph graph = RandomGraph(seed).draw();
    const std::string text = print_graph(graph);
    SCOPED_TRACE("seed " + std::to_string(seed) + "\n" + text);
    Graph back;
    ASSERT_NO_THROW(back = parse_graph_text(text));
    expect_same(graph, back);
    EXPECT_EQ(print_graph(back), text);
    if (HasFailure()) return;
  }
}

// A damaged text is an Error with a line or a graph; it is never anything else.
TEST(GraphText, DamagedTextsNeverCrash) {
  for (std::uint32_t seed = 1; seed <= 1500; ++seed) {
    std::string text = print_graph(RandomGraph(seed).draw());
    std::mt19937 random(seed);
    static const std::string kMarks = "\"[](){}=,:_#?\n \\0919-.enx";
    for (unsigned i = 0; i <= random() % 4; ++i) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0: text.erase(at, 1 + random() % 8); break;
        case 1: text.insert(at, 1, kMarks[random() % kMarks.size()]); break;
        case 2: text[at] = static_cast<char>(random()); break;
        default: text.insert(at, text.substr(random() % text.size(), random() % 40)); break;
      }
      if (text.empty()) text = "x";
    }
    SCOPED_TRACE("seed " + std::to_string(seed) + "\n" + text);
    try {
      const Graph graph = parse_graph_text(text);
      verify(graph);
      EXPECT_NO_THROW(parse_graph_text(print_graph(graph)));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInvalidModel) << e.what();
    } catch (const std::exception& e) {
      FAIL() << e.what();
    }
    if (HasFailure()) return;
  }
}

TEST(GraphText, ErrorsNameTheLine) {
  const auto error = [](const std::string& line) {
    return message([&] { parse_graph_text("# a remark\n\ninput x float32[2]\n" + line + "\n", "net.txt"); });
  };
  const std::string at = "net.txt: line 4: ";
  EXPECT_EQ(error("input x float32"), at + "'x' is already in use above");
  EXPECT_EQ(error("const x float32[1] = {1}"), at + "'x' is already in use above");
  EXPECT_EQ(error("input z flaot32"), at + "'flaot32' is not an element type");
  EXPECT_EQ(error("input z float32[2"), at + "',' expected at column 18");
  EXPECT_EQ(error("const k float32[2] = {1}"), at + "',' expected at column 24");
  EXPECT_EQ(error("const k float32[1] = {1, 2}"), at + "'}' expected at column 24");
  EXPECT_EQ(error("const k float32[1] = {one}"), at + "'one' is not a number");
  EXPECT_EQ(error("const k int64[1] = {9223372036854775808}"), at + "'9223372036854775808' is not an integer, or out of range");
  EXPECT_EQ(error("const k float32[-1] = {}"), at + "shape [-1] has a negative axis");
  EXPECT_THAT(error("const k float32[4000000000,4000000000] splat 0"), HasSubstr(at + "shape [4000000000,4000000000] has more elements"));
  EXPECT_EQ(error("const k float32[1000000000000] splat 0"), at + "a constant of shape [1000000000000] is too large for a text");
  EXPECT_EQ(error("const k float32[100] hash 0123"), at + "only small and splat constants can be read back");
  EXPECT_EQ(error("y = Relu(x"), at + "',' expected at column 11");
  EXPECT_EQ(error("y = Relu(x) [k=[1, \"a\"]]"), at + "a list holds strings or numbers, not both");
  EXPECT_EQ(error("y = Relu(x) [k=]"), at + "a number expected at column 16");
  EXPECT_EQ(error("y = Relu(x) nam \"n\""), at + "'name' expected");
  EXPECT_EQ(error("y = Relu(x) name \"n\" more"), at + "unexpected text at column 22");
  EXPECT_EQ(error("y = Relu(x) name \"n"), at + "'\"' expected at column 20");
  EXPECT_EQ(error("\"\" = Relu(x)"), at + "a value's name is empty");
  EXPECT_EQ(error("opset ai.onnx 99999999999"), at + "99999999999 is not a version");
  EXPECT_THAT(error("relu x"), HasSubstr(at + "'relu' begins neither a node nor a declaration"));
  EXPECT_EQ(error("y = Relu(x) name n\ny = Neg(x) name m"), "net.txt: line 5: value 'y' is produced twice; the second time by node 'm' (Neg)");
  // A NUL is no end of the line.
  EXPECT_THAT(error(std::string("output x\0junk", 13)), HasSubstr(at + "unexpected text"));
}

TEST(GraphText, KeywordsAreNamesToo) {
  const Graph graph = parse_graph_text("input input float32\noutput, const = Split(input)\ngraph = Relu(output)\noutput graph\noutput output\n");
  EXPECT_THAT(test::output_names(graph), testing::ElementsAre("graph", "output"));
  EXPECT_EQ(graph.nodes()[0].outputs.size(), 2U);
}

TEST(GraphText, AMixedListIsFloats) {
  const Graph graph = parse_graph_text("y = Op() [k=[1, 2.5, -3], i=[1, 2]]\noutput y\n");
  EXPECT_EQ(graph.nodes()[0].get_floats("k"), (std::vector<float>{1, 2.5F, -3}));
  EXPECT_EQ(graph.nodes()[0].get_ints("i"), (std::vector<std::int64_t>{1, 2}));
}

TEST(GraphText, LargeConstantsPrintAsTheirHash) {
  Graph graph;
  GraphEditor editor(graph);
  std::vector<float> values(65);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const ValueId k = editor.add_constant("k", Tensor::from<float>({65}, values));
  editor.set_outputs(std::vector<ValueId>{k});
  editor.finish();
  const std::string text = print_graph(graph);
  EXPECT_THAT(text, testing::ContainsRegex("const k float32\\[65\\] hash [0-9a-f]{16}\n"));
  EXPECT_THAT(message([&] { parse_graph_text(text); }), HasSubstr("line 2: only small and splat"));
}

}  // namespace
}  // namespace nibble
