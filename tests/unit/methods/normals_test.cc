// What BatchNormalization remembers: found, propagated, used without data.
#include "methods/normals.h"

#include <gtest/gtest.h>

#include "methods/layers.h"
#include "networks.h"

namespace nibble {
namespace {

TEST(ClippedNormal, EqualsTheIntegral) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  struct Case {
    double mean, deviation, lo, hi;
  };
  for (const Case& c : {Case{0.3, 1.2, 0, kInf}, Case{2.0, 1.5, 0, 6}, Case{-3, 0.5, 0, 6}, Case{7, 2, 0, 6}, Case{1, 2, -kInf, kInf},
                        Case{0, 1, -kInf, 0.5}}) {
    double first = 0, second = 0;
    constexpr int kSteps = 200000;
    for (int i = 0; i < kSteps; ++i) {  // midpoints of [-10, 10] deviations
      const double t = -10 + 20 * (i + 0.5) / kSteps;
      const double p = std::exp(-0.5 * t * t) / std::sqrt(2 * 3.14159265358979) * 20 / kSteps;
      const double y = std::clamp(c.mean + c.deviation * t, c.lo, c.hi);
      first += p * y;
      second += p * y * y;
    }
    const Moments m = clipped_normal(c.mean, c.deviation, c.lo, c.hi);
    EXPECT_NEAR(m.mean, first, 1e-6);
    EXPECT_NEAR(m.variance, second - first * first, 1e-5);
  }
  EXPECT_EQ(clipped_normal(-1, 0, 0, 6).mean, 0);
  EXPECT_EQ(clipped_normal(9, 0, 0, 6).mean, 6);
}

const char* const kWithNorms = R"(graph g
opset ai.onnx 13
input x float32[1,2,4,4]
const w1 float32[2,2,1,1] = {0.5, -0.3, 1.1, 0.7}
const g1 float32[2] = {0.5, -0.25}
const b1 float32[2] = {2.5, 0.1}
const m1 float32[2] = {0.0, 0.2}
const v1 float32[2] = {1.0, 2.0}
const w2 float32[3,2,1,1] = {0.51, -0.37, 0.93, 0.22, -0.78, 0.44}
const g2 float32[3] = {1.0, 0.5, 0.3}
const b2 float32[3] = {0.0, 0.5, -0.2}
const m2 float32[3] = {0.1, 0.2, 0.3}
const v2 float32[3] = {1.0, 0.5, 0.3}
a = Conv(x, w1) name "one"
n = BatchNormalization(a, g1, b1, m1, v1) name "norm1"
r = Relu(n) name "relu"
c = Conv(r, w2) name "two"
y = BatchNormalization(c, g2, b2, m2, v2) name "norm2"
output y)";

MethodState state_of(const QuantScheme& scheme) {
  const Graph imported = parse_graph_text(kWithNorms);
  Graph graph = imported;
  canonicalize(graph);
  test::Workbench bench = test::workbench(graph, scheme, 1);
  bench.state.normals = batch_norm_normals(imported, graph);
  return bench.state;
}

TEST(Normals, SurviveFoldingAndTellRanges) {
  MethodState state = state_of({});
  ASSERT_EQ(state.normals.size(), 2U);
  EXPECT_EQ(state.normals.at("one").mean, (std::vector<double>{2.5, static_cast<double>(0.1F)}));
  EXPECT_EQ(state.normals.at("one").deviation, (std::vector<double>{0.5, 0.25}));
  EXPECT_EQ(overlay_ranges_of_normals(state), 2);
  EXPECT_NEAR(state.ranges.entries.at("r").range->lo, 0.0, 1e-9);
  EXPECT_NEAR(state.ranges.entries.at("r").range->hi, 2.5 + 6 * 0.5, 1e-6);
  EXPECT_NEAR(state.ranges.entries.at("y").range->lo, -6.0, 1e-6);
}

TEST(Normals, SurviveEqualization) {
  MethodState state = state_of({});
  const auto before = state.normals;
  const auto ratio = [&](std::size_t channel) {
    const LayerView layer = *layer_view(state.graph, 0);
    return bias_of(state.graph, layer)[channel];
  };
  const double bias = ratio(0);
  apply_methods(state, parse_methods("equalization"), {});
  const double s = bias / ratio(0);
  EXPECT_NE(s, 1.0);
  EXPECT_NEAR(state.normals.at("one").mean[0], before.at("one").mean[0] / s, 1e-6);
  EXPECT_NEAR(state.normals.at("one").deviation[0], before.at("one").deviation[0] / s, 1e-6);
}

