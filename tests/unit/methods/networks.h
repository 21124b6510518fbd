// Small random networks and data for the tests of methods.
#pragma once

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "nibble/interpreter.h"
#include "nibble/methods.h"
#include "nibble/passes.h"
#include "support/quantized.h"
#include "unit/report/fake_dataset.h"

namespace nibble::test {

inline Tensor random_tensor(Shape shape, std::mt19937_64& random, double scale = 1.0) {
  Tensor tensor(DataType::kFloat32, std::move(shape));
  std::normal_distribution<double> normal;
  for (float& x : tensor.mutable_data<float>()) x = static_cast<float>(scale * normal(random));
  return tensor;
}

// Builds graphs layer by layer.
class NetworkBuilder {
 public:
  explicit NetworkBuilder(std::uint64_t seed, Shape input) : random_(seed), editor_(graph_) {
    editor_.set_opset("", 13);
    last_ = editor_.add_input("x", make_type(DataType::kFloat32, input));
    channels_ = input[1];
  }
  // `spread`: output channels' weights differ by up to exp(+-spread), and the next layer takes that back: what equalization is for.
  NetworkBuilder& conv(std::int64_t out, std::int64_t kernel, std::int64_t groups = 1, const std::string& activation = "Relu",
                       double spread = 0) {
    const std::int64_t in = channels_ / groups;
    Tensor w = random_tensor({out, in, kernel, kernel}, random_, 1.0 / std::sqrt(static_cast<double>(in * kernel * kernel)));
    Tensor b = random_tensor({out}, random_, 0.2);
    const auto values = w.mutable_data<float>();
    const auto bias = b.mutable_data<float>();
    for (std::int64_t i = 0; i < out * in * kernel * kernel && !factors_.empty(); ++i) {
      const std::int64_t o = i / (in * kernel * kernel), c = i / (kernel * kernel) % in;
      values[static_cast<std::size_t>(i)] /= factors_[static_cast<std::size_t>(o / (out / groups) * in + c)];
    }
    factors_.clear();
    std::uniform_real_distribution<double> uniform(-spread, spread);
    for (std::int64_t o = 0; o < out; ++o) {
      const auto factor = static_cast<float>(std::exp(spread > 0 ? uniform(random_) : 0.0));
      for (std::int64_t i = 0; i < in * kernel * kernel; ++i) values[static_cast<std::size_t>(o * in * kernel * kernel + i)] *= factor;
      bias[static_cast<std::size_t>(o)] *= factor;
      factors_.push_back(factor);
    }
    const std::string name = "conv" + std::to_string(++count_);
    Node node{.name = name,
              .domain = "",
              .op_type = "Conv",
              .inputs = {last_, editor_.add_constant(name + "_w", w), editor_.add_constant(name + "_b", b)},
              .outputs = {editor_.add_value(name + "_y")},
              .attributes = {}};
    node.attributes["pads"] = std::vector<std::int64_t>(4, kernel / 2);
    if (groups > 1) node.attributes["group"] = groups;
    last_ = node.outputs[0];
    channels_ = out;
    editor_.add_node(std::move(node));
    if (activation.empty()) return *this;
    Node act{.name = name + "_act",
             .domain = "",
             .op_type = activation,
             .inputs = {last_},
             .outputs = {editor_.add_value(name + "_a")},
             .attributes = {}};
    if (activation == "Clip") {
      act.inputs.push_back(editor_.add_constant(name + "_lo", Tensor::scalar(0.0F)));
      act.inputs.push_back(editor_.add_constant(name + "_hi", Tensor::scalar(1.0F)));
    }
    last_ = act.outputs[0];
    editor_.add_node(std::move(act));
    return *this;
  }
  NetworkBuilder& pool_and_classify(std::int64_t classes) {
    const ValueId pooled = editor_.add_value("pooled"), flat = editor_.add_value("flat"), y = editor_.add_value("y");
    editor_.add_node(
        {.name = "pool", .domain = "", .op_type = "GlobalAveragePool", .inputs = {last_}, .outputs = {pooled}, .attributes = {}});
    editor_.add_node({.name = "flatten", .domain = "", .op_type = "Flatten", .inputs = {pooled}, .outputs = {flat}, .attributes = {}});
    const ValueId w =
        editor_.add_constant("fc_w", random_tensor({channels_, classes}, random_, 4.0 / std::sqrt(static_cast<double>(channels_))));
    const ValueId b = editor_.add_constant("fc_b", random_tensor({classes}, random_, 0.1));
    editor_.add_node({.name = "fc", .domain = "", .op_type = "Gemm", .inputs = {flat, w, b}, .outputs = {y}, .attributes = {}});
    last_ = y;
    return *this;
  }
  // Canonical.
  Graph build() {
    editor_.set_outputs({last_});
    editor_.finish();
    canonicalize(graph_);
    return graph_;
  }

 private:
  std::mt19937_64 random_;
  Graph graph_;
  GraphEditor editor_;
  ValueId last_ = kNoValue;
  std::int64_t channels_ = 0;
  std::vector<float> factors_;  // of the last layer's channels
  int count_ = 0;
};

// Blobs: the same few patterns with noise, so that channels have means.
inline std::shared_ptr<const Dataset> random_dataset(const Shape& shape, std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Sample> samples;
  for (std::int64_t i = 0; i < count; ++i) {
    Tensor x = random_tensor(shape, random);
    for (float& v : x.mutable_data<float>()) v = v + 0.3F;
    samples.push_back({.inputs = {std::move(x)}, .label = std::nullopt, .name = "sample " + std::to_string(i)});
  }
  return std::make_shared<FakeDataset>(std::move(samples));
}

struct Workbench {
  MethodState state;
  MethodInputs inputs;
  std::shared_ptr<const Dataset> evaluation;
};
inline Workbench workbench(Graph graph, const QuantScheme& scheme, std::uint64_t seed, std::int64_t samples = 16) {
  const Shape shape = graph.value(graph.inputs()[0]).type.shape();
  Workbench bench;
  bench.inputs.calibration = random_dataset(shape, samples, seed);
  bench.inputs.deciding = random_dataset(shape, samples, seed + 1);
  bench.evaluation = random_dataset(shape, 32, seed + 2);
  bench.inputs.seed = seed;
  bench.inputs.observe = [data = bench.inputs.calibration, scheme](const Graph& g) {
    CalibrateOptions options;
    options.target = {.type = scheme.defaults.activations.type, .symmetric = scheme.defaults.activations.symmetric};
    return calibrate(g, *data, options).at(0);
  };
  RangeTable ranges = bench.inputs.observe(graph);
  bench.state = method_state(std::move(graph), std::move(ranges), scheme);
  return bench;
}
inline double loss_of(const Workbench& bench, const Graph& truth) {
  const MethodJudge judge(truth, bench.evaluation, 1, nullptr);
  return judge(quantize(bench.state.graph, bench.state.ranges, bench.state.scheme)).loss;
}

}  // namespace nibble::test
