#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "model_builder.h"
#include "nibble/calibrate.h"
#include "nibble/quantize.h"

namespace nibble {
namespace {

using test::expect_error;
using test::TemporaryFolder;

// A small network with everything: Conv + Relu, a residual Add, a Pad, pools, a Concat, a Reshape, a Gemm, a float Softmax.
QuantizedGraph small_network(const QuantScheme& scheme) {
  Graph graph = parse_graph_text(R"(graph small
opset ai.onnx 13
input x float32[batch,2,6,6]
const w1 float32[4,2,3,3] splat 0.07
const w2 float32[4,4,1,1] = {0.5, -0.25, 0.125, 0.3, 0.1, 0.2, -0.3, 0.4, -0.5, 0.6, 0.7, -0.8, 0.9, 0.11, -0.12, 0.13}
const b1 float32[4] = {0.1, -0.2, 0.3, -0.4}
const w3 float32[8,3] splat -0.3
const b3 float32[3] = {1.0, 0.5, -0.5}
const shape int64[2] = {0, -1}
const pads int64[8] = {0, 0, 1, 0, 0, 0, 0, 1}
c1 = Conv(x, w1, b1) [pads=[1, 1, 1, 1], activation="Relu"] name "conv1"
c2 = Conv(c1, w2) name "conv2"
a = Add(c1, c2) [activation="Clip", activation_min=-0.25, activation_max=1.5] name "add"
pd = Pad(a, pads) name "pad"
p = MaxPool(pd) [kernel_shape=[2, 2], strides=[2, 2]] name "pool"
s = Sigmoid(p) name "sigmoid"
g1 = GlobalAveragePool(p) name "gap1"
g2 = GlobalAveragePool(s) name "gap2"
k = Concat(g1, g2) [axis=1] name "concat"
f = Reshape(k, shape) name "reshape"
m = Gemm(f, w3, b3) name "gemm"
y = Softmax(m) [axis=-1] name "softmax"
output y
)");
  RangeTable ranges;
  constexpr double kLow = -1.0;
  for (const Value& value : graph.values()) {
    if (value.constant) continue;
    RangeEntry entry;
    entry.range = Range{kLow, 2.0};
    if (value.name == "c1") entry.range = Range{0.0, 3.0};
    ranges.entries.emplace(value.name, entry);
  }
  return quantize(graph, ranges, scheme);
}

std::vector<Tensor> random_input(unsigned seed) {
  Tensor x(DataType::kFloat32, {2, 2, 6, 6});
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> in(-1.5F, 2.5F);
  for (float& v : x.mutable_data<float>()) v = in(random);
  return {x};
}

void expect_round_trip(const QuantizedGraph& model, QuantFormat format) {
  const TemporaryFolder folder;
  const std::string path = folder / "q.onnx";
  export_onnx(model, path, {.format = format, .metadata = {{"scheme", "test"}}});
  const Graph read = import_onnx(path);
  verify(read);
  EXPECT_TRUE(has_quantization(read));
  const QuantizedGraph again = quantized_from_onnx_graph(read);
  EXPECT_EQ(again.law, model.law);
  EXPECT_EQ(read.metadata().at("nibble.scheme"), "test");
  const auto integers = [](const QuantizedGraph& q) {
    return std::count_if(q.layers.begin(), q.layers.end(), [](const LayerInfo& l) { return l.integer; });
  };
  EXPECT_EQ(integers(again), integers(model));
  // Values that are integers in both, by name: the same integers.
  std::map<std::string, Tensor> want;
  for (unsigned seed = 1; seed <= 3; ++seed) {
    const auto input = random_input(seed);
    const auto a = simulate(model, input, [&](ValueId id, const Tensor& t) {
      if (model.params_of(id) != nullptr) want.insert_or_assign(model.graph.value(id).name, t);
    });
    int compared = 0;
    const auto b = simulate(again, input, [&](ValueId id, const Tensor& t) {
      const auto it = want.find(again.graph.value(id).name);
      if (again.params_of(id) == nullptr || it == want.end()) return;
      ++compared;
      EXPECT_TRUE(bit_equal(it->second, t)) << it->first << " seed " << seed;
    });
    EXPECT_GE(compared, 8);
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(bit_equal(a[i], b[i])) << "seed " << seed;
  }
}

TEST(Export, RoundTripKeepsEveryInteger) {
  for (const QuantFormat format : {QuantFormat::kQdq, QuantFormat::kQOperator}) {
    for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint}) {
      for (const bool is_signed : {false, true}) {
        for (const bool narrow : {false, true}) {
          if (narrow && !is_signed) continue;
          SCOPED_TRACE(fmt::format("format {} law {} signed {} narrow {}", static_cast<int>(format), to_string(law), is_signed, narrow));
          QuantScheme scheme;
          scheme.law = law;
          scheme.defaults.activations.symmetric = narrow;
          scheme.defaults.activations.type = {.bit_width = 8, .is_signed = is_signed, .narrow_range = narrow};
          expect_round_trip(small_network(scheme), format);
        }
      }
    }
  }
}

TEST(Export, RoundTripOfOtherWidths) {
  for (const int weight_bits : {4, 7}) {
    for (const int activation_bits : {6, 8}) {
      SCOPED_TRACE(fmt::format("{} bit weights, {} bit activations", weight_bits, activation_bits));
      QuantScheme scheme;
      scheme.defaults.weights.type.bit_width = weight_bits;
      scheme.defaults.activations.type.bit_width = activation_bits;
      for (const QuantFormat format : {QuantFormat::kQdq, QuantFormat::kQOperator}) expect_round_trip(small_network(scheme), format);
    }
  }
}

