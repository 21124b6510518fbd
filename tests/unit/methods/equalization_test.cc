#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "methods/layers.h"
#include "networks.h"
#include "nibble/error.h"
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

// ReLU6 stays exact: 6 becomes 6 / s for each channel.
TEST(Equalization, AClipBecomesABoundForEachChannel) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,1,2,2]
const w1 float32[2,1,1,1] = {8.0, 0.5}
const b1 float32[2] = {4.0, 1.0}
const w2 float32[1,2,1,1] = {0.5, 2.0}
a = Conv(x, w1, b1) [activation="Clip", activation_min=0.0, activation_max=6.0] name "one"
y = Conv(a, w2) name "two"
output y)");
  test::Workbench bench = test::workbench(graph, per_tensor(), 1);
  bench.inputs.deciding = nullptr;
  apply_methods(bench.state, parse_methods("equalization:clips=1"), bench.inputs);
  const Graph& result = bench.state.graph;
  ASSERT_EQ(result.nodes().size(), 3U) << print_graph(result);
  EXPECT_EQ(result.node(0).get_string("activation", ""), "Relu");
  EXPECT_EQ(result.node(1).op_type, "Min");
  EXPECT_EQ(result.value(result.node(1).outputs[0]).name, "a") << "what others know it by";
  const Tensor& bounds = *result.value(result.node(1).inputs[1]).constant;
  EXPECT_EQ(bounds.shape(), (Shape{1, 2, 1, 1}));
  const std::vector<float> k(bounds.data<float>().begin(), bounds.data<float>().end());
  const auto w1 = result.value(result.node(0).inputs[1]).constant->data<float>();
  const auto b1 = result.value(result.node(0).inputs[2]).constant->data<float>();
  const auto w2 = result.value(result.node(2).inputs[1]).constant->data<float>();
  const std::vector<float> old_w1 = {8.0F, 0.5F}, old_b1 = {4.0F, 1.0F}, old_w2 = {0.5F, 2.0F};
  double most1 = 0, reach = 0;
  for (std::size_t c = 0; c < 2; ++c) {
    const float s = 6.0F / k[c];
    EXPECT_FLOAT_EQ(w1[c], old_w1[c] / s);
    EXPECT_FLOAT_EQ(b1[c], old_b1[c] / s);
    EXPECT_FLOAT_EQ(w2[c], old_w2[c] * s);
    most1 = std::max(most1, static_cast<double>(w1[c]));
    reach = std::max(reach, static_cast<double>(k[c]));
  }
  // The fixed point: each channel's left side, weights or bound, whichever reaches further, is its right side.
  for (std::size_t c = 0; c < 2; ++c)
    EXPECT_NEAR(std::max(static_cast<double>(w1[c]) / most1, static_cast<double>(k[c]) / reach) * most1, static_cast<double>(w2[c]), 1e-3);
  EXPECT_GT(sqnr_db(graph, result, bench), 110.0);
  EXPECT_EQ(print_graph(bench.state.reference), print_graph(result));

  // Once more: the bounds are scaled along, and nothing is left to do.
  apply_methods(bench.state, parse_methods("equalization:clips=1"), bench.inputs);
  EXPECT_EQ(bench.state.graph.nodes().size(), 3U);
  const Tensor& again = *bench.state.graph.value(bench.state.graph.node(1).inputs[1]).constant;
  for (std::size_t c = 0; c < 2; ++c) EXPECT_NEAR(again.data<float>()[c], k[c], 1e-3F * k[c]);

  bench.state.graph = bench.state.reference = graph;
  apply_methods(bench.state, parse_methods("equalization:clips=0"), bench.inputs);
  EXPECT_EQ(print_graph(bench.state.graph), print_graph(graph)) << "left alone";
  EXPECT_THROW(apply_methods(bench.state, parse_methods("equalization:clips=2"), bench.inputs), Error);
}

// Whatever stands between two layers: the float network stays the same, with clips in it and without, and once more after that.
TEST(Equalization, RandomNetworksStayTheSame) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    std::mt19937_64 random(seed);
    const auto activation = [&] { return std::array{"Relu", "Clip", "Clip", ""}[random() % 4]; };
    const std::int64_t wide = 4 + static_cast<std::int64_t>(random() % 9);
    const Graph graph = test::NetworkBuilder(seed, {1, 3, 7, 6})
                            .conv(wide, 3, 1, activation(), 2)
                            .conv(wide, 3, wide, activation(), 2)
                            .conv(6, 1, 1, activation(), 0)
                            .conv(6, 3, 1, "Clip", 1)
                            .conv(wide, 1, 1, "Clip")
                            .pool_and_classify(5)
                            .build();
    SCOPED_TRACE("seed " + std::to_string(seed));
    test::Workbench bench = test::workbench(graph, per_tensor(), seed);
    bench.inputs.deciding = nullptr;
    const double before = test::loss_of(bench, graph);
    for (int times = 0; times < 2; ++times) {
      apply_methods(bench.state, parse_methods("equalization:clips=1"), bench.inputs);
      EXPECT_GT(sqnr_db(graph, bench.state.graph, bench), 110.0);
      for (const Node& node : bench.state.graph.nodes()) EXPECT_NE(node.get_string("activation", ""), "Clip") << node.name;
    }
    EXPECT_LT(test::loss_of(bench, graph), 1.5 * before) << "weights get even, activations must not get worse for it";
    // What comes after works through the bounds.
    apply_methods(bench.state, parse_methods("gptq,bias_correction"), bench.inputs);
    EXPECT_LT(test::loss_of(bench, graph), 1.5 * before);
  }
}

// Without samples that decide, clips become bounds: the equalized network must be the float network up to float32's rounding.
TEST(Equalization, RealNetworksStayTheSame) {
  const char* folder = std::getenv("NIBBLE_ASSETS");
  const std::filesystem::path assets = folder != nullptr ? folder : NIBBLE_SOURCE_DIR "/../shared/assets";
  if (!std::filesystem::exists(assets / "models")) GTEST_SKIP() << assets << " is not here: set NIBBLE_ASSETS";
  for (const char* name :
       {"mobilenet_v2_1.0_224", "mobilenet_v1_0.75_224", "squeezenet1.1_gluon", "cifar10_resnet20", "cifar10_resnet56"}) {
    Graph graph = import_onnx((assets / "models" / (std::string(name) + ".onnx")).string());
    canonicalize(graph);
    const std::shared_ptr<const Dataset> images = synthetic_dataset(graph, {{0, 1}, {0, 1}, {0, 1}}, 2, 5);
    MethodState state = method_state(graph, {}, {});
    apply_methods(state, parse_methods("equalization:clips=1"), {});
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
