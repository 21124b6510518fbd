// ONNX file -> Graph. The file is parsed as a stream (it is never in memory as bytes), and each weight is moved out of the protobuf message
// as soon as it is read, so that the peak is the model plus its largest tensor.
#include <fcntl.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <onnx/onnx_pb.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>
#include <set>
#include <unordered_set>
#include <utility>

#include "base/fail.h"
#include "nibble/onnx.h"
#include "onnx/element_types.h"
#include "onnx/external_data.h"
#include "onnx/tensor_proto.h"

namespace nibble {
namespace {

constexpr int kLowestOpset = 7;
constexpr int kHighestOpset = 21;
constexpr std::int64_t kLowestIr = 3;
constexpr std::int64_t kHighestIr = 10;
// Models nest only through control flow, which is refused anyway.
constexpr int kRecursionLimit = 64;

struct InputFile {
  int fd = -1;
  ~InputFile() {
    if (fd >= 0) ::close(fd);
  }
};

// Names come from the file: a line break in one must not break the one line of an error.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return text;
}

// Parses a whole file. `what` and `code` are for the message about a file that does not parse.
template <typename Message>
void parse_file(const std::string& path, const char* what, ErrorCode damaged, Message& message) {
  InputFile file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0)
    fail(errno == ENOENT || errno == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo, "{}: cannot be opened: {}", path,
         std::strerror(errno));
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) fail(ErrorCode::kIo, "{}: cannot be read: {}", path, std::strerror(errno));
  if (!S_ISREG(info.st_mode))
    fail(ErrorCode::kIo, "{}: is {}, but {} was expected", path, S_ISDIR(info.st_mode) ? "a folder" : "not a regular file", what);
  if (info.st_size == 0) fail(damaged, "{}: not {} or damaged: it is empty", path, what);
  if (info.st_size > INT_MAX)
    fail(ErrorCode::kUnsupported, "{}: has {} bytes; protobuf files end at 2 GB: save the weights as external data", path, info.st_size);

  google::protobuf::io::FileInputStream stream(file.fd, 1 << 20);
  google::protobuf::io::CodedInputStream coded(&stream);
  coded.SetTotalBytesLimit(INT_MAX);
  coded.SetRecursionLimit(kRecursionLimit);
  const bool parsed = message.ParseFromCodedStream(&coded) && coded.ConsumedEntireMessage();
  if (stream.GetErrno() != 0) fail(ErrorCode::kIo, "{}: cannot be read: {}", path, std::strerror(stream.GetErrno()));
  if (!parsed)
    fail(damaged, "{}: not {} or damaged: its {} bytes are no complete protobuf message; get the file again", path, what, info.st_size);
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return "";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Ops on strings, sequences, optional values and control flow, by name: some of them (SequenceAt ...) hold no attribute that tells.
constexpr std::array<std::string_view, 24> kRefusedOps = {"If",
                                                          "Loop",
                                                          "Scan",
                                                          "SequenceAt",
                                                          "SequenceConstruct",
                                                          "SequenceEmpty",
                                                          "SequenceErase",
                                                          "SequenceInsert",
                                                          "SequenceLength",
                                                          "SequenceMap",
                                                          "SplitToSequence",
                                                          "ConcatFromSequence",
                                                          "Optional",
                                                          "OptionalGetElement",
                                                          "OptionalHasElement",
                                                          "StringNormalizer",
                                                          "StringConcat",
                                                          "StringSplit",
                                                          "RegexFullMatch",
                                                          "TfIdfVectorizer",
                                                          "LabelEncoder",
                                                          "CategoryMapper",
                                                          "DictVectorizer",
                                                          "ZipMap"};

// A line break or an escape sequence in a name would reach terminals and logs through every message that quotes it.
const std::string& checked_name(const std::string& name, const char* what) {
  const bool control = std::any_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  if (control) fail(ErrorCode::kInvalidModel, "{} is named '{}', which holds a control character", what, one_line(name));
  return name;
}

class Importer {
 public:
  Importer(const std::string& path, onnx::ModelProto& model) : model_(model), external_(folder_of(path)), editor_(graph_) {}

