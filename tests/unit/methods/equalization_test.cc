#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "methods/layers.h"
#include "networks.h"
#include "nibble/onnx.h"

namespace nibble {
namespace {

QuantScheme per_tensor() {
  QuantScheme scheme;
  scheme.defaults.weights.per_channel = false;
  return scheme;
}

double sqnr_db(const Graph& truth, const Graph& other, const test::Workbench& bench) {
  return MethodJudge(truth, bench.evaluation, 1, nullptr).float_sqnr_db(other);
}

// Largest |weight| of each output (input) channel, straight from the tensor of a Conv.
std::vector<double> ranges(const Graph& graph, const std::string& name, bool outputs) {
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    if (graph.node(n).name != name) continue;
    const LayerView layer = *layer_view(graph, n);
    const auto w = graph.value(layer.weights).constant->data<float>();
    std::vector<double> r(static_cast<std::size_t>(outputs ? layer.outputs() : layer.inputs()), 0.0);
    for (std::int64_t o = 0; o < layer.outputs(); ++o) {
      for (std::int64_t i = 0; i < layer.group_in; ++i) {
        for (std::int64_t t = 0; t < layer.taps; ++t) {
          double& x = r[static_cast<std::size_t>(outputs ? o : o / layer.group_out * layer.group_in + i)];
          x = std::max(x, std::abs(static_cast<double>(w[static_cast<std::size_t>(layer.place(o, i, t))])));
        }
      }
    }
    return r;
  }
  return {};
}

TEST(Equalization, APairGetsTheScaleOfTheEquation) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,1,2,2]
const w1 float32[2,1,1,1] = {8.0, 0.5}
const b1 float32[2] = {4.0, 1.0}
const w2 float32[1,2,1,1] = {0.5, 2.0}
a = Conv(x, w1, b1) [activation="Relu"] name "one"
y = Conv(a, w2) name "two"
output y)");
  test::Workbench bench = test::workbench(graph, per_tensor(), 1);
  apply_methods(bench.state, parse_methods("equalization"), bench.inputs);
  // s = sqrt(8 / 0.5) = 4 and sqrt(0.5 / 2) = 0.5: W1 = {2, 1}, b1 = {1, 2}, W2 = {2, 1}.
  const auto constant = [&](NodeId n, std::size_t i) {
    return bench.state.graph.value(bench.state.graph.node(n).inputs[i]).constant->data<float>();
  };
  EXPECT_FLOAT_EQ(constant(0, 1)[0], 2.0F);
  EXPECT_FLOAT_EQ(constant(0, 1)[1], 1.0F);
  EXPECT_FLOAT_EQ(constant(0, 2)[0], 1.0F);
  EXPECT_FLOAT_EQ(constant(0, 2)[1], 2.0F);
  EXPECT_FLOAT_EQ(constant(1, 1)[0], 2.0F);
  EXPECT_FLOAT_EQ(constant(1, 1)[1], 1.0F);
}

TEST(Equalization, TheNetworkStaysTheSameAndItsQuantizedFormGetsBetter) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    const Graph graph = test::NetworkBuilder(seed, {1, 3, 8, 8})
                            .conv(12, 3, 1, "Relu", 3)
                            .conv(12, 3, 12, "Relu", 3)
                            .conv(8, 1, 1, "", 0)
                            .conv(16, 1)
                            .pool_and_classify(5)
                            .build();
    test::Workbench bench = test::workbench(graph, per_tensor(), seed);
    const double before = test::loss_of(bench, graph);
    apply_methods(bench.state, parse_methods("equalization"), bench.inputs);
    EXPECT_GT(sqnr_db(graph, bench.state.graph, bench), 110.0) << "float32 has 2^-24: some 120 dB over these few layers; seed " << seed;
    EXPECT_LT(test::loss_of(bench, graph), 0.3 * before) << "seed " << seed;
    // The fixed point: both sides of each bundle have the same ranges, through the depthwise layer too.
    for (const auto& [a, b] : {std::pair("conv1", "conv2"), std::pair("conv2", "conv3")}) {
      const auto r1 = ranges(bench.state.graph, a, true), r2 = ranges(bench.state.graph, b, false);
      for (std::size_t c = 0; c < r1.size(); ++c) EXPECT_NEAR(r1[c], r2[c], 0.01 * r1[c]) << a << ", channel " << c << ", seed " << seed;
    }
  }
}

