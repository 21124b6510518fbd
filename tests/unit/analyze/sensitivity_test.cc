// The layers' figures against an obvious oracle: a graph with that layer's constants replaced, run from the start.
#include "analyze/sensitivity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "analyze/fake_quantized.h"
#include "nibble/error.h"
#include "numeric/quantize.h"
#include "report/scores.h"
#include "unit/analyze/small_network.h"

namespace nibble {
namespace {

using test::Samples;

// Sums over other orders of the same floats; a dB is 23 % of the noise.
constexpr double kDb = 0.01;

TEST(Sensitivity, WeightsOfEachLayerAloneEqualARunOfTheChangedGraph) {
  Graph graph = test::small_network();
  canonicalize(graph);
  const Samples samples(test::samples_of(3, 4));
  const QuantizedGraph quantized = quantize(graph, calibrate(graph, samples, {}).at(0), {});
  const FakeQuantized fake = fake_quantized(graph, quantized);
  const auto layers = layer_sensitivities(graph, fake, samples, 2, nullptr);
  std::size_t weighted = 0;
  for (const LayerSensitivity& layer : layers) {
    if (!layer.own_weights_db) continue;
    ++weighted;
    Graph changed = graph;
    ValueId own = kNoValue;
    for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
      if (graph.node(n).name != layer.name) continue;
      own = graph.node(n).output(0);
      for (const auto& [v, tensor] : fake.constants[static_cast<std::size_t>(n)]) test::set_constant(changed, graph.value(v).name, tensor);
    }
    SquareSums at_own, at_output;
    double kl = 0;
    for (std::int64_t i = 0; i < samples.size(); ++i) {
      Tensor expected_own;
      const auto expected = Interpreter(graph).run(samples.sample(i).inputs, [&](ValueId v, const Tensor& t) {
        if (v == own) expected_own = t;
      });
      const auto found = Interpreter(changed).run(samples.sample(i).inputs, [&](ValueId v, const Tensor& t) {
        if (v == own) at_own.add(expected_own.data<float>(), t.data<float>());
      });
      at_output.add(expected[0].data<float>(), found[0].data<float>());
      kl += mean_kl(expected[0], found[0]) / 3;
    }
    EXPECT_NEAR(*layer.own_weights_db, at_own.sqnr_db(), kDb) << layer.name;
    EXPECT_NEAR(*layer.output_weights_db, at_output.sqnr_db(), kDb) << layer.name;
    EXPECT_NEAR(layer.weights_kl.value(), kl, 1e-6 + 0.01 * kl) << layer.name;
  }
  EXPECT_EQ(weighted, 6U);
}

TEST(Sensitivity, AllUpToALayerIsTheSimulationUpToRounding) {
  Graph graph = test::small_network();
  canonicalize(graph);
  const Samples samples(test::samples_of(4, 4));
  const QuantizedGraph quantized = quantize(graph, calibrate(graph, samples, {}).at(0), {});
  const auto layers = layer_sensitivities(graph, fake_quantized(graph, quantized), samples, 1, nullptr);
  SquareSums sums;
  for (std::int64_t i = 0; i < samples.size(); ++i) {
    const auto expected = Interpreter(graph).run(samples.sample(i).inputs);
    const auto found = simulate(quantized, samples.sample(i).inputs);
    sums.add(expected[0].data<float>(), found[0].data<float>());
  }
  // Integers round once where reals on a grid round at each step: codes differ by one here and there.
  EXPECT_NEAR(layers.back().own_up_to_db, sums.sqnr_db(), 1.0);
  EXPECT_LT(layers.back().own_up_to_db, layers.back().own_alone_db);
}

TEST(Sensitivity, DoesNotDependOnThreadsAndTheInputIsARow) {
  Graph graph = test::small_network();
  canonicalize(graph);
  const Samples samples(test::samples_of(5, 4));
  const QuantizedGraph quantized = quantize(graph, calibrate(graph, samples, {}).at(0), {});
  const FakeQuantized fake = fake_quantized(graph, quantized);
  const auto one = layer_sensitivities(graph, fake, samples, 1, nullptr), three = layer_sensitivities(graph, fake, samples, 3, nullptr);
  ASSERT_EQ(one.size(), three.size());
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].own_alone_db, three[i].own_alone_db);
    EXPECT_EQ(one[i].output_alone_db, three[i].output_alone_db);
    EXPECT_EQ(one[i].alone_kl, three[i].alone_kl);
  }
  EXPECT_EQ(one[0].op_type, "Input");
  EXPECT_FALSE(one[0].own_weights_db.has_value());
}

TEST(Analyze, JsonHoldsWhatTheResultHolds) {
  AnalyzeOptions options;
  options.sensitivity_samples = 1;
  options.recipe = test::imagenet_recipe();
  const AnalyzeResult result = analyze(test::small_network(), std::make_shared<Samples>(test::samples_of(40, 1)), options);
  const auto json = nlohmann::json::parse(to_json(result));
  EXPECT_EQ(json["layers"].size(), result.layers.size());
  EXPECT_EQ(json["causes"].size(), 0U);
  EXPECT_EQ(json["layers"][0]["name"], "x");
  EXPECT_EQ(json["quantized"]["samples"], result.quantized.samples);
  EXPECT_THAT(to_text(result), testing::AllOf(testing::HasSubstr("conv5"), testing::HasSubstr("causes: none found")));
}

TEST(Analyze, RefusesAnEmptyDatasetAndAModelThatIsQuantized) {
  EXPECT_THROW(analyze(test::small_network(), std::make_shared<Samples>(std::vector<Sample>{}), {}), Error);
  const Graph quantized = parse_graph_text(
      "graph g\nopset ai.onnx 13\ninput x float32[4]\nconst s float32[] = {1}\nq = QuantizeLinear(x, s)\ny = DequantizeLinear(q, "
      "s)\noutput y");
  try {
    analyze(quantized, std::make_shared<Samples>(test::samples_of(2, 1)), {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), testing::HasSubstr("quantized already"));
  }
}

class Stops final : public ProgressSink {
 public:
  bool cancelled() override { return true; }
};
TEST(Analyze, StopsOnRequest) {
  Stops stops;
  AnalyzeOptions options;
  options.progress = &stops;
  try {
    analyze(test::small_network(), std::make_shared<Samples>(test::samples_of(16, 1)), options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  }
}

}  // namespace
}  // namespace nibble