// A bound behind a ReLU cuts the same normal values as a Clip fused into the layer.
TEST(Normals, GoThroughBounds) {
  const auto moments = [](const std::string& middle) {
    const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,2,2,2]
const w1 float32[2,2,1,1] = {1.0, 0.5, -0.5, 2.0}
const w2 float32[2,2,1,1] = {1.0, 0.5, -0.5, 2.0}
const k float32[1,2,1,1] = {1.5, 1.5}
const low float32[2,1,1] = {0.25, 0.5}
)" + middle + "\ny = Conv(m, w2) name \"two\"\noutput y");
    return propagate_moments(graph, {{"one", {.mean = {1.0, -0.5}, .deviation = {0.8, 0.3}}}});
  };
  const auto last = [](const std::vector<std::optional<ChannelMoments>>& all) { return *all.back(); };
  const ChannelMoments clip = last(moments("m = Conv(x, w1) [activation=\"Clip\", activation_min=0.0, activation_max=1.5] name \"one\""));
  const ChannelMoments bound = last(moments("a = Conv(x, w1) [activation=\"Relu\"] name \"one\"\nm = Min(k, a)"));
  EXPECT_EQ(clip.mean, bound.mean);
  EXPECT_EQ(clip.variance, bound.variance);
  EXPECT_EQ(clip.hi, bound.hi);
  const ChannelMoments other = last(moments("a = Conv(x, w1) [activation=\"Relu\"] name \"one\"\nb = Min(a, k)\nm = Max(b, low)"));
  EXPECT_GT(other.mean[1], clip.mean[1]) << "the floor of 0.5 lifts the second channel";
}

TEST(Absorption, MovesTheBiasAndTheNetworkStaysTheSame) {
  MethodState state = state_of({});
  const Graph before = state.graph;
  apply_methods(state, parse_methods("absorption"), {});
  const LayerView one = *layer_view(state.graph, 0), two = *layer_view(state.graph, 1);
  // c = max(0, 2.5 - 3 * 0.5) = 1 for the first channel, nothing for the second.
  EXPECT_NEAR(bias_of(state.graph, one)[0], bias_of(before, *layer_view(before, 0))[0] - 1.0, 1e-6);
  EXPECT_NEAR(bias_of(state.graph, one)[1], bias_of(before, *layer_view(before, 0))[1], 1e-6);
  EXPECT_NEAR(state.normals.at("one").mean[0], 1.5, 1e-6);
  const auto w = state.graph.value(two.weights).constant->data<float>();
  EXPECT_NEAR(bias_of(state.graph, two)[1], bias_of(before, *layer_view(before, 1))[1] + static_cast<double>(w[2]) * 1.0, 1e-6);
  // Where the first channel stays above 1, both networks are equal.
  Tensor x = Tensor::zeros(DataType::kFloat32, {1, 2, 4, 4});
  for (float& v : x.mutable_data<float>()) v = 0.1F;
  const Tensor a = Interpreter(before).run(std::span(&x, 1))[0], b = Interpreter(state.graph).run(std::span(&x, 1))[0];
  for (std::size_t i = 0; i < a.data<float>().size(); ++i) EXPECT_NEAR(a.data<float>()[i], b.data<float>()[i], 1e-5);
}

TEST(Absorption, DeclinesZeroPaddingByName) {
  const Graph graph = test::NetworkBuilder(3, {1, 2, 6, 6}).conv(4, 1).conv(3, 3, 1, "").build();
  test::Workbench bench = test::workbench(graph, {}, 3);
  apply_methods(bench.state, parse_methods("absorption"), bench.inputs);
  EXPECT_EQ(print_graph(bench.state.graph), print_graph(graph));
  bool named = false;
  for (const std::string& note : bench.state.notes)
    named = named || (note.find("conv1") != std::string::npos && note.find("'conv2' pads") != std::string::npos);
  EXPECT_TRUE(named);
}

