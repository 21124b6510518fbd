// The ladder of `auto`.
#include <gtest/gtest.h>

#include <algorithm>

#include "methods/layers.h"
#include "networks.h"

namespace nibble {
namespace {

QuantScheme bits(int width) {
  QuantScheme scheme;
  scheme.defaults.weights.type.bit_width = width;
  return scheme;
}

// Weights that are mostly above 0, so that a grid around 0 leaves half of its codes unused.
Graph lopsided(std::uint64_t seed) {
  Graph graph = test::NetworkBuilder(seed, {1, 3, 8, 8}).conv(12, 3).conv(12, 3).conv(16, 1).pool_and_classify(5).build();
  std::map<NodeId, LayerEdit> edits;
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    const auto view = layer_view(graph, n);
    if (!view || graph.node(n).op_type != "Conv") continue;
    Tensor w = *graph.value(view->weights).constant;
    for (float& x : w.mutable_data<float>()) x = x < 0 ? 0.25F * x : x;
    edits[n].weights = std::move(w);
  }
  write_constants(graph, edits, nullptr);
  return graph;
}

const LadderRung* affine_rung(const MethodsChoice& choice) {
  for (const LadderRung& rung : choice.ladder) {
    if (rung.methods.find("affine") != std::string::npos) return &rung;
  }
  return nullptr;
}

TEST(ChooseMethods, EveryKeptRungIsLowerAndTheLastIsWhatComesOut) {
  const Graph graph = lopsided(3);
  test::Workbench bench = test::workbench(graph, bits(4), 3);
  const MethodsChoice choice = choose_methods(bench.state, bench.inputs);
  ASSERT_FALSE(choice.ladder.empty());
  EXPECT_EQ(choice.ladder[0].methods, "none");
  EXPECT_TRUE(choice.ladder[0].kept);
  double lowest = choice.ladder[0].loss;
  for (std::size_t i = 1; i < choice.ladder.size(); ++i) {
    if (!choice.ladder[i].kept) continue;
    EXPECT_LT(choice.ladder[i].loss, lowest);
    lowest = choice.ladder[i].loss;
  }
  const MethodJudge judge(graph, bench.inputs.deciding, 1, nullptr);
  EXPECT_EQ(judge(quantize(choice.state.graph, choice.state.ranges, choice.state.scheme)).loss, lowest);
}

TEST(ChooseMethods, BelowEightBitsWeightsGetZeroPointsWhereThatHelps) {
  test::Workbench bench = test::workbench(lopsided(4), bits(3), 4, 64);
  const MethodsChoice choice = choose_methods(bench.state, bench.inputs);
  const LadderRung* rung = affine_rung(choice);
  ASSERT_NE(rung, nullptr);
  EXPECT_TRUE(rung->kept) << to_text(choice.ladder);
  EXPECT_FALSE(choice.state.scheme.defaults.weights.symmetric);
  const QuantizedGraph model = quantize(choice.state.graph, choice.state.ranges, choice.state.scheme);
  const QuantParams* weights = model.params_of(model.graph.node(1).inputs[1]);
  ASSERT_NE(weights, nullptr);
  EXPECT_FALSE(weights->symmetric());
}

TEST(ChooseMethods, WeightsStayAsTheyAreWithEightBitsAndOnTargetsWithoutZeroPoints) {
  QuantScheme tensorrt = scheme_for_target("tensorrt");
  tensorrt.defaults.weights.type.bit_width = 4;
  for (const QuantScheme& scheme : {bits(8), tensorrt}) {
    test::Workbench bench = test::workbench(lopsided(5), scheme, 5);
    const MethodsChoice choice = choose_methods(bench.state, bench.inputs);
    EXPECT_EQ(affine_rung(choice), nullptr) << scheme.target;
    EXPECT_TRUE(choice.state.scheme.defaults.weights.symmetric);
  }
}

}  // namespace
}  // namespace nibble
