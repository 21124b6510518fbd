// Models that no exporter writes: each must end in one named error, never in a crash, a hang or a large allocation.
#include <gtest/gtest.h>

#include <random>

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

onnx::ModelProto relu_model() {
  auto model = empty_model();
  add_input(model, "x", {2});
  add_node(model, "Relu", {"x"}, {"y"}, "relu");
  add_output(model, "y", {2});
  return model;
}

TEST(HostileImport, FilesThatAreNoModel) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "m.onnx";
  expect_error(ErrorCode::kNotFound, {"m.onnx"}, [&] { import_onnx(path); });
  expect_error(ErrorCode::kIo, {"folder"}, [&] { import_onnx(folder / ""); });
  for (const std::string& bytes : {std::string(), std::string("\x89PNG\r\n\x1a\n"), std::string("hello, this is text\n"),
                                   std::string(4096, '\0'), std::string(4096, '\xFF')}) {
    test::write_bytes(path, bytes);
    expect_error(ErrorCode::kInvalidModel, {"m.onnx", "not an ONNX model or damaged"}, [&] { import_onnx(path); });
    expect_error(ErrorCode::kInvalidData, {"m.onnx", "not an ONNX tensor"}, [&] { read_onnx_tensor(path); });
  }
}

TEST(HostileImport, EveryTruncationIsNamed) {
  const std::string bytes = test::conv_model().SerializeAsString();
  const test::TemporaryFolder folder;
  const std::string path = folder / "m.onnx";
  for (std::size_t size = 1; size < bytes.size(); size += 7) {
    SCOPED_TRACE(size);
    test::write_bytes(path, bytes.substr(0, size));
    expect_error(ErrorCode::kInvalidModel, {"m.onnx: ", "not an ONNX model or damaged"}, [&] { import_onnx(path); });
  }
}

