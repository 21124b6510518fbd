// Methods that choose grids: bit allocation, power-of-two scales, clips by loss.
#include <gtest/gtest.h>

#include <numeric>

#include "methods/method_list.h"
#include "networks.h"

namespace nibble {
namespace {

bool is_power_of_two(float x) {
  int exponent = 0;
  return std::frexp(x, &exponent) == 0.5F;
}

QuantScheme bits(int width) {
  QuantScheme scheme;
  scheme.defaults.weights.type.bit_width = width;
  return scheme;
}

TEST(BitAllocation, FollowsTheTwoThirdsLawAndKeepsTheMean) {
  EXPECT_EQ(allocate_bits(std::vector<double>{1, 1, 1, 1}, 4), (std::vector<int>{4, 4, 4, 4}));
  // Ranges 8 times apart are 2 bits apart: 8^(2/3) = 4.
  const std::vector<int> two = allocate_bits(std::vector<double>{8, 1, 1, 1}, 4);
  EXPECT_EQ(two[0] - two[1], 2);
  EXPECT_LE(std::accumulate(two.begin(), two.end(), 0), 16);
  EXPECT_EQ(allocate_bits(std::vector<double>{0, 0}, 3), (std::vector<int>{3, 3})) << "nothing to tell them apart";
  for (const int b : allocate_bits(std::vector<double>{1e6, 1, 1e-6, 0}, 4)) {
    EXPECT_GE(b, 2);
    EXPECT_LE(b, 8);
  }
}

TEST(BitAllocation, CodesStayWithinTheirChannelsBits) {
  const Graph graph = test::NetworkBuilder(2, {1, 3, 6, 6}).conv(8, 3, 1, "", 2).build();
  test::Workbench bench = test::workbench(graph, bits(4), 2);
  apply_methods(bench.state, parse_methods("aciq_bits"), {});
  const auto w = graph.value(graph.node(0).inputs[1]).constant->data<float>();
  std::vector<double> ranges(8, 0.0);
  for (std::size_t i = 0; i < w.size(); ++i) ranges[i / 27] = std::max(ranges[i / 27], std::abs(static_cast<double>(w[i])));
  const std::vector<int> wanted = allocate_bits(ranges, 4);
  const QuantizedGraph model = quantize(bench.state.graph, bench.state.ranges, bits(4));
  for (const Node& node : model.graph.nodes()) {
    if (node.op_type != "Conv") continue;
    const std::vector<double> codes = to_doubles(*model.graph.value(node.inputs[1]).constant);
    for (std::size_t c = 0; c < 8; ++c) {
      double most = 0;
      for (std::size_t i = 0; i < 27; ++i) most = std::max(most, std::abs(codes[c * 27 + i]));
      EXPECT_EQ(most, std::ldexp(1.0, wanted[c] - 1) - 1) << "the largest weight takes the last code of channel " << c;
    }
  }
}

TEST(FixedPoint, EveryScaleIsAPowerOfTwo) {
  for (const char* method : {"qiu", "ristretto"}) {
    const Graph graph = test::NetworkBuilder(3, {1, 3, 8, 8}).conv(8, 3).conv(8, 3, 8).conv(12, 1).pool_and_classify(4).build();
    test::Workbench bench = test::workbench(graph, bits(8), 3);
    apply_methods(bench.state, parse_methods(method), bench.inputs);
    const QuantizedGraph model = quantize(bench.state.graph, bench.state.ranges, bench.state.scheme);
    for (std::size_t v = 0; v < model.params.size(); ++v) {
      if (!model.params[v]) continue;
      for (const float scale : model.params[v]->scale)
        EXPECT_TRUE(is_power_of_two(scale)) << method << ", value " << model.graph.values()[v].name << ": " << scale;
    }
    EXPECT_LT(test::loss_of(bench, graph), 0.1) << method << " keeps an 8-bit network close";
  }
}

TEST(Lapq, LowersTheLossOnItsSamplesAndNeverRaisesIt) {
  double total_before = 0, total_after = 0;
  for (const std::uint64_t seed : {1U, 2U}) {
    const Graph graph = test::NetworkBuilder(seed, {1, 3, 8, 8}).conv(12, 3).conv(16, 1).pool_and_classify(5).build();
    test::Workbench bench = test::workbench(graph, bits(3), seed);
    bench.state.ranges.target = {.type = bench.state.scheme.defaults.activations.type, .symmetric = false};
    const MethodJudge judge(graph, bench.inputs.calibration, 1, nullptr);
    const double before = judge(quantize(bench.state.graph, bench.state.ranges, bench.state.scheme)).loss;
    apply_methods(bench.state, parse_methods("lapq"), bench.inputs);
    const double after = judge(quantize(bench.state.graph, bench.state.ranges, bench.state.scheme)).loss;
    EXPECT_LE(after, before) << "seed " << seed;
    total_before += before;
    total_after += after;
  }
  EXPECT_LT(total_after, total_before);
}

}  // namespace
}  // namespace nibble
