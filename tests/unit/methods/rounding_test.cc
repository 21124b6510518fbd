// AdaRound, GPTQ and weight clipping against what their equations say, by plain loops and by trying everything.
#include "methods/rounding.h"

#include <gtest/gtest.h>

#include "networks.h"

namespace nibble {
namespace {

QuantScheme bits(int width, bool per_channel = true) {
  QuantScheme scheme;
  scheme.defaults.weights.type.bit_width = width;
  scheme.defaults.weights.per_channel = per_channel;
  return scheme;
}

TEST(InverseFactor, TimesItsTransposeIsTheInverse) {
  const std::uint64_t seed = 11;
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  constexpr std::int64_t n = 7;
  std::vector<double> b(n * n), a(n * n, 0.0);
  for (double& x : b) x = normal(random);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t k = 0; k < n; ++k) a[i * n + j] += b[i * n + k] * b[j * n + k] + (i == j ? 0.1 : 0.0);
    }
  }
  const std::vector<double> u = inverse_factor(a, n);
  ASSERT_EQ(u.size(), a.size());
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      if (j < i) {
        EXPECT_EQ(u[i * n + j], 0.0);
      }
      double sum = 0;  // (U^T U) A
      for (std::size_t k = 0; k < n; ++k) {
        double inverse = 0;
        for (std::size_t l = 0; l < n; ++l) inverse += u[l * n + i] * u[l * n + k];
        sum += inverse * a[k * n + j];
      }
      EXPECT_NEAR(sum, i == j ? 1.0 : 0.0, 1e-9) << "seed " << seed;
    }
  }
  EXPECT_TRUE(inverse_factor({1.0, 2.0, 2.0, 1.0}, 2).empty()) << "not positive definite";
}

// Mean square error of the network's (linear) output over data, the bias freed of its mean error: the loss that rounding is chosen for.
double layer_loss(const MethodState& state, const Dataset& data) {
  Interpreter truth(state.reference, {.threads = 1, .mode = ExecMode::kFixedOrder});
  const QuantizedGraph model = quantize(state.graph, state.ranges, state.scheme);
  std::vector<double> sums, squares;
  double count = 0;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    const Sample sample = data.sample(i);
    const Tensor y = truth.run(sample.inputs)[0], z = simulate(model, sample.inputs)[0];
    sums.resize(static_cast<std::size_t>(y.shape()[1]));
    squares.resize(sums.size());
    const std::size_t inner = static_cast<std::size_t>(y.size()) / sums.size();
    for (std::size_t k = 0; k < static_cast<std::size_t>(y.size()); ++k) {
      const double d = static_cast<double>(z.data<float>()[k]) - static_cast<double>(y.data<float>()[k]);
      sums[k / inner] += d;
      squares[k / inner] += d * d;
    }
    count += static_cast<double>(inner);
  }
  double loss = 0;
  for (std::size_t c = 0; c < sums.size(); ++c) loss += squares[c] / count - sums[c] / count * sums[c] / count;
  return loss;
}

class Rounding : public ::testing::TestWithParam<const char*> {};

TEST_P(Rounding, LowersTheLayersLoss) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    for (const std::int64_t groups : {1, 4}) {
      const Graph graph = test::NetworkBuilder(seed, {1, 4, 8, 8}).conv(8, 3, groups, "").build();
      test::Workbench nearest = test::workbench(graph, bits(3), seed), rounded = test::workbench(graph, bits(3), seed);
      apply_methods(rounded.state, parse_methods(GetParam()), rounded.inputs);
      const double before = layer_loss(nearest.state, *nearest.inputs.calibration),
                   after = layer_loss(rounded.state, *rounded.inputs.calibration);
      EXPECT_LE(after, before) << "seed " << seed << ", groups " << groups;
    }
  }
}

TEST_P(Rounding, LowersTheLossOfCorrelatedInputsBelowHalf) {
  // Smooth inputs: neighbours are alike, so their errors can cancel.
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    const Graph graph = test::NetworkBuilder(seed, {1, 2, 8, 8}).conv(6, 5, 1, "").build();
    test::Workbench nearest = test::workbench(graph, bits(3), seed);
    std::mt19937_64 random(seed);
    std::vector<Sample> samples;
    for (int i = 0; i < 16; ++i) {
      Tensor x = test::random_tensor({1, 2, 8, 8}, random);
      const auto v = x.mutable_data<float>();
      for (std::size_t k = 1; k < v.size(); ++k) v[k] = 0.95F * v[k - 1] + 0.3F * v[k];
      samples.push_back({.inputs = {x}, .label = std::nullopt, .name = "smooth"});
    }
    nearest.inputs.calibration = std::make_shared<FakeDataset>(std::move(samples));
    nearest.inputs.observe = nullptr;
    nearest.state.ranges = calibrate(graph, *nearest.inputs.calibration, {}).at(0);
    test::Workbench rounded = nearest;
    apply_methods(rounded.state, parse_methods(GetParam()), rounded.inputs);
    EXPECT_LT(layer_loss(rounded.state, *rounded.inputs.calibration), 0.5 * layer_loss(nearest.state, *nearest.inputs.calibration))
        << "seed " << seed;
  }
}

