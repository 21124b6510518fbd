// Small ONNX models and a temporary folder for the tests of the onnx room.
#pragma once

#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

#include "nibble/error.h"
#include "nibble/onnx.h"

namespace nibble::test {

// A folder that is gone at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "nibble_onnx_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline onnx::ModelProto empty_model(int opset = 13, int ir = 7) {
  onnx::ModelProto model;
  model.set_ir_version(ir);
  auto& import = *model.add_opset_import();
  import.set_domain("");
  import.set_version(opset);
  model.mutable_graph()->set_name("test");
  return model;
}

inline void set_type(onnx::ValueInfoProto& info, const std::string& name, int type, const std::vector<std::int64_t>& dims) {
  info.set_name(name);
  auto& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  auto& shape = *tensor.mutable_shape();
  for (const std::int64_t dim : dims) {
    if (dim >= 0)
      shape.add_dim()->set_dim_value(dim);
    else
      shape.add_dim()->set_dim_param("N");
  }
}
inline void add_input(onnx::ModelProto& model, const std::string& name, const std::vector<std::int64_t>& dims, int type = 1) {
  set_type(*model.mutable_graph()->add_input(), name, type, dims);
}
inline void add_output(onnx::ModelProto& model, const std::string& name, const std::vector<std::int64_t>& dims = {}, int type = 1) {
  set_type(*model.mutable_graph()->add_output(), name, type, dims);
}
inline onnx::NodeProto& add_node(onnx::ModelProto& model, const std::string& op, std::initializer_list<const char*> inputs,
                                 std::initializer_list<const char*> outputs, const std::string& name = "") {
  auto& node = *model.mutable_graph()->add_node();
  node.set_op_type(op);
  if (!name.empty()) node.set_name(name);
  for (const char* input : inputs) node.add_input(input);
  for (const char* output : outputs) node.add_output(output);
  return node;
}
inline onnx::AttributeProto& add_attribute(onnx::NodeProto& node, const std::string& name, onnx::AttributeProto::AttributeType type) {
  auto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(type);
  return attribute;
}
inline onnx::TensorProto& add_initializer(onnx::ModelProto& model, const std::string& name, int type,
                                          const std::vector<std::int64_t>& dims) {
  auto& tensor = *model.mutable_graph()->add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(type);
  for (const std::int64_t dim : dims) tensor.add_dims(dim);
  return tensor;
}

// x -> Conv (weights raw, bias typed) -> Relu -> MaxPool -> y, with attributes of several kinds.
inline onnx::ModelProto conv_model() {
  onnx::ModelProto model = empty_model();
  add_input(model, "x", {-1, 2, 6, 6});
  add_output(model, "y", {-1, 3, 2, 2});
  auto& weight = add_initializer(model, "w", 1, {3, 2, 3, 3});
  std::vector<float> values(54);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.01F * static_cast<float>(i) - 0.2F;
  weight.set_raw_data(std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)));
  auto& bias = add_initializer(model, "b", 1, {3});
  for (const float v : {0.5F, -0.25F, 0.0F}) bias.add_float_data(v);
  auto& conv = add_node(model, "Conv", {"x", "w", "b"}, {"c"}, "conv");
  auto& pads = add_attribute(conv, "pads", onnx::AttributeProto::INTS);
  for (int i = 0; i < 4; ++i) pads.add_ints(0);
  auto& pad = add_attribute(conv, "auto_pad", onnx::AttributeProto::STRING);
  pad.set_s("NOTSET");
  add_attribute(conv, "group", onnx::AttributeProto::INT).set_i(1);
  add_node(model, "Relu", {"c"}, {"r"});
  auto& pool = add_node(model, "MaxPool", {"r"}, {"y"}, "pool");
  auto& kernel = add_attribute(pool, "kernel_shape", onnx::AttributeProto::INTS);
  kernel.add_ints(2);
  kernel.add_ints(2);
  auto& strides = add_attribute(pool, "strides", onnx::AttributeProto::INTS);
  strides.add_ints(2);
  strides.add_ints(2);
  return model;
}

inline Graph import_model(const onnx::ModelProto& model) {
  const TemporaryFolder folder;
  const std::string path = folder / "model.onnx";
  write_bytes(path, model.SerializeAsString());
  return import_onnx(path);
}

// Expects an Error of this code whose one line holds every one of `words`.
template <typename Body>
void expect_error(ErrorCode code, std::initializer_list<const char*> words, Body body) {
  try {
    body();
    ADD_FAILURE() << "no error was thrown";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const char* word : words) EXPECT_NE(message.find(word), std::string::npos) << "'" << word << "' is missing in: " << message;
  }
}

inline std::string assets_folder() {
  const char* set = std::getenv("NIBBLE_ASSETS");
  return set != nullptr ? set : "../shared/assets";
}

}  // namespace nibble::test
