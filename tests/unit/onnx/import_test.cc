#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <functional>

#include "model_builder.h"

namespace nibble {
namespace {

using test::add_attribute;
using test::add_initializer;
using test::add_input;
using test::add_node;
using test::add_output;
using test::empty_model;
using test::expect_error;
using test::import_model;

TEST(Import, ReadsNodesAttributesTypesAndWeights) {
  const Graph graph = import_model(test::conv_model());
  ASSERT_EQ(graph.nodes().size(), 3U);
  EXPECT_EQ(graph.opset(""), 13);
  EXPECT_EQ(graph.ir_version(), 7);
  const Node& conv = graph.node(0);
  EXPECT_EQ(conv.op_type, "Conv");
  EXPECT_EQ(conv.get_ints("pads"), (std::vector<std::int64_t>{0, 0, 0, 0}));
  EXPECT_EQ(conv.get_string("auto_pad", ""), "NOTSET");
  EXPECT_EQ(conv.get_int("group", 7), 1);
  EXPECT_EQ(graph.node(1).name, "r") << "a node without a name is called after its output";
  ASSERT_EQ(graph.inputs().size(), 1U);
  EXPECT_EQ(to_string(graph.value(graph.inputs()[0]).type), "float32[N,2,6,6]");
  EXPECT_EQ(to_string(graph.value(graph.outputs()[0]).type), "float32[N,3,2,2]");
  const Tensor& weight = *graph.value(conv.input(1)).constant;
  EXPECT_EQ(weight.shape(), (Shape{3, 2, 3, 3}));
  EXPECT_FLOAT_EQ(weight.data<float>()[53], 0.33F);
  EXPECT_FLOAT_EQ(graph.value(conv.input(2)).constant->data<float>()[1], -0.25F);
}

TEST(Import, SortsNodesThatStandOutOfOrder) {
  auto model = empty_model();
  add_input(model, "x", {2});
  add_node(model, "Neg", {"b"}, {"y"}, "last");
  add_node(model, "Abs", {"a"}, {"b"}, "middle");
  add_node(model, "Exp", {"x"}, {"a"}, "first");
  add_output(model, "y");
  const Graph graph = import_model(model);
  EXPECT_EQ(graph.node(0).name, "first");
  EXPECT_EQ(graph.node(2).name, "last");
}

TEST(Import, TakesInitializersOutOfTheInputs) {
  auto model = empty_model(8, 3);
  add_input(model, "w", {2});
  add_input(model, "x", {2});
  add_initializer(model, "w", 1, {2}).set_raw_data(std::string(8, '\0'));
  add_node(model, "Add", {"x", "w"}, {"y"});
  add_output(model, "y");
  const Graph graph = import_model(model);
  ASSERT_EQ(graph.inputs().size(), 1U);
  EXPECT_EQ(graph.value(graph.inputs()[0]).name, "x");
}

TEST(Import, KeepsOptionalInputsAndUnknownDomainsAndRepeatedNames) {
  auto model = empty_model(11, 6);
  model.add_opset_import()->set_domain("com.example");
  model.mutable_opset_import(1)->set_version(3);
  add_input(model, "x", {2});
  add_initializer(model, "high", 1, {}).add_float_data(6.0F);
  add_node(model, "Clip", {"x", "", "high"}, {"c"}, "same");
  add_node(model, "Frobnicate", {"c"}, {"y"}, "same").set_domain("com.example");
  add_output(model, "y");
  const Graph graph = import_model(model);
  EXPECT_EQ(graph.node(0).inputs[1], kNoValue);
  EXPECT_EQ(graph.node(1).op_type, "Frobnicate");
  EXPECT_EQ(graph.opset("com.example"), 3);
  EXPECT_NE(graph.node(0).name, graph.node(1).name);
}

TEST(Import, KeepsRecurrentOpsUntilTheyAreRun) {
  auto model = empty_model();
  add_input(model, "x", {1, 1, 2});
  add_initializer(model, "w", 1, {0});
  add_node(model, "LSTM", {"x", "w", "w"}, {"y"});
  add_output(model, "y");
  EXPECT_EQ(import_model(model).node(0).op_type, "LSTM");
}

// One initializer in every typed field and in raw_data, as the doubles it must hold.
struct Encoding {
  const char* name;
  int type;
  DataType want;
  std::vector<double> values;
  std::function<void(onnx::TensorProto&)> fill;
};

class ImportEncodings : public testing::TestWithParam<Encoding> {};

TEST_P(ImportEncodings, HoldsTheValues) {
  const Encoding& e = GetParam();
  auto model = empty_model(21, 10);
  e.fill(add_initializer(model, "t", e.type, {static_cast<std::int64_t>(e.values.size())}));
  add_output(model, "t", {static_cast<std::int64_t>(e.values.size())}, e.type);
  const Graph graph = import_model(model);
  const Tensor& tensor = *graph.value(graph.outputs()[0]).constant;
  EXPECT_EQ(tensor.type(), e.want);
  EXPECT_EQ(to_doubles(tensor), e.values);
  // Out and in again: the same bits.
  const test::TemporaryFolder folder;
  test::write_bytes(folder / "again.onnx", serialize_onnx(graph));
  const Graph again = import_onnx(folder / "again.onnx");
  EXPECT_TRUE(bit_equal(tensor, *again.value(again.outputs()[0]).constant));
}

template <typename T>
std::string raw(std::initializer_list<T> values) {
  std::string bytes;
  for (const T v : values) bytes.append(reinterpret_cast<const char*>(&v), sizeof v);
  return bytes;
}
void fill_int32(onnx::TensorProto& t, std::initializer_list<std::int32_t> values) {
  for (const std::int32_t v : values) t.add_int32_data(v);
}

const std::vector<Encoding>& encodings() {
  static const std::vector<Encoding> all = {
      {"float_typed", 1, DataType::kFloat32, {1.5, -2}, [](auto& t) { t.add_float_data(1.5F), t.add_float_data(-2.0F); }},
      {"float_raw",
       1,
       DataType::kFloat32,
       {1.5, -2},
       [](auto& t) {
         t.set_raw_data(raw({1.5F, -2.0F}));
       }},
      {"double_typed", 11, DataType::kFloat64, {0.1}, [](auto& t) { t.add_double_data(0.1); }},
      {"double_raw", 11, DataType::kFloat64, {0.1}, [](auto& t) { t.set_raw_data(raw({0.1})); }},
      {"float16_typed",
       10,
       DataType::kFloat16,
       {1.5, -2},
       [](auto& t) {
         fill_int32(t, {0x3E00, 0xC000});
       }},
      {"float16_raw", 10, DataType::kFloat16, {1.5}, [](auto& t) { t.set_raw_data(raw<std::uint16_t>({0x3E00})); }},
      {"bfloat16_typed",
       16,
       DataType::kBFloat16,
       {1.5, -2},
       [](auto& t) {
         fill_int32(t, {0x3FC0, 0xC000});
       }},
      {"bfloat16_raw", 16, DataType::kBFloat16, {1.5}, [](auto& t) { t.set_raw_data(raw<std::uint16_t>({0x3FC0})); }},
      {"int8_typed",
       3,
       DataType::kInt8,
       {-128, 127},
       [](auto& t) {
         fill_int32(t, {-128, 127});
       }},
      {"int8_raw",
       3,
       DataType::kInt8,
       {-128, 127},
       [](auto& t) {
         t.set_raw_data(raw<std::int8_t>({-128, 127}));
       }},
      {"uint8_typed",
       2,
       DataType::kUInt8,
       {0, 255},
       [](auto& t) {
         fill_int32(t, {0, 255});
       }},
      {"uint8_raw", 2, DataType::kUInt8, {7}, [](auto& t) { t.set_raw_data(raw<std::uint8_t>({7})); }},
      {"int16_typed",
       5,
       DataType::kInt16,
       {-32768, 5},
       [](auto& t) {
         fill_int32(t, {-32768, 5});
       }},
      {"uint16_raw", 4, DataType::kUInt16, {65535}, [](auto& t) { t.set_raw_data(raw<std::uint16_t>({65535})); }},
      {"int32_typed",
       6,
       DataType::kInt32,
       {-2147483648.0, 9},
       [](auto& t) {
         fill_int32(t, {INT32_MIN, 9});
       }},
      {"uint32_typed", 12, DataType::kUInt32, {4294967295.0}, [](auto& t) { t.add_uint64_data(4294967295U); }},
      {"int64_typed",
       7,
       DataType::kInt64,
       {-1, 1099511627776.0},
       [](auto& t) { t.add_int64_data(-1), t.add_int64_data(std::int64_t{1} << 40); }},
      {"int64_raw", 7, DataType::kInt64, {-1}, [](auto& t) { t.set_raw_data(raw<std::int64_t>({-1})); }},
      {"uint64_typed", 13, DataType::kUInt64, {77}, [](auto& t) { t.add_uint64_data(77); }},
      {"bool_typed",
       9,
       DataType::kBool,
       {0, 1, 1},
       [](auto& t) {
         fill_int32(t, {0, 1, 1});
       }},
      {"bool_raw", 9, DataType::kBool, {0, 1, 1}, [](auto& t) { t.set_raw_data(std::string("\0\1\2", 3)); }},
      {"int4_raw_odd", 22, DataType::kInt4, {-8, 7, -1}, [](auto& t) { t.set_raw_data(std::string("\x78\x0F", 2)); }},
      {"int4_typed",
       22,
       DataType::kInt4,
       {-8, 7, -1},
       [](auto& t) {
         fill_int32(t, {0x78, 0x0F});
       }},
      {"uint4_raw", 21, DataType::kUInt4, {15, 0, 9, 6}, [](auto& t) { t.set_raw_data(std::string("\x0F\x69", 2)); }},
      {"empty", 1, DataType::kFloat32, {}, [](auto&) {}},
  };
  return all;
}
std::string encoding_name(const testing::TestParamInfo<Encoding>& parameter) { return parameter.param.name; }

INSTANTIATE_TEST_SUITE_P(All, ImportEncodings, testing::ValuesIn(encodings()), encoding_name);

TEST(Import, ReadsEveryAttributeKind) {
  auto model = empty_model();
  auto& node = add_node(model, "Whatever", {}, {"y"});
  node.set_domain("com.example");
  using A = onnx::AttributeProto;
  add_attribute(node, "f", A::FLOAT).set_f(0.5F);
  add_attribute(node, "i", A::INT).set_i(-3);
  add_attribute(node, "s", A::STRING).set_s("text");
  add_attribute(node, "fs", A::FLOATS).add_floats(1.5F);
  add_attribute(node, "is", A::INTS);
  add_attribute(node, "ss", A::STRINGS).add_strings("a");
  auto& t = *add_attribute(node, "t", A::TENSOR).mutable_t();
  t.set_data_type(7);
  t.add_int64_data(42);
  auto& untyped = *node.add_attribute();
  untyped.set_name("old");
  untyped.set_i(9);
  add_output(model, "y");
  const Graph graph = import_model(model);
  const Node& read = graph.node(0);
  EXPECT_EQ(read.get_float("f", 0), 0.5F);
  EXPECT_EQ(read.get_int("i", 0), -3);
  EXPECT_EQ(read.get_string("s", ""), "text");
  EXPECT_EQ(read.get_floats("fs"), std::vector<float>{1.5F});
  EXPECT_EQ(read.get_ints("is"), std::vector<std::int64_t>{});
  EXPECT_EQ(to_int64s(*read.get_tensor("t")), std::vector<std::int64_t>{42});
  EXPECT_EQ(read.get_int("old", 0), 9);
}

// Linear in the number of nodes: 100,000 and 200,000 nodes, whose times per node may differ by the noise of a shared machine.
TEST(Import, LargeGraphsLoadInLinearTime) {
  const auto seconds = [](int nodes) {
    auto model = empty_model();
    add_input(model, "v0", {1});
    for (int i = 0; i < nodes; ++i) {
      auto& node = *model.mutable_graph()->add_node();
      node.set_op_type("Relu");
      node.add_input("v" + std::to_string(i));
      node.add_output("v" + std::to_string(i + 1));
    }
    add_output(model, "v" + std::to_string(nodes));
    const test::TemporaryFolder folder;
    test::write_bytes(folder / "m.onnx", model.SerializeAsString());
    model.Clear();
    const auto start = std::chrono::steady_clock::now();
    const Graph graph = import_onnx(folder / "m.onnx");
    EXPECT_EQ(graph.nodes().size(), static_cast<std::size_t>(nodes));
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const double half = seconds(100000);
  const double full = seconds(200000);
  EXPECT_LT(full, 5 * half + 1.0);
}

TEST(Import, EveryModelOfTheAssets) {
  namespace fs = std::filesystem;
  if (!fs::exists(test::assets_folder())) GTEST_SKIP() << "no assets at " << test::assets_folder() << " (set NIBBLE_ASSETS)";
  int count = 0;
  for (const char* part : {"models", "prequantized"}) {
    for (const auto& entry : fs::recursive_directory_iterator(test::assets_folder() + "/" + part)) {
      if (entry.path().extension() != ".onnx") continue;
      ++count;
      SCOPED_TRACE(entry.path().string());
      // This one came without its data file.
      if (entry.path().filename() == "conv_qdq_external_ini.onnx" &&
          !fs::exists(entry.path().parent_path() / "conv_qdq_external_ini.bin")) {
        expect_error(ErrorCode::kNotFound, {"conv_qdq_external_ini.bin", "conv1.weight_quantized"},
                     [&] { import_onnx(entry.path().string()); });
        continue;
      }
      const Graph graph = import_onnx(entry.path().string());
      EXPECT_FALSE(graph.nodes().empty()) << entry.path();
      // What is written reads back as the same text.
      const test::TemporaryFolder folder;
      test::write_bytes(folder / "again.onnx", serialize_onnx(graph));
      const Graph again = import_onnx(folder / "again.onnx");
      EXPECT_EQ(graph.nodes().size(), again.nodes().size());
      EXPECT_EQ(serialize_onnx(again), serialize_onnx(graph)) << entry.path();
    }
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace nibble