TEST_P(Rounding, WholeNetworksGetBetterOnOtherDataAndBitsDoNotDependOnThreads) {
  for (const std::uint64_t seed : {1U, 2U}) {
    const Graph graph =
        test::NetworkBuilder(seed, {1, 3, 8, 8}).conv(12, 3).conv(12, 3, 12).conv(16, 1, 1, "Clip").pool_and_classify(5).build();
    std::string texts[2];
    for (int i = 0; i < 2; ++i) {
      test::Workbench bench = test::workbench(graph, bits(3), seed);
      const double before = test::loss_of(bench, graph);
      bench.inputs.threads = i + 1;
      apply_methods(bench.state, parse_methods(GetParam()), bench.inputs);
      EXPECT_LT(test::loss_of(bench, graph), 0.7 * before) << "seed " << seed;
      const QuantizedGraph model = quantize(bench.state.graph, bench.state.ranges, bench.state.scheme);
      texts[i] = print_graph(model.graph);
      EXPECT_EQ(print_graph(bench.state.reference), print_graph(graph)) << "the truth is not touched";
    }
    EXPECT_EQ(texts[0], texts[1]);
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Rounding, ::testing::Values("adaround", "gptq"));

TEST(AdaRound, FindsNearlyTheBestOfAllRoundings) {
  // One output of six weights: 64 ways to round, each tried on all columns.
  for (const std::uint64_t seed : {1U, 2U, 3U, 4U}) {
    const Graph graph = test::NetworkBuilder(seed, {1, 6, 8, 8}).conv(1, 1, 1, "").build();
    test::Workbench bench = test::workbench(graph, bits(3), seed);
    test::Workbench tried = bench;
    apply_methods(bench.state, parse_methods("adaround"), bench.inputs);
    const double found = layer_loss(bench.state, *bench.inputs.calibration);
    double best = 1e30;
    // The codes that the fit may reach: around the weights, which the input's own rounding hardly moves.
    apply_methods(tried.state, parse_methods("gptq"), tried.inputs);  // pins the grid
    const QuantParams grid = *tried.state.ranges.entries.at(tried.state.graph.value(tried.state.graph.node(0).inputs[1]).name).pinned;
    const auto w = graph.value(graph.node(0).inputs[1]).constant->data<float>();
    for (unsigned mask = 0; mask < 64; ++mask) {
      LayerEdit edit;
      Tensor weights(DataType::kFloat32, {1, 6, 1, 1});
      for (std::size_t i = 0; i < 6; ++i) {
        const float q = std::floor(w[i] / grid.scale[0]) + static_cast<float>(mask >> i & 1U);
        weights.mutable_data<float>()[i] = std::min(std::max(q, -3.0F), 3.0F) * grid.scale[0];
      }
      edit.weights = weights;
      apply_edits(tried.state, {{0, edit}});
      best = std::min(best, layer_loss(tried.state, *tried.inputs.calibration));
    }
    EXPECT_LT(found, 1.3 * best) << "seed " << seed;
  }
}

TEST(WeightClipping, TakesTheScaleOfLeastWeightedError) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    const Graph graph = test::NetworkBuilder(seed, {1, 8, 6, 6}).conv(4, 1, 1, "").build();
    test::Workbench bench = test::workbench(graph, bits(3), seed);
    const std::string name = graph.value(graph.node(0).inputs[1]).name;
    apply_methods(bench.state, parse_methods("weight_clipping"), bench.inputs);
    const QuantParams grid = *bench.state.ranges.entries.at(name).pinned;
    // The oracle: E[x^2] of each channel of the inputs (on their grid up to a hundredth), every scale from 30 % to 100 % of the range.
    std::vector<double> square(8, 0.0);
    for (std::int64_t i = 0; i < 16; ++i) {
      const Sample sample = bench.inputs.calibration->sample(i);
      for (std::size_t k = 0; k < 288; ++k)
        square[k / 36] += std::pow(static_cast<double>(sample.inputs[0].data<float>()[k]), 2) / (16 * 36);
    }
    const auto w = graph.value(graph.node(0).inputs[1]).constant->data<float>();
    for (std::size_t o = 0; o < 4; ++o) {
      double most = 0;
      for (std::size_t i = 0; i < 8; ++i) most = std::max(most, std::abs(static_cast<double>(w[o * 8 + i])));
      const auto error = [&](double scale) {
        double sum = 0;
        for (std::size_t i = 0; i < 8; ++i) {
          const double x = w[o * 8 + i], q = std::clamp(std::nearbyint(x / scale), -3.0, 3.0);
          sum += square[i] * (x - q * scale) * (x - q * scale);
        }
        return sum;
      };
      double best = 1e30;
      for (int step = 0; step <= 70; ++step) best = std::min(best, error(most / 3 * (1 - 0.01 * step)));
      EXPECT_LE(error(static_cast<double>(grid.scale[o])), best * 1.05) << "channel " << o << ", seed " << seed;
    }
  }
}

}  // namespace
}  // namespace nibble