TEST(Equalization, ResidualStreamsShareTheirScales) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,1,2,2]
const w1 float32[2,1,1,1] = {8.0, 0.5}
const w2 float32[2,2,1,1] = {1.0, 0.25, -0.5, 0.125}
const w3 float32[2,2,1,1] = {0.5, 0.5, 1.0, 2.0}
a = Conv(x, w1) [activation="Relu"] name "one"
b = Conv(a, w2) name "two"
s = Add(a, b) [activation="Relu"] name "add"
y = Conv(s, w3) name "three"
output y)");
  test::Workbench bench = test::workbench(graph, per_tensor(), 2);
  apply_methods(bench.state, parse_methods("equalization"), bench.inputs);
  EXPECT_GT(sqnr_db(graph, bench.state.graph, bench), 110.0);
  EXPECT_NE(ranges(bench.state.graph, "one", true)[0], 8.0);
}

TEST(Equalization, ChannelsWithAlmostNoWeightAreLeftAlone) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,1,2,2]
const w1 float32[3,1,1,1] = {8.0, 0.00001, 0.0}
const b1 float32[3] = {4.0, 1.0, 2.0}
const w2 float32[1,3,1,1] = {0.5, 2.0, 1.0}
a = Conv(x, w1, b1) [activation="Relu"] name "one"
y = Conv(a, w2) name "two"
output y)");
  test::Workbench bench = test::workbench(graph, per_tensor(), 1);
  apply_methods(bench.state, parse_methods("equalization"), bench.inputs);
  const auto bias = bench.state.graph.value(bench.state.graph.node(0).inputs[2]).constant->data<float>();
  EXPECT_FLOAT_EQ(bias[0], 1.0F);
  EXPECT_FLOAT_EQ(bias[1], 1.0F);
  EXPECT_FLOAT_EQ(bias[2], 2.0F);
}

TEST(Equalization, WhatGoesInAndOutAndWhatIsNoScalingIsFrozen) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,1,2,2]
const w1 float32[2,1,1,1] = {8.0, 0.5}
const w2 float32[1,2,1,1] = {0.5, 2.0}
a = Conv(x, w1) name "one"
s = Sigmoid(a) name "sigmoid"
y = Conv(s, w2) name "two"
output y)");
  test::Workbench bench = test::workbench(graph, per_tensor(), 1);
  apply_methods(bench.state, parse_methods("equalization"), bench.inputs);
  EXPECT_EQ(print_graph(bench.state.graph), print_graph(graph));
}

// Without samples that decide, clips stay: the equalized network must be the float network up to float32's rounding.
TEST(Equalization, RealNetworksStayTheSame) {
  const char* folder = std::getenv("NIBBLE_ASSETS");
  const std::filesystem::path assets = folder != nullptr ? folder : NIBBLE_SOURCE_DIR "/../shared/assets";
  if (!std::filesystem::exists(assets / "models")) GTEST_SKIP() << assets << " is not here: set NIBBLE_ASSETS";
  for (const char* name : {"mobilenet_v2_1.0_224", "squeezenet1.1_gluon", "cifar10_resnet20", "cifar10_resnet56"}) {
    Graph graph = import_onnx((assets / "models" / (std::string(name) + ".onnx")).string());
    canonicalize(graph);
    const std::shared_ptr<const Dataset> images = synthetic_dataset(graph, {{0, 1}, {0, 1}, {0, 1}}, 2, 5);
    MethodState state = method_state(graph, {}, {});
    apply_methods(state, parse_methods("equalization"), {});
    const double db = MethodJudge(graph, images, 1, nullptr).float_sqnr_db(state.graph);
    std::string notes;
    for (const std::string& note : state.notes) notes += note + "; ";
    EXPECT_GE(db, 90.0) << name << ": " << notes;
    RecordProperty(name, std::to_string(db) + " dB; " + notes);
    EXPECT_NE(notes.find("bundles"), std::string::npos) << notes;
  }
}

}  // namespace
}  // namespace nibble