  Graph run() {
    read_header();
    onnx::GraphProto& graph = *model_.mutable_graph();
    editor_.set_name(graph.name());
    read_initializers(graph);
    read_inputs(graph);
    for (const auto& function : model_.functions())
      functions_.emplace(function.domain() == "ai.onnx" ? "" : function.domain(), function.name());
    read_nodes(graph);
    read_value_info(graph);
    read_outputs(graph);
    editor_.finish(GraphEditor::Prune::kNo);
    return std::move(graph_);
  }

 private:
  void read_header() {
    if (!model_.has_graph()) fail(ErrorCode::kInvalidModel, "not an ONNX model or damaged: it holds no graph");
    const std::int64_t ir = model_.ir_version();
    if (ir == 0) fail(ErrorCode::kInvalidModel, "not an ONNX model or damaged: it states no IR version");
    if (ir < kLowestIr || ir > kHighestIr)
      fail(ErrorCode::kUnsupported, "has IR version {}; supported are {} to {}: convert it with onnx.version_converter or export it again",
           ir, kLowestIr, kHighestIr);
    editor_.set_ir_version(static_cast<int>(ir));
    for (const auto& opset : model_.opset_import()) {
      const std::string domain = opset.domain() == "ai.onnx" ? "" : opset.domain();
      const std::int64_t version = opset.version();
      if (domain.empty() && (version < kLowestOpset || version > kHighestOpset))
        fail(ErrorCode::kUnsupported,
             "uses opset {} of ai.onnx; supported are {} to {}: convert it with onnx.version_converter or export it again", version,
             kLowestOpset, kHighestOpset);
      if (version < 0 || version > INT_MAX) fail(ErrorCode::kInvalidModel, "imports the impossible version {} of '{}'", version, domain);
      if (graph_.opsets().contains(domain) && graph_.opset(domain) != version)
        fail(ErrorCode::kInvalidModel, "imports two versions of the operator set '{}': {} and {}", domain.empty() ? "ai.onnx" : domain,
             graph_.opset(domain), version);
      editor_.set_opset(domain, static_cast<int>(version));
    }
    if (model_.opset_import_size() == 0) fail(ErrorCode::kInvalidModel, "not an ONNX model or damaged: it imports no operator set");
    for (const auto& entry : model_.metadata_props()) editor_.set_metadata(entry.key(), entry.value());
  }

  void read_initializers(onnx::GraphProto& graph) {
    if (graph.sparse_initializer_size() > 0)
      fail(ErrorCode::kUnsupported, "initializer '{}' is sparse, which is not supported: store it dense",
           graph.sparse_initializer(0).values().name());
    for (onnx::TensorProto& proto : *graph.mutable_initializer()) {
      std::string name = checked_name(proto.name(), "an initializer");
      if (name.empty()) fail(ErrorCode::kInvalidModel, "an initializer has no name");
      if (graph_.find_value(name)) fail(ErrorCode::kInvalidModel, "two initializers are named '{}'", name);
      Tensor tensor = take_tensor(proto, fmt::format("initializer '{}'", name), &external_);
      editor_.add_constant(std::move(name), std::move(tensor));
    }
  }

  void read_inputs(const onnx::GraphProto& graph) {
    std::unordered_set<std::string_view> seen;
    for (const onnx::ValueInfoProto& info : graph.input()) {
      if (info.name().empty()) fail(ErrorCode::kInvalidModel, "a graph input has no name");
      if (!seen.insert(info.name()).second) fail(ErrorCode::kInvalidModel, "graph input '{}' is listed twice", info.name());
      if (graph_.find_value(info.name())) continue;  // an initializer that is listed as an input too: a weight with a default
      editor_.add_input(checked_name(info.name(), "a graph input"), type_of(info, fmt::format("graph input '{}'", info.name()), nullptr));
    }
  }

  ValueId value(const std::string& name) {
    if (name.empty()) return kNoValue;
    if (const auto id = graph_.find_value(name)) return *id;
    return editor_.add_value(checked_name(name, "a value"));
  }

