// AdaRound, GPTQ and weight clipping against what their equations say, by plain loops and by trying everything.
#include "methods/rounding.h"

#include <gtest/gtest.h>

#include <array>

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
    apply_methods(bench.state, parse_methods("weight_clipping"), bench.inputs);  // pins the grid
    test::Workbench tried = bench;
    apply_methods(bench.state, parse_methods("adaround"), bench.inputs);
    const double found = layer_loss(bench.state, *bench.inputs.calibration);
    double best = 1e30;
    // The codes that the fit may reach: around the weights, which the input's own rounding hardly moves.
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

// The best of all codes, each with its best scale, of one output of four weights on a grid of 3 bits (-3 .. 3), by trying all 7^4. `square`
// is E[c c^T] + damping I.
double best_error(const std::array<double, 4>& w, const std::array<std::array<double, 4>, 4>& square) {
  const auto product = [&](const std::array<double, 4>& a, const std::array<double, 4>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      for (std::size_t j = 0; j < 4; ++j) sum += a[i] * square[i][j] * b[j];
    }
    return sum;
  };
  double best = product(w, w);
  for (int code = 0; code < 7 * 7 * 7 * 7; ++code) {
    std::array<double, 4> q{};
    for (int i = 0, rest = code; i < 4; ++i, rest /= 7) q[static_cast<std::size_t>(i)] = rest % 7 - 3;
    const double qq = product(q, q), qw = product(q, w);
    if (qq > 0 && qw > 0) best = std::min(best, product(w, w) - qw * qw / qq);
  }
  return best;
}

TEST(Gptq, FindsTheBestCodesAndScaleOfAll) {
  double found_total = 0, range_total = 0;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    const Graph graph = test::NetworkBuilder(seed, {1, 4, 8, 8}).conv(1, 1, 1, "").build();
    test::Workbench bench = test::workbench(graph, bits(3), seed);
    std::array<double, 4> mean{}, w{};
    std::array<std::array<double, 4>, 4> square{};
    const std::int64_t samples = bench.inputs.calibration->size();
    std::vector<Tensor> data;
    for (std::int64_t s = 0; s < samples; ++s) data.push_back(bench.inputs.calibration->sample(s).inputs[0]);
    const double count = static_cast<double>(samples) * 64;
    const auto each = [&](auto&& visit) {
      for (const Tensor& x : data) {
        for (std::size_t p = 0; p < 64; ++p) visit([&x, p](std::size_t i) { return static_cast<double>(x.data<float>()[i * 64 + p]); });
      }
    };
    each([&](auto x) {
      for (std::size_t i = 0; i < 4; ++i) mean[i] += x(i) / count;
    });
    each([&](auto x) {
      for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t j = 0; j < 4; ++j) square[i][j] += (x(i) - mean[i]) * (x(j) - mean[j]) / count;
      }
    });
    double trace = 0;
    for (std::size_t i = 0; i < 4; ++i) trace += square[i][i];
    for (std::size_t i = 0; i < 4; ++i) {
      square[i][i] += 0.5 * trace / 4;
      w[i] = static_cast<double>(graph.value(graph.node(0).inputs[1]).constant->data<float>()[i]);
    }
    const auto error = [&](const std::array<double, 4>& values) {
      double sum = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t j = 0; j < 4; ++j) sum += (w[i] - values[i]) * square[i][j] * (w[j] - values[j]);
      }
      return sum;
    };
    apply_methods(bench.state, parse_methods("gptq"), bench.inputs);
    std::array<double, 4> rounded{}, nearest{};
    double most = 0;
    for (const double x : w) most = std::max(most, std::abs(x));
    for (std::size_t i = 0; i < 4; ++i) {
      rounded[i] = static_cast<double>(bench.state.graph.value(bench.state.graph.node(0).inputs[1]).constant->data<float>()[i]);
      nearest[i] = std::nearbyint(w[i] / (most / 3)) * most / 3;
    }
    found_total += error(rounded);
    range_total += error(nearest);
    EXPECT_LE(error(rounded), 1.01 * best_error(w, square)) << "seed " << seed;  // the inputs that it sees lie on a grid of 8 bits
  }
  EXPECT_LT(found_total, 0.9 * range_total) << "the scale that holds the largest weight";
}

