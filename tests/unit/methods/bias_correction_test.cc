#include <gtest/gtest.h>

#include "networks.h"

namespace nibble {
namespace {

// A scheme that makes errors: 4-bit weights with one scale.
QuantScheme coarse() {
  QuantScheme scheme;
  scheme.defaults.weights.type.bit_width = 4;
  scheme.defaults.weights.per_channel = false;
  return scheme;
}

// Means of a value's channels over data, in the float network and in the simulation, both by plain loops.
std::vector<double> float_means(const Graph& graph, const std::string& value, const Dataset& data) {
  Interpreter interpreter(graph, {.threads = 1, .mode = ExecMode::kFixedOrder});
  std::vector<double> sums;
  double count = 0;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    interpreter.run(data.sample(i).inputs, [&](ValueId id, const Tensor& y) {
      if (graph.value(id).name != value) return;
      sums.resize(static_cast<std::size_t>(y.shape()[1]));
      const std::size_t inner = static_cast<std::size_t>(y.size()) / sums.size();
      for (std::size_t k = 0; k < static_cast<std::size_t>(y.size()); ++k) sums[k / inner] += static_cast<double>(y.data<float>()[k]);
      count += static_cast<double>(inner);
    });
  }
  for (double& s : sums) s /= count;
  return sums;
}
std::vector<double> simulated_means(const QuantizedGraph& model, const std::string& value, const Dataset& data) {
  std::vector<double> sums;
  double count = 0;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const Sample sample = data.sample(i);
    simulate(model, sample.inputs, [&](ValueId id, const Tensor& q) {
      if (model.graph.value(id).name != value) return;
      const QuantParams& params = *model.params_of(id);
      const std::vector<double> codes = to_doubles(q);
      sums.resize(static_cast<std::size_t>(q.shape()[1]));
      const std::size_t inner = codes.size() / sums.size();
      for (std::size_t k = 0; k < codes.size(); ++k)
        sums[k / inner] += (codes[k] - params.zero_point[0]) * static_cast<double>(params.scale[0]);
      count += static_cast<double>(inner);
    });
  }
  for (double& s : sums) s /= count;
  return sums;
}

TEST(BiasCorrection, TheMeanErrorOfEveryLinearLayerIsGone) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    // No activations: what is corrected before the activation can be seen behind it.
    const Graph graph = test::NetworkBuilder(seed, {1, 3, 8, 8}).conv(8, 3, 1, "").conv(8, 3, 8, "").conv(6, 1, 1, "").build();
    test::Workbench bench = test::workbench(graph, coarse(), seed);
    const QuantizedGraph before = quantize(bench.state.graph, bench.state.ranges, bench.state.scheme);
    apply_methods(bench.state, parse_methods("bias_correction"), bench.inputs);
    const QuantizedGraph after = quantize(bench.state.graph, bench.state.ranges, bench.state.scheme);
    // Values inside the network exist as integers; the output's are behind a Dequantize.
    for (const std::string value : {"conv1_y", "conv2_y"}) {
      const auto wanted = float_means(graph, value, *bench.inputs.calibration);
      const auto found = simulated_means(after, value, *bench.inputs.calibration),
                 was = simulated_means(before, value, *bench.inputs.calibration);
      const double step = static_cast<double>(after.params_of(*after.graph.find_value(value))->scale[0]);
      double error = 0, old_error = 0;
      for (std::size_t c = 0; c < wanted.size(); ++c) {
        error = std::max(error, std::abs(found[c] - wanted[c]));
        old_error = std::max(old_error, std::abs(was[c] - wanted[c]));
      }
      // 16 samples of 64 places: the rounding of the output alone leaves step / sqrt(12 * 1024), saturation at the ends a little more.
      EXPECT_LT(error, 0.1 * step) << value << ", seed " << seed;
      EXPECT_GT(old_error, 2 * error) << value << ", seed " << seed;
    }
  }
}

TEST(BiasCorrection, HelpsOnOtherData) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    const Graph graph =
        test::NetworkBuilder(seed, {1, 3, 8, 8}).conv(12, 3).conv(12, 3, 12).conv(16, 1).conv(16, 3, 16).pool_and_classify(5).build();
    test::Workbench bench = test::workbench(graph, coarse(), seed);
    const double before = test::loss_of(bench, graph);
    apply_methods(bench.state, parse_methods("bias_correction"), bench.inputs);
    EXPECT_LT(test::loss_of(bench, graph), 0.7 * before) << "seed " << seed;
  }
}

TEST(BiasCorrection, AddsABiasWhereThereIsNoneAndLeavesTheFloatNetworkAlone) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,1,2,2]
const w float32[2,1,1,1] = {0.37, -1.0}
y = Conv(x, w) name "conv"
output y)");
  test::Workbench bench = test::workbench(graph, coarse(), 4);
  apply_methods(bench.state, parse_methods("bias_correction"), bench.inputs);
  EXPECT_EQ(bench.state.graph.node(0).inputs.size(), 3U);
  EXPECT_EQ(bench.state.reference.node(0).inputs.size(), 2U);
  // 0.37 lies on the grid of 1/7 as 3/7: the bias takes the mean of the difference.
  double mean = 0;
  for (std::int64_t i = 0; i < bench.inputs.calibration->size(); ++i) {
    const Sample sample = bench.inputs.calibration->sample(i);
    for (const float x : sample.inputs[0].data<float>())
      mean += static_cast<double>(x) / 4 / static_cast<double>(bench.inputs.calibration->size());
  }
  const auto bias = bench.state.graph.value(bench.state.graph.node(0).inputs[2]).constant->data<float>();
  EXPECT_NEAR(bias[0], (0.37 - 3.0 / 7.0) * mean, 0.002) << "the input's own rounding is corrected as well: some 1e-3";
}

TEST(BiasCorrection, TheSameSeedGivesTheSameBits) {
  const Graph graph = test::NetworkBuilder(5, {1, 3, 8, 8}).conv(8, 3).conv(8, 3, 8).pool_and_classify(4).build();
  std::string texts[2];
  for (int i = 0; i < 2; ++i) {
    test::Workbench bench = test::workbench(graph, coarse(), 5);
    bench.inputs.threads = i + 1;
    apply_methods(bench.state, parse_methods("bias_correction"), bench.inputs);
    texts[i] = print_graph(quantize(bench.state.graph, bench.state.ranges, bench.state.scheme).graph);
  }
  EXPECT_EQ(texts[0], texts[1]);
}

}  // namespace
}  // namespace nibble