  void read_nodes(onnx::GraphProto& graph) {
    for (int i = 0; i < graph.node_size(); ++i) {
      onnx::NodeProto& proto = *graph.mutable_node(i);
      Node node;
      node.op_type = checked_name(proto.op_type(), "an op");
      node.domain = proto.domain() == "ai.onnx" ? std::string() : checked_name(proto.domain(), "an operator set");
      // Nodes without a name are called after what they make, which stays the same when other nodes come and go.
      node.name = checked_name(proto.name(), "a node");
      if (node.name.empty() && proto.output_size() > 0) node.name = proto.output(0);
      if (node.op_type.empty()) fail(ErrorCode::kInvalidModel, "node {} ('{}') has no op type", i, node.name);
      refuse_op(node);
      for (const std::string& name : proto.input()) node.inputs.push_back(value(name));
      for (const std::string& name : proto.output()) node.outputs.push_back(value(name));
      for (onnx::AttributeProto& attribute : *proto.mutable_attribute()) {
        if (attribute.name().empty())
          fail(ErrorCode::kInvalidModel, "node '{}' ({}) has an attribute without a name", node.name, node.op_type);
        std::string name = checked_name(attribute.name(), "an attribute");
        if (node.has(name)) fail(ErrorCode::kInvalidModel, "node '{}' ({}) has attribute '{}' twice", node.name, node.op_type, name);
        Attribute read = read_attribute(attribute, node);
        node.attributes.emplace(std::move(name), std::move(read));
      }
      onnx::NodeProto empty;
      proto.Swap(&empty);
      editor_.add_node(std::move(node));
    }
  }

  void refuse_op(const Node& node) const {
    if (functions_.contains({node.domain, node.op_type}))
      fail(ErrorCode::kUnsupported, "node '{}' calls the model-local function '{}', which is not supported: inline the functions first",
           node.name, node.op_type);
    if ((node.domain.empty() || node.domain == "ai.onnx.ml") &&
        std::find(kRefusedOps.begin(), kRefusedOps.end(), node.op_type) != kRefusedOps.end())
      fail(ErrorCode::kUnsupported, "node '{}': op {} is not supported (control flow, sequences, optional values and strings are not)",
           node.name, node.op_type);
    if (node.domain.empty() && graph_.opset("") == 0)
      fail(ErrorCode::kInvalidModel, "node '{}' ({}) is of ai.onnx, but the model imports no version of it", node.name, node.op_type);
  }

  Attribute read_attribute(onnx::AttributeProto& proto, const Node& node) {
    using Proto = onnx::AttributeProto;
    if (!proto.ref_attr_name().empty())
      fail(ErrorCode::kInvalidModel, "node '{}' ({}): attribute '{}' refers to a function's attribute outside of any function", node.name,
           node.op_type, proto.name());
    Proto::AttributeType type = proto.type();
    // Old exporters leave the type out: the field that is set tells.
    if (type == Proto::UNDEFINED) {
      if (proto.has_f())
        type = Proto::FLOAT;
      else if (proto.has_i())
        type = Proto::INT;
      else if (proto.has_s())
        type = Proto::STRING;
      else if (proto.has_t())
        type = Proto::TENSOR;
      else if (proto.has_g() || proto.graphs_size() > 0)
        type = Proto::GRAPH;
      else if (proto.floats_size() > 0)
        type = Proto::FLOATS;
      else if (proto.ints_size() > 0)
        type = Proto::INTS;
      else if (proto.strings_size() > 0)
        type = Proto::STRINGS;
    }
    const char* kind = "";
    switch (type) {
      case Proto::FLOAT: return proto.f();
      case Proto::INT: return std::int64_t{proto.i()};
      case Proto::STRING: return proto.s();
      case Proto::TENSOR:
        return take_tensor(*proto.mutable_t(), fmt::format("node '{}' ({}): attribute '{}'", node.name, node.op_type, proto.name()),
                           &external_);
      case Proto::FLOATS: return std::vector<float>(proto.floats().begin(), proto.floats().end());
      case Proto::INTS: return std::vector<std::int64_t>(proto.ints().begin(), proto.ints().end());
      case Proto::STRINGS: return std::vector<std::string>(proto.strings().begin(), proto.strings().end());
      case Proto::GRAPH:
      case Proto::GRAPHS: kind = "a subgraph (control flow)"; break;
      case Proto::SPARSE_TENSOR:
      case Proto::SPARSE_TENSORS: kind = "a sparse tensor"; break;
      case Proto::TENSORS: kind = "a list of tensors"; break;
      case Proto::TYPE_PROTO:
      case Proto::TYPE_PROTOS: kind = "a type"; break;
      default: fail(ErrorCode::kInvalidModel, "node '{}' ({}): attribute '{}' has no value", node.name, node.op_type, proto.name());
    }
    fail(ErrorCode::kUnsupported, "node '{}' ({}): attribute '{}' is {}, which is not supported", node.name, node.op_type, proto.name(),
         kind);
  }