TEST(Gptq, LeavesAGridThatAMethodBeforeHasChosen) {
  const Graph graph = test::NetworkBuilder(5, {1, 8, 6, 6}).conv(4, 1, 1, "").build();
  test::Workbench bench = test::workbench(graph, bits(4), 5);
  const std::string name = graph.value(graph.node(0).inputs[1]).name;
  apply_methods(bench.state, parse_methods("weight_clipping"), bench.inputs);
  const QuantParams grid = *bench.state.ranges.entries.at(name).pinned;
  apply_methods(bench.state, parse_methods("gptq"), bench.inputs);
  EXPECT_EQ(*bench.state.ranges.entries.at(name).pinned, grid);
}

TEST(Gptq, BlocksOfWeightsGetTheirScales) {
  const Graph graph = test::NetworkBuilder(6, {1, 64, 6, 6}).conv(4, 1, 1, "").build();
  QuantScheme scheme = bits(3);
  scheme.defaults.form = NodeForm::kWeightOnly;
  scheme.defaults.weights.block_size = 16;
  for (const bool symmetric : {true, false}) {
    scheme.defaults.weights.symmetric = symmetric;
    scheme.defaults.weights.type.narrow_range = symmetric;
    test::Workbench nearest = test::workbench(graph, scheme, 6), rounded = test::workbench(graph, scheme, 6);
    apply_methods(rounded.state, parse_methods("gptq"), rounded.inputs);
    EXPECT_LT(layer_loss(rounded.state, *rounded.inputs.calibration), 0.97 * layer_loss(nearest.state, *nearest.inputs.calibration));
    const QuantParams& grid =
        *rounded.state.ranges.entries.at(rounded.state.graph.value(rounded.state.graph.node(0).inputs[1]).name).pinned;
    EXPECT_EQ(grid.scale.size(), 16U);
    EXPECT_EQ(grid.zero_point.size(), 16U);
    for (const std::int32_t zero : grid.zero_point) EXPECT_TRUE(zero >= grid.qmin() && zero <= grid.qmax() && (!symmetric || zero == 0));
  }
}

TEST_P(Rounding, MakesUpForWhatTheOtherSummandHasLost) {
  // y = A x + B x: A has 2 bits and goes first, B has 8 and sees what A has lost of y. A's error is linear in x, so most of it can come
  // back.
  const std::uint64_t seed = 7;
  std::mt19937_64 random(seed);
  Graph graph;
  GraphEditor editor(graph);
  editor.set_opset("", 13);
  const ValueId x = editor.add_input("x", make_type(DataType::kFloat32, {1, 8, 6, 6}));
  std::vector<ValueId> parts;
  for (const char* name : {"coarse", "fine"}) {
    parts.push_back(editor.add_value(std::string(name) + "_y"));
    const ValueId w = editor.add_constant(std::string(name) + "_w", test::random_tensor({8, 8, 1, 1}, random));
    editor.add_node({.name = name, .domain = "", .op_type = "Conv", .inputs = {x, w}, .outputs = {parts.back()}, .attributes = {}});
  }
  const ValueId y = editor.add_value("y");
  editor.add_node({.name = "sum", .domain = "", .op_type = "Add", .inputs = parts, .outputs = {y}, .attributes = {}});
  editor.set_outputs({y});
  editor.finish();
  canonicalize(graph);
  QuantScheme scheme = bits(8);
  TensorScheme coarse = scheme.defaults.weights;
  coarse.type.bit_width = 2;
  scheme.rules.push_back(
      {.node_regex = "coarse", .op_type = "", .quantized = std::nullopt, .weights = coarse, .activations = std::nullopt});
  test::Workbench nearest = test::workbench(graph, scheme, seed), rounded = test::workbench(graph, scheme, seed);
  apply_methods(nearest.state, parse_methods("bias_correction"), nearest.inputs);
  apply_methods(rounded.state, parse_methods(GetParam()), rounded.inputs);
  // The share of an error along one input that a damping of 0.5 leaves is at most 1/3, of its square 1/9, for inputs that are alike.
  EXPECT_LT(layer_loss(rounded.state, *rounded.inputs.calibration), 0.15 * layer_loss(nearest.state, *nearest.inputs.calibration));
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