// A flipped bit may give another valid model; what it must not give is anything but a Graph or an Error.
TEST(HostileImport, BitFlipsNeverCrash) {
  const std::string bytes = test::conv_model().SerializeAsString();
  const test::TemporaryFolder folder;
  const std::string path = folder / "m.onnx";
  constexpr unsigned kSeed = 20240607;
  std::mt19937 random(kSeed);
  int refused = 0;
  for (int i = 0; i < 600; ++i) {
    std::string damaged = bytes;
    const int flips = 1 + i % 3;
    for (int k = 0; k < flips; ++k) {
      const std::size_t at = random() % damaged.size();
      damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ (1U << (random() % 8)));
    }
    test::write_bytes(path, damaged);
    try {
      const Graph graph = import_onnx(path);
      verify(graph);
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      EXPECT_NE(std::string(error.what()).find("m.onnx"), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(refused, 50) << "seed " << kSeed;
}

TEST(HostileImport, Versions) {
  for (const int opset : {1, 6, 22, 1000}) {
    auto model = relu_model();
    model.mutable_opset_import(0)->set_version(opset);
    expect_error(ErrorCode::kUnsupported, {std::to_string(opset).c_str(), "7 to 21"}, [&] { import_model(model); });
  }
  for (const int ir : {1, 2, 11, 99}) {
    auto model = relu_model();
    model.set_ir_version(ir);
    expect_error(ErrorCode::kUnsupported, {"IR", std::to_string(ir).c_str(), "3 to 10"}, [&] { import_model(model); });
  }
  auto model = relu_model();
  model.clear_opset_import();
  expect_error(ErrorCode::kInvalidModel, {"operator set"}, [&] { import_model(model); });
  model.add_opset_import()->set_domain("com.example");
  expect_error(ErrorCode::kInvalidModel, {"'relu'", "ai.onnx"}, [&] { import_model(model); });
  model = relu_model();
  model.add_opset_import()->set_version(14);
  expect_error(ErrorCode::kInvalidModel, {"two versions"}, [&] { import_model(model); });
}

TEST(HostileImport, BrokenGraphs) {
  {
    auto model = relu_model();
    add_node(model, "Abs", {"x"}, {"y"}, "second");
    expect_error(ErrorCode::kInvalidModel, {"'y'", "twice", "'second'"}, [&] { import_model(model); });
  }
  {
    auto model = empty_model();
    add_node(model, "Add", {"b", "b"}, {"a"}, "one");
    add_node(model, "Relu", {"a"}, {"b"}, "two");
    add_output(model, "b");
    expect_error(ErrorCode::kInvalidModel, {"cycle", "'one'"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    add_node(model, "Relu", {"nobody"}, {"z"}, "lost");
    expect_error(ErrorCode::kInvalidModel, {"'lost'", "'nobody'"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    add_output(model, "ghost");
    expect_error(ErrorCode::kInvalidModel, {"'ghost'"}, [&] { import_model(model); });
    model.mutable_graph()->clear_output();
    expect_error(ErrorCode::kInvalidModel, {"no outputs"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    add_input(model, "x", {2});
    expect_error(ErrorCode::kInvalidModel, {"'x'", "twice"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    add_initializer(model, "y", 1, {0});
    expect_error(ErrorCode::kInvalidModel, {"'y'"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    add_initializer(model, "w", 1, {0});
    add_initializer(model, "w", 1, {0});
    expect_error(ErrorCode::kInvalidModel, {"two initializers", "'w'"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    add_input(model, "y", {2});
    expect_error(ErrorCode::kInvalidModel, {"'y'"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    add_node(model, "", {"x"}, {"z"}, "blank");
    expect_error(ErrorCode::kInvalidModel, {"'blank'", "op type"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    model.mutable_graph()->mutable_node(0)->set_name("line\nbreak");
    expect_error(ErrorCode::kInvalidModel, {"line?break", "control character"}, [&] { import_model(model); });
  }
}

TEST(HostileImport, TensorsWhoseShapeAndDataDisagree) {
  const auto check = [](const std::vector<std::int64_t>& dims, const std::string& raw, const char* why) {
    auto model = relu_model();
    add_initializer(model, "w", 1, dims).set_raw_data(raw);
    SCOPED_TRACE(why);
    expect_error(ErrorCode::kInvalidModel, {"'w'", why}, [&] { import_model(model); });
  };
  check({-1}, "", "negative");
  check({2, -9223372036854775807LL}, "", "negative");
  check({std::int64_t{1} << 62, 4}, "", "more elements");
  check({std::int64_t{1} << 62}, "", "more elements");
  check({std::int64_t{1} << 40, std::int64_t{1} << 40}, "abcd", "more elements");
  check({std::int64_t{1} << 40}, "abcd", "needs");
  check({2}, "1234567", "needs 8");
  check({2}, "123456789", "needs 8");
  check({}, "", "needs 4");
  {
    auto model = relu_model();
    add_initializer(model, "w", 1, {3}).add_float_data(1.0F);
    expect_error(ErrorCode::kInvalidModel, {"'w'", "needs 3"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    add_initializer(model, "w", 3, {1}).add_int32_data(300);
    expect_error(ErrorCode::kInvalidModel, {"'w'", "300", "int8"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    add_initializer(model, "w", 22, {3}).set_raw_data("1");
    expect_error(ErrorCode::kInvalidModel, {"'w'", "needs 2"}, [&] { import_model(model); });
  }
  for (const int type : {8, 14, 15, 17, 23}) {
    auto model = relu_model();
    add_initializer(model, "w", type, {0});
    expect_error(ErrorCode::kUnsupported, {"'w'", "not supported"}, [&] { import_model(model); });
  }
  for (const int type : {0, -1, 77}) {
    auto model = relu_model();
    add_initializer(model, "w", type, {0});
    expect_error(ErrorCode::kInvalidModel, {"'w'"}, [&] { import_model(model); });
  }
}

TEST(HostileImport, WhatIsRefusedByName) {
  using A = onnx::AttributeProto;
  {
    auto model = relu_model();
    auto& node = add_node(model, "Custom", {"x"}, {"z"}, "inner");
    add_attribute(node, "body", A::GRAPH).mutable_g()->set_name("g");
    expect_error(ErrorCode::kUnsupported, {"'inner'", "Custom", "'body'", "subgraph"}, [&] { import_model(model); });
  }
  for (const char* op : {"If", "Loop", "Scan", "SequenceConstruct", "Optional", "StringNormalizer"}) {
    auto model = relu_model();
    add_node(model, op, {"x"}, {"z"}, "odd");
    expect_error(ErrorCode::kUnsupported, {"'odd'", op}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    model.mutable_graph()->add_sparse_initializer()->mutable_values()->set_name("thin");
    expect_error(ErrorCode::kUnsupported, {"'thin'", "sparse"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    auto& function = *model.add_functions();
    function.set_name("Mine");
    function.set_domain("com.example");
    add_node(model, "Mine", {"x"}, {"z"}, "call").set_domain("com.example");
    expect_error(ErrorCode::kUnsupported, {"'call'", "'Mine'", "function"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_sequence_type();
    expect_error(ErrorCode::kUnsupported, {"'x'", "sequences"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    model.mutable_graph()->mutable_output(0)->mutable_type()->mutable_tensor_type()->set_elem_type(8);
    expect_error(ErrorCode::kUnsupported, {"'y'", "'relu'", "string"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    auto& node = add_node(model, "Constant", {}, {"z"}, "c");
    add_attribute(node, "sparse_value", A::SPARSE_TENSOR).mutable_sparse_tensor();
    expect_error(ErrorCode::kUnsupported, {"'c'", "sparse"}, [&] { import_model(model); });
  }
}

TEST(HostileImport, Attributes) {
  using A = onnx::AttributeProto;
  {
    auto model = relu_model();
    auto& node = *model.mutable_graph()->mutable_node(0);
    add_attribute(node, "a", A::INT).set_i(1);
    add_attribute(node, "a", A::INT).set_i(2);
    expect_error(ErrorCode::kInvalidModel, {"'relu'", "'a'", "twice"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    model.mutable_graph()->mutable_node(0)->add_attribute()->set_name("hollow");
    expect_error(ErrorCode::kInvalidModel, {"'relu'", "'hollow'"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    auto& t = *add_attribute(*model.mutable_graph()->mutable_node(0), "t", A::TENSOR).mutable_t();
    t.set_data_type(1);
    t.add_dims(5);
    expect_error(ErrorCode::kInvalidModel, {"'relu'", "'t'", "needs 5"}, [&] { import_model(model); });
  }
  {
    auto model = relu_model();
    add_attribute(*model.mutable_graph()->mutable_node(0), "r", A::INT).set_ref_attr_name("outer");
    expect_error(ErrorCode::kInvalidModel, {"'relu'", "'r'"}, [&] { import_model(model); });
  }
}

}  // namespace
}  // namespace nibble