  // `producer` is named in the refusal where there is one.
  TensorType type_of(const onnx::ValueInfoProto& info, const std::string& what, const Node* producer) const {
    const onnx::TypeProto& proto = info.type();
    const std::string made_by = producer != nullptr ? fmt::format(" (made by node '{}', {})", producer->name, producer->op_type) : "";
    if (proto.value_case() == onnx::TypeProto::VALUE_NOT_SET) return {};
    if (!proto.has_tensor_type())
      fail(ErrorCode::kUnsupported, "{}{} is no dense tensor: sequences, maps, optional and sparse values are not supported", what,
           made_by);
    const auto& tensor = proto.tensor_type();
    TensorType type;
    type.dtype = element_type_from_onnx(tensor.elem_type());
    if (type.dtype == DataType::kUndefined && tensor.elem_type() != 0)
      fail(ErrorCode::kUnsupported, "{}{} has elements of type {}, which is not supported", what, made_by,
           onnx_element_type_name(tensor.elem_type()));
    if (!tensor.has_shape()) return type;
    type.has_rank = true;
    for (const auto& dim : tensor.shape().dim()) {
      if (dim.has_dim_value() && dim.dim_value() >= 0)
        type.dims.push_back({.size = dim.dim_value(), .symbol = {}});
      else if (dim.has_dim_value() && dim.dim_value() < -1)
        fail(ErrorCode::kInvalidModel, "{} has an axis of size {}", what, dim.dim_value());
      // Some exporters write -1 for an unknown size.
      else
        type.dims.push_back({.size = -1, .symbol = dim.has_dim_param() ? dim.dim_param() : std::string()});
    }
    return type;
  }

  void read_value_info(const onnx::GraphProto& graph) {
    for (const onnx::ValueInfoProto& info : graph.value_info()) {
      const auto id = graph_.find_value(info.name());
      if (!id || graph_.is_constant(*id)) continue;
      const Value& known = graph_.value(*id);
      const Node* producer = known.producer != kNoNode ? &graph_.node(known.producer) : nullptr;
      if (producer == nullptr) continue;
      editor_.set_type(*id, type_of(info, fmt::format("value '{}'", info.name()), producer));
    }
  }

  void read_outputs(const onnx::GraphProto& graph) {
    if (graph.output_size() == 0) fail(ErrorCode::kInvalidModel, "not an ONNX model or damaged: the graph has no outputs");
    std::unordered_set<std::string_view> seen;
    std::vector<ValueId> outputs;
    for (const onnx::ValueInfoProto& info : graph.output()) {
      if (!seen.insert(info.name()).second) fail(ErrorCode::kInvalidModel, "graph output '{}' is listed twice", info.name());
      const auto id = graph_.find_value(info.name());
      if (!id) fail(ErrorCode::kInvalidModel, "graph output '{}' is produced by nothing", info.name());
      const NodeId producer = graph_.value(*id).producer;
      TensorType type =
          type_of(info, fmt::format("graph output '{}'", info.name()), producer != kNoNode ? &graph_.node(producer) : nullptr);
      if (producer != kNoNode && type.dtype != DataType::kUndefined) editor_.set_type(*id, std::move(type));
      outputs.push_back(*id);
    }
    editor_.set_outputs(std::move(outputs));
  }

  onnx::ModelProto& model_;
  ExternalData external_;
  Graph graph_;
  GraphEditor editor_;
  std::set<std::pair<std::string, std::string>> functions_;
};

}  // namespace

Graph import_onnx(const std::string& path) {
  onnx::ModelProto model;
  parse_file(path, "an ONNX model", ErrorCode::kInvalidModel, model);
  try {
    return Importer(path, model).run();
  } catch (const Error& error) {
    throw Error(error.code(), one_line(path + ": " + error.what()));
  }
}

NamedTensor read_onnx_tensor(const std::string& path) {
  onnx::TensorProto proto;
  parse_file(path, "an ONNX tensor", ErrorCode::kInvalidData, proto);
  try {
    NamedTensor result;
    result.name = proto.name();
    result.tensor = take_tensor(proto, fmt::format("tensor '{}'", result.name), nullptr);
    return result;
  } catch (const Error& error) {
    throw Error(ErrorCode::kInvalidData, one_line(path + ": not an ONNX tensor or damaged: " + error.what()));
  }
}

}  // namespace nibble
