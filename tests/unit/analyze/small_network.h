// A small image classifier that is right: convolutions of random weights, a residual, ReLU6, and a last layer that compares features with
// those of each class. And images of its classes.
#pragma once

#include <array>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "nibble/dataset.h"
#include "nibble/interpreter.h"
#include "nibble/passes.h"

namespace nibble::test {

inline constexpr std::int64_t kClasses = 8, kSide = 16, kWidth = 16;
inline constexpr std::array<double, 3> kMean = {123.675, 116.28, 103.53}, kStd = {58.395, 57.12, 57.375};

inline PreprocessRecipe imagenet_recipe() {
  PreprocessRecipe recipe;
  recipe.divide = 255;
  recipe.mean = {0.485, 0.456, 0.406};
  recipe.std = {0.229, 0.224, 0.225};
  return recipe;
}

class Samples final : public Dataset {
 public:
  explicit Samples(std::vector<Sample> samples) : samples_(std::move(samples)) {}
  std::int64_t size() const override { return std::ssize(samples_); }
  Sample sample(std::int64_t index) const override { return samples_[static_cast<std::size_t>(index)]; }
  bool has_labels() const override { return !samples_.empty() && samples_[0].label.has_value(); }
  std::string description() const override { return "samples in memory"; }
  std::string hash() const override { return "0"; }
  std::vector<Sample>& samples() { return samples_; }

 private:
  std::vector<Sample> samples_;
};

// Pixels 0..255 as PIXELS [1,3,16,16]: a coloured wave for each class, brightness and noise of their own for each sample.
inline Tensor pixels_of(std::int64_t label, std::mt19937_64& random) {
  const auto uniform = [&](double lo, double hi) { return lo + (hi - lo) * static_cast<double>(random() >> 11) * 0x1p-53; };
  std::mt19937_64 of_class(static_cast<std::uint64_t>(label) * 77 + 5);
  const auto fixed = [&](double lo, double hi) { return lo + (hi - lo) * static_cast<double>(of_class() >> 11) * 0x1p-53; };
  Tensor x(DataType::kFloat32, {1, 3, kSide, kSide});
  const auto out = x.mutable_data<float>();
  const double light = uniform(-12, 12), shift = uniform(-0.3, 0.3);
  for (std::size_t c = 0; c < 3; ++c) {
    const double base = fixed(60, 180), depth = fixed(25, 60), fx = fixed(0.2, 1.2), fy = fixed(0.2, 1.2), phase = fixed(0, 6);
    for (std::size_t y = 0; y < kSide; ++y) {
      for (std::size_t z = 0; z < kSide; ++z) {
        const double wave = std::sin(fx * static_cast<double>(z) + fy * static_cast<double>(y) + phase + shift);
        out[(c * kSide + y) * kSide + z] =
            static_cast<float>(std::round(std::clamp(base + light + depth * wave + uniform(-15, 15), 0.0, 255.0)));
      }
    }
  }
  return x;
}

inline Tensor normalized(const Tensor& pixels, const std::array<double, 3>& mean = kMean, const std::array<double, 3>& std = kStd) {
  Tensor x(DataType::kFloat32, pixels.shape());
  const auto in = pixels.data<float>();
  const auto out = x.mutable_data<float>();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t c = i / (kSide * kSide) % 3;
    out[i] = static_cast<float>((static_cast<double>(in[i]) - mean[c]) / std[c]);
  }
  return x;
}

// `count` samples, class after class.
inline std::vector<Sample> samples_of(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Sample> samples;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t label = i % kClasses;
    samples.push_back({.inputs = {normalized(pixels_of(label, random))}, .label = label, .name = "sample " + std::to_string(i)});
  }
  return samples;
}

inline void set_constant(Graph& graph, const std::string& name, const Tensor& tensor) {
  GraphEditor editor(graph);
  editor.set_constant(*graph.find_value(name), tensor);
  editor.finish(GraphEditor::Prune::kNo);
}

inline Tensor constant_of(const Graph& graph, const std::string& name) { return *graph.value(*graph.find_value(name)).constant; }

// Multiplies output channel `channel` of weight [O,I,...] or bias [O].
inline void scale_output_channel(Graph& graph, const std::string& name, std::int64_t channel, float factor) {
  Tensor tensor = constant_of(graph, name);
  const std::int64_t each = tensor.size() / tensor.shape()[0];
  for (std::int64_t i = 0; i < each; ++i) tensor.mutable_data<float>()[static_cast<std::size_t>(channel * each + i)] *= factor;
  set_constant(graph, name, tensor);
}
inline void scale_input_channel(Graph& graph, const std::string& name, std::int64_t channel, float factor) {
  Tensor tensor = constant_of(graph, name);
  const std::int64_t inputs = tensor.shape()[1], inner = tensor.size() / (tensor.shape()[0] * inputs);
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    if (i / inner % inputs == channel) tensor.mutable_data<float>()[static_cast<std::size_t>(i)] *= factor;
  }
  set_constant(graph, name, tensor);
}