std::map<std::string, int> op_counts(const Graph& graph) {
  std::map<std::string, int> counts;
  for (const Node& node : graph.nodes()) ++counts[node.op_type];
  return counts;
}

TEST(Export, QdqIsCanonical) {
  const QuantizedGraph model = small_network({});
  const Graph graph = export_graph(model, {});
  EXPECT_EQ(graph.opset(""), 13);
  const auto consumers = graph.consumers();
  for (const Node& node : graph.nodes()) {
    if (node.op_type == "DequantizeLinear") {
      EXPECT_EQ(consumers[static_cast<std::size_t>(node.outputs[0])].size(), 1U) << node.name;
    }
    if (node.op_type == "Conv" || node.op_type == "Gemm") {
      for (const ValueId id : node.inputs) EXPECT_EQ(graph.node(graph.value(id).producer).op_type, "DequantizeLinear");
      const auto& readers = consumers[static_cast<std::size_t>(node.outputs[0])];
      ASSERT_EQ(readers.size(), 1U);
      EXPECT_EQ(graph.node(readers[0]).op_type, "QuantizeLinear");
    }
    EXPECT_FALSE(node.has("activation"));
    EXPECT_TRUE(node.domain.empty());
  }
  // The Relu is what the unsigned grid does anyway; the Clip is not.
  EXPECT_EQ(op_counts(graph)["Relu"], 0);
  EXPECT_EQ(op_counts(graph)["Clip"], 1);
  EXPECT_EQ(graph.value(graph.inputs()[0]).type.dtype, DataType::kFloat32);
}

TEST(Export, OperatorFormHoldsNoFloatBetweenIntegerNodes) {
  const Graph graph = export_graph(small_network({}), {.format = QuantFormat::kQOperator, .metadata = {}});
  auto counts = op_counts(graph);
  EXPECT_EQ(counts["QLinearConv"], 2);
  EXPECT_EQ(counts["QLinearAdd"], 1);
  EXPECT_EQ(counts["QLinearGlobalAveragePool"], 2);
  EXPECT_EQ(counts["QLinearSigmoid"], 1);
  EXPECT_EQ(counts["QGemm"], 1);
  EXPECT_EQ(counts["Conv"] + counts["Add"] + counts["Gemm"], 0);
  EXPECT_EQ(graph.opset("com.microsoft"), 1);
}

TEST(Export, WeightsAreStoredAsIntegersAndBytesAreStable) {
  const QuantizedGraph model = small_network({});
  const Graph graph = export_graph(model, {});
  int int8_weights = 0;
  for (const Value& value : graph.values()) {
    if (value.constant && value.constant->type() == DataType::kInt8 && value.constant->rank() >= 2) ++int8_weights;
    EXPECT_FALSE(value.constant && value.constant->type() == DataType::kFloat32 && value.constant->size() > 8) << value.name;
  }
  EXPECT_EQ(int8_weights, 3);
  EXPECT_EQ(serialize_onnx(graph), serialize_onnx(export_graph(small_network({}), {})));
}

TEST(Export, FourBitWeightsNeedOpset21) {
  QuantScheme scheme;
  scheme.defaults.weights.type.bit_width = 4;
  const Graph graph = export_graph(small_network(scheme), {});
  EXPECT_EQ(graph.opset(""), 21);
  onnx::ModelProto proto;
  ASSERT_TRUE(proto.ParseFromString(serialize_onnx(graph)));
  EXPECT_EQ(proto.ir_version(), 10);
  int packed = 0;
  for (const auto& tensor : proto.graph().initializer()) packed += tensor.data_type() == 22 && tensor.dims_size() >= 2 ? 1 : 0;
  EXPECT_EQ(packed, 3);
}

TEST(Export, RefusesTargetsThatMustNotBeOverwritten) {
  const QuantizedGraph model = small_network({});
  const TemporaryFolder folder;
  const std::string input = folder / "in.onnx";
  test::write_bytes(input, "the input");
  std::filesystem::create_hard_link(input, folder / "other_name.onnx");
  std::filesystem::create_directory(folder / "folder.onnx");
  std::filesystem::create_symlink("in.onnx", folder / "link.onnx");
  expect_error(ErrorCode::kInvalidArgument, {"input model"}, [&] { export_onnx(model, input, {}, input); });
  expect_error(ErrorCode::kInvalidArgument, {"input model"}, [&] { export_onnx(model, folder / "other_name.onnx", {}, input); });
  expect_error(ErrorCode::kInvalidArgument, {"folder.onnx"}, [&] { export_onnx(model, folder / "folder.onnx", {}, input); });
  expect_error(ErrorCode::kInvalidArgument, {"link.onnx"}, [&] { export_onnx(model, folder / "link.onnx", {}, "elsewhere.onnx"); });
  expect_error(ErrorCode::kIo, {"missing"}, [&] { export_onnx(model, folder / "missing/out.onnx", {}, input); });
  const std::int64_t size = export_onnx(model, folder / "out.onnx", {}, input);
  EXPECT_EQ(static_cast<std::uintmax_t>(size), std::filesystem::file_size(folder / "out.onnx"));
}

}  // namespace
}  // namespace nibble
