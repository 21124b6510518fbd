#include <gtest/gtest.h>

#include "model_builder.h"

namespace nibble {
namespace {

TEST(Serialize, WritesWhatImportReads) {
  const Graph graph = test::import_model(test::conv_model());
  const std::string bytes = serialize_onnx(graph);
  EXPECT_EQ(bytes, serialize_onnx(graph));
  const test::TemporaryFolder folder;
  test::write_bytes(folder / "m.onnx", bytes);
  EXPECT_EQ(print_graph(import_onnx(folder / "m.onnx")), print_graph(graph));
}

TEST(Serialize, ChoosesTheIrVersionFromTheOpsetAndTheTypes) {
  const auto ir_of = [](const Graph& graph) {
    onnx::ModelProto model;
    EXPECT_TRUE(model.ParseFromString(serialize_onnx(graph)));
    return model.ir_version();
  };
  const auto with_opset = [](int opset, int ir) {
    auto model = test::conv_model();
    model.set_ir_version(ir);
    model.mutable_opset_import(0)->set_version(opset);
    return test::import_model(model);
  };
  EXPECT_EQ(ir_of(with_opset(8, 3)), 4);
  EXPECT_EQ(ir_of(with_opset(13, 3)), 7);
  EXPECT_EQ(ir_of(with_opset(13, 8)), 8);
  EXPECT_EQ(ir_of(with_opset(21, 8)), 10);
}

TEST(Serialize, ReadsATensorFile) {
  onnx::TensorProto proto;
  proto.set_name("x");
  proto.set_data_type(1);
  proto.add_dims(2);
  proto.add_float_data(0.5F);
  proto.add_float_data(-1.0F);
  const test::TemporaryFolder folder;
  test::write_bytes(folder / "input_0.pb", proto.SerializeAsString());
  const NamedTensor read = read_onnx_tensor(folder / "input_0.pb");
  EXPECT_EQ(read.name, "x");
  EXPECT_EQ(to_doubles(read.tensor), (std::vector<double>{0.5, -1.0}));
  proto.add_dims(7);
  test::write_bytes(folder / "input_0.pb", proto.SerializeAsString());
  test::expect_error(ErrorCode::kInvalidData, {"input_0.pb", "needs 14"}, [&] { read_onnx_tensor(folder / "input_0.pb"); });
}

}  // namespace
}  // namespace nibble