// conv1 (ReLU) - conv2 (ReLU) - conv3 + residual (ReLU) - depthwise (ReLU6) - conv5 (ReLU) - mean - last.
inline Graph small_network() {
  Graph graph = parse_graph_text(
      "graph small\nopset ai.onnx 13\ninput x float32[n,3,16,16]\n"
      "input w1 float32[16,3,3,3]\ninput b1 float32[16]\ninput w2 float32[16,16,3,3]\ninput b2 float32[16]\ninput w3 "
      "float32[16,16,3,3]\ninput b3 float32[16]\n"
      "input w4 float32[16,1,3,3]\ninput b4 float32[16]\ninput w5 float32[32,16,1,1]\ninput b5 float32[32]\ninput w6 float32[8,512]\ninput "
      "b6 float32[8]\n"
      "const zero float32[] = {0}\nconst six float32[] = {6}\n"
      "c1 = Conv(x, w1, b1) [pads=[1, 1, 1, 1]] name conv1\nr1 = Relu(c1) name relu1\n"
      "c2 = Conv(r1, w2, b2) [pads=[1, 1, 1, 1]] name conv2\nr2 = Relu(c2) name relu2\n"
      "c3 = Conv(r2, w3, b3) [pads=[1, 1, 1, 1]] name conv3\ns = Add(c3, r1) name add\nr3 = Relu(s) name relu3\n"
      "c4 = Conv(r3, w4, b4) [pads=[1, 1, 1, 1], strides=[2, 2], group=16] name conv4\nr4 = Clip(c4, zero, six) name clip4\n"
      "c5 = Conv(r4, w5, b5) name conv5\nr5 = Relu(c5) name relu5\n"
      "p = AveragePool(r5) [kernel_shape=[2, 2], strides=[2, 2]] name pool\nf = Flatten(p) name flatten\ny = Gemm(f, w6, b6) [transB=1] "
      "name last\noutput y\n");
  std::mt19937_64 random(2024);
  std::normal_distribution<float> normal(0, 1);
  std::vector<std::pair<std::string, Tensor>> constants;
  std::vector<ValueId> inputs;
  for (const ValueId id : graph.inputs()) {
    if (graph.value(id).name == "x") {
      inputs.push_back(id);
      continue;
    }
    Tensor tensor(DataType::kFloat32, graph.value(id).type.shape());
    const bool bias = tensor.rank() == 1;
    const auto fan = static_cast<float>(bias ? 1 : tensor.size() / tensor.shape()[0]);
    for (float& v : tensor.mutable_data<float>()) v = bias ? 0.1F * normal(random) : normal(random) * std::sqrt(2.0F / fan);
    constants.emplace_back(graph.value(id).name, std::move(tensor));
  }
  {
    GraphEditor editor(graph);
    editor.set_inputs(inputs);
    for (const auto& [name, tensor] : constants) editor.set_constant(*graph.find_value(name), tensor);
    editor.finish(GraphEditor::Prune::kNo);
  }
  // The last layer: logit_c = (2 f . f_c - |f_c|^2) / t, the nearest mean of features.
  std::vector<std::vector<double>> mean(kClasses, std::vector<double>(512, 0));
  const ValueId features = *graph.find_value("f");
  Interpreter interpreter(graph, {.threads = 1, .mode = ExecMode::kFixedOrder});
  const auto training = samples_of(16 * kClasses, 99);
  for (const Sample& sample : training) {
    interpreter.run(sample.inputs, [&](ValueId id, const Tensor& tensor) {
      if (id != features) return;
      for (std::size_t i = 0; i < 512; ++i)
        mean[static_cast<std::size_t>(*sample.label)][i] += static_cast<double>(tensor.data<float>()[i]) / 16;
    });
  }
  std::vector<double> middle(512, 0);
  for (const auto& m : mean) {
    for (std::size_t i = 0; i < 512; ++i) middle[i] += m[i] / kClasses;
  }
  double spread = 0;
  for (const auto& m : mean) {
    for (std::size_t i = 0; i < 512; ++i) spread += (m[i] - middle[i]) * (m[i] - middle[i]) / kClasses;
  }
  Tensor w(DataType::kFloat32, {kClasses, 512}), b(DataType::kFloat32, {kClasses});
  for (std::size_t c = 0; c < kClasses; ++c) {
    double offset = 0;
    for (std::size_t i = 0; i < 512; ++i) {
      const double d = mean[c][i] - middle[i];
      w.mutable_data<float>()[c * 512 + i] = static_cast<float>(10 * d / spread);
      offset += d * d / 2 + d * middle[i];
    }
    b.mutable_data<float>()[c] = static_cast<float>(-10 * offset / spread);
  }
  set_constant(graph, "w6", w);
  set_constant(graph, "b6", b);
  return graph;
}

}  // namespace nibble::test
