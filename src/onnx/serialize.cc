// Graph -> bytes of an ONNX model. The same graph gives the same bytes: values, nodes and maps are written in their order.
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <climits>
#include <optional>

#include "base/fail.h"
#include "nibble/onnx.h"
#include "onnx/element_types.h"
#include "onnx/tensor_proto.h"
#include "ops/op.h"

namespace nibble {
namespace {

// The IR version that came with each opset. At least 4: only since then may weights stay out of the graph's inputs.
int lowest_ir(int opset) {
  if (opset >= 21) return 10;
  if (opset >= 19) return 9;
  if (opset >= 15) return 8;
  if (opset >= 12) return 7;
  if (opset >= 11) return 6;
  if (opset >= 10) return 5;
  return 4;
}

void write_type(const TensorType& type, onnx::TypeProto& proto) {
  auto& tensor = *proto.mutable_tensor_type();
  tensor.set_elem_type(element_type_to_onnx(type.dtype));
  if (!type.has_rank) return;
  auto& shape = *tensor.mutable_shape();
  for (const Dim& dim : type.dims) {
    auto& out = *shape.add_dim();
    if (dim.known())
      out.set_dim_value(dim.size);
    else if (!dim.symbol.empty())
      out.set_dim_param(dim.symbol);
  }
}

void write_value(const Value& value, const TensorType& type, onnx::ValueInfoProto& proto) {
  proto.set_name(value.name);
  if (type.dtype != DataType::kUndefined) write_type(type, *proto.mutable_type());
}

void write_attribute(const std::string& name, const Attribute& attribute, onnx::AttributeProto& proto) {
  using Proto = onnx::AttributeProto;
  proto.set_name(name);
  struct Visitor {
    Proto& out;
    void operator()(std::int64_t v) const {
      out.set_type(Proto::INT);
      out.set_i(v);
    }
    void operator()(float v) const {
      out.set_type(Proto::FLOAT);
      out.set_f(v);
    }
    void operator()(const std::string& v) const {
      out.set_type(Proto::STRING);
      out.set_s(v);
    }
    void operator()(const std::vector<std::int64_t>& v) const {
      out.set_type(Proto::INTS);
      for (const std::int64_t i : v) out.add_ints(i);
    }
    void operator()(const std::vector<float>& v) const {
      out.set_type(Proto::FLOATS);
      for (const float f : v) out.add_floats(f);
    }
    void operator()(const std::vector<std::string>& v) const {
      out.set_type(Proto::STRINGS);
      for (const std::string& s : v) out.add_strings(s);
    }
    void operator()(const Tensor& v) const {
      out.set_type(Proto::TENSOR);
      write_tensor(v, *out.mutable_t());
    }
  };
  std::visit(Visitor{proto}, attribute);
}

// Outputs must have an element type in the file. Where the graph does not know it, shape inference is asked.
std::vector<TensorType> output_types(const Graph& graph) {
  std::vector<TensorType> types;
  bool unknown = false;
  for (const ValueId id : graph.outputs()) {
    types.push_back(graph.value(id).type);
    unknown = unknown || types.back().dtype == DataType::kUndefined;
  }
  if (!unknown) return types;
  const InferredGraph inferred = infer_types(graph);
  for (std::size_t i = 0; i < types.size(); ++i) {
    const ValueId id = graph.outputs()[i];
    if (types[i].dtype == DataType::kUndefined) types[i] = inferred.types[static_cast<std::size_t>(id)];
  }
  return types;
}

}  // namespace

std::string serialize_onnx(const Graph& graph) {
  onnx::ModelProto model;
  model.set_producer_name("nibble");
  int ir = std::max(graph.ir_version(), lowest_ir(graph.opset("")));
  for (const auto& [domain, version] : graph.opsets()) {
    auto& opset = *model.add_opset_import();
    opset.set_domain(domain);
    opset.set_version(version);
  }
  for (const auto& [key, value] : graph.metadata()) {
    auto& entry = *model.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  }

  onnx::GraphProto& out = *model.mutable_graph();
  out.set_name(graph.name().empty() ? "graph" : graph.name());
  const auto name = [&](ValueId id) { return id == kNoValue ? std::string() : graph.value(id).name; };
  for (const Node& node : graph.nodes()) {
    auto& proto = *out.add_node();
    proto.set_name(node.name);
    proto.set_op_type(node.op_type);
    if (!node.domain.empty()) proto.set_domain(node.domain);
    for (const ValueId id : node.inputs) proto.add_input(name(id));
    for (const ValueId id : node.outputs) proto.add_output(name(id));
    for (const auto& [key, attribute] : node.attributes) write_attribute(key, attribute, *proto.add_attribute());
  }
  for (const ValueId id : graph.inputs()) write_value(graph.value(id), graph.value(id).type, *out.add_input());
  const std::vector<TensorType> types = output_types(graph);
  for (std::size_t i = 0; i < types.size(); ++i) write_value(graph.value(graph.outputs()[i]), types[i], *out.add_output());
  for (std::size_t v = 0; v < graph.values().size(); ++v) {
    const Value& value = graph.values()[v];
    if (value.constant) {
      auto& proto = *out.add_initializer();
      proto.set_name(value.name);
      write_tensor(*value.constant, proto);
      if (value.constant->type() == DataType::kInt4 || value.constant->type() == DataType::kUInt4) ir = std::max(ir, 10);
    } else if (value.producer != kNoNode && value.type.dtype != DataType::kUndefined && !graph.is_graph_output(static_cast<ValueId>(v))) {
      write_value(value, value.type, *out.add_value_info());
    }
  }
  model.set_ir_version(ir);

  if (model.ByteSizeLong() > static_cast<std::size_t>(INT_MAX))
    fail(ErrorCode::kUnsupported, "the model would take {} bytes; ONNX files end at 2 GB", model.ByteSizeLong());
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    model.SerializeToCodedStream(&coded);
  }
  return bytes;
}

}  // namespace nibble