TEST(AnalyticBiasCorrection, IsTheWeightErrorTimesTheMeanOfTheInput) {
  QuantScheme scheme;
  scheme.defaults.weights.type.bit_width = 3;
  scheme.defaults.weights.per_channel = false;
  MethodState state = state_of(scheme);
  const LayerView layer = *layer_view(state.graph, 1);
  const std::vector<double> old_bias = bias_of(state.graph, layer);
  const std::vector<float> w(state.graph.value(layer.weights).constant->data<float>().begin(),
                             state.graph.value(layer.weights).constant->data<float>().end());
  apply_methods(state, parse_methods("analytic_bias_correction"), {});
  const std::vector<double> bias = bias_of(state.graph, *layer_view(state.graph, 1));
  float most = 0;
  for (const float x : w) most = std::max(most, std::abs(x));
  const double step = static_cast<double>(most) / 3;
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const double mean[2] = {clipped_normal(2.5, 0.5, 0, kInf).mean, clipped_normal(0.1, 0.25, 0, kInf).mean};
  for (std::size_t o = 0; o < 3; ++o) {
    double wanted = old_bias[o];
    for (std::size_t i = 0; i < 2; ++i) {
      const auto x = static_cast<double>(w[o * 2 + i]);
      wanted -= (std::nearbyint(x / step) * step - x) * mean[i];
    }
    EXPECT_NEAR(bias[o], wanted, 1e-5) << "channel " << o;
  }
}

TEST(WeightCorrection, MeanAndDeviationOfEveryChannelAreThoseOfTheFloatWeights) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    const Graph graph = test::NetworkBuilder(seed, {1, 8, 6, 6}).conv(5, 3, 1, "").build();
    QuantScheme scheme;
    scheme.defaults.weights.type.bit_width = 3;
    test::Workbench bench = test::workbench(graph, scheme, seed);
    apply_methods(bench.state, parse_methods("weight_correction"), {});
    const QuantizedGraph model = quantize(bench.state.graph, bench.state.ranges, scheme);
    for (const Node& node : model.graph.nodes()) {
      if (node.op_type != "Conv") continue;
      const std::vector<double> codes = to_doubles(*model.graph.value(node.inputs[1]).constant);
      const QuantParams& grid = *model.params_of(node.inputs[1]);
      const auto w = graph.value(graph.node(0).inputs[1]).constant->data<float>();
      for (std::size_t o = 0; o < 5; ++o) {
        double mean_w = 0, mean_q = 0, var_w = 0, var_q = 0;
        for (std::size_t i = 0; i < 72; ++i) {
          EXPECT_LE(std::abs(codes[o * 72 + i]), 3);
          mean_w += static_cast<double>(w[o * 72 + i]) / 72;
          mean_q += codes[o * 72 + i] * static_cast<double>(grid.scale[o]) / 72;
        }
        for (std::size_t i = 0; i < 72; ++i) {
          var_w += std::pow(static_cast<double>(w[o * 72 + i]) - mean_w, 2);
          var_q += std::pow(codes[o * 72 + i] * static_cast<double>(grid.scale[o]) - mean_q, 2);
        }
        // Half a step over 72 weights is what single codes can hold; the second scaling moves it a little.
        EXPECT_NEAR(mean_q, mean_w, 0.7 * static_cast<double>(grid.scale[o]) / 72) << "seed " << seed;
        EXPECT_NEAR(std::sqrt(var_q / var_w), 1.0, 0.01) << "seed " << seed;
      }
    }
  }
}

TEST(Synthetic, StaysInItsBoundsAndRepeats) {
  const Graph graph = parse_graph_text(kWithNorms);
  const auto a = synthetic_dataset(graph, {{-1, 1}, {0, 3}}, 4, 9), b = synthetic_dataset(graph, {{-1, 1}, {0, 3}}, 4, 9);
  EXPECT_TRUE(bit_equal(a->sample(2).inputs[0], b->sample(2).inputs[0]));
  EXPECT_FALSE(bit_equal(a->sample(2).inputs[0], a->sample(3).inputs[0]));
  const Tensor x = a->sample(1).inputs[0];
  for (std::size_t i = 0; i < 32; ++i) {
    EXPECT_GE(x.data<float>()[i], i < 16 ? -1 : 0);
    EXPECT_LE(x.data<float>()[i], i < 16 ? 1 : 3);
  }
}

}  // namespace
}  // namespace nibble
