// What training leaves is what quantize(), the simulation and the runtime compute with.
#include "module_support.h"
#include "nibble/error.h"
#include "nibble/passes.h"
#include "nibble/quantize.h"

namespace nibble::train {
namespace {

TrainQuantization lsq(int weight_bits, int activation_bits) {
  TrainQuantization quantization;
  quantization.weight_method = quantization.activation_method = "lsq";
  quantization.weight_bits = weight_bits;
  quantization.activation_bits = activation_bits;
  return quantization;
}

// Trains a few steps on random labels: grids and statistics then are nobody's initial ones.
void train_a_little(TrainModule& module, const Graph& graph, int steps) {
  const std::int64_t batch = 8;
  module.initialize(test::random_images(graph, batch, 1), test::step_of(batch, true));
  for (int i = 0; i < steps; ++i) {
    StepInfo step = test::step_of(batch, true);
    step.step = i;
    const torch::Tensor logits = module.forward(test::random_images(graph, batch, static_cast<std::uint64_t>(i) + 2), step);
    const torch::Tensor labels = torch::arange(batch, torch::kInt64).remainder(logits.size(1));
    torch::nll_loss(logits.log_softmax(1), labels).backward();
    module.after_backward(step);
    torch::NoGradGuard guard;
    for (const Parameter& parameter : module.parameters()) {
      if (!parameter.value.grad().defined()) continue;
      parameter.value.sub_(parameter.value.grad(), 0.01);
      parameter.value.mutable_grad().reset();
    }
    module.after_update(step);
  }
}

// Runs samples through both; returns the share of equal top-1, and expects codes to be equal but for ties.
double agreement(TrainModule& module, const Graph& graph, std::int64_t samples) {
  const TrainedNetwork trained = module.trained();
  const QuantizedGraph quantized = quantize(trained.graph, trained.ranges, trained.scheme);
  torch::NoGradGuard guard;
  const torch::Tensor images = test::random_images(graph, samples, 99);
  std::map<std::string, torch::Tensor> seen;
  module.watch([&](const std::string& name, const torch::Tensor& x) { seen[name] = x.contiguous(); });
  const torch::Tensor logits = module.forward(images, test::step_of(samples, false));
  std::int64_t same = 0;
  for (std::int64_t i = 0; i < samples; ++i) {
    const std::vector<Tensor> inputs = {from_torch(images.slice(0, i, i + 1))};
    const std::vector<Tensor> outputs = simulate(quantized, inputs, [&](ValueId id, const Tensor& codes) {
      const auto at = seen.find(quantized.graph.value(id).name);
      const QuantParams* params = quantized.params_of(id);
      if (at == seen.end() || params == nullptr || i > 0) return;
      torch::Tensor real = to_torch(cast(codes, DataType::kFloat32), torch::kFloat32);
      real = (real - params->zero_point[0]) * params->scale[0];
      const torch::Tensor steps = ((real.flatten() - at->second[i].flatten()) / params->scale[0]).abs();
      // Float ties, and what follows from them: one code of the 255 that an edge of 8 bits has upsets many of those behind it.
      EXPECT_LT((steps > (params->type.bit_width == 8 ? 3.5 : 0.5)).to(torch::kFloat32).mean().item<double>(), 0.01) << at->first;
    });
    same +=
        to_torch(outputs[0], torch::kFloat32).view({-1}).argmax().item<std::int64_t>() == logits[i].argmax().item<std::int64_t>() ? 1 : 0;
  }
  return static_cast<double>(same) / static_cast<double>(samples);
}

TEST(Export, ResNet20IsWhatTheModuleEvaluates) {
  const auto path = test::asset("cifar10_resnet20.onnx");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here: set NIBBLE_ASSETS";
  const Graph graph = import_onnx(path.string());
  for (const int bits : {8, 4, 2}) {
    TrainModule module(graph, lsq(bits, bits));
    train_a_little(module, graph, 2);
    EXPECT_GE(agreement(module, graph, 40), 0.97) << bits << " bits";
  }
}

// Float layers read what integer layers leave: rounded values.
TEST(Export, FloatEndsAreWhatTheModuleEvaluates) {
  const Graph graph = make_architecture("lenet5", {1, 20, 20}, 10, 3);
  TrainQuantization quantization = lsq(2, 2);
  quantization.first_last = FirstLastPolicy::kFloat;
  TrainModule module(graph, quantization);
  train_a_little(module, graph, 3);
  const TrainedNetwork trained = module.trained();
  const QuantizedGraph quantized = quantize(trained.graph, trained.ranges, trained.scheme);
  torch::NoGradGuard guard;
  const torch::Tensor images = test::random_images(graph, 8, 99);
  const torch::Tensor logits = module.forward(images, test::step_of(8, false));
  std::vector<double> errors;
  for (std::int64_t i = 0; i < 8; ++i) {
    const std::vector<Tensor> inputs = {from_torch(images.slice(0, i, i + 1))};
    errors.push_back(test::relative_error(logits[i], to_torch(simulate(quantized, inputs)[0], torch::kFloat32).view({-1})));
  }
  // Ties may upset a sample; what is not rounded at 2 bits is far off in all.
  std::sort(errors.begin(), errors.end());
  EXPECT_LT(errors[4], 1e-3);
}

// Signs: the Relu is gone, the Sign stands behind the pool, and simulation and evaluation agree.
TEST(Export, SignsAreWhatTheModuleEvaluates) {
  const Graph graph = make_architecture("lenet5", {1, 28, 28}, 10, 3);
  TrainQuantization quantization;
  quantization.weight_method = quantization.activation_method = "bnn";
  quantization.weight_bits = quantization.activation_bits = 1;
  TrainModule module(graph, quantization);
  EXPECT_EQ(module.notes().size(), 4U) << module.notes().front();
  train_a_little(module, graph, 3);
  EXPECT_GE(agreement(module, graph, 40), 0.97);
}

// Two scales a weight: a layer of two bases, whose bias stands behind both.
TEST(Export, TwoScalesAreWhatTheModuleEvaluates) {
  const Graph graph = make_architecture("lenet5", {1, 28, 28}, 10, 3);
  TrainQuantization quantization;
  quantization.weight_method = "ttq";
  quantization.activation_method = "ema";
  quantization.weight_bits = 2;
  TrainModule module(graph, quantization);
  train_a_little(module, graph, 3);
  EXPECT_GE(agreement(module, graph, 40), 0.97);
}

TEST(Export, SignsAreRefusedWithoutBatchNormalization) {
  const auto path = test::asset("mlperf_resnet8.onnx");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here: set NIBBLE_ASSETS";
  TrainQuantization quantization;
  quantization.weight_method = quantization.activation_method = "bnn";
  quantization.weight_bits = quantization.activation_bits = 1;
  EXPECT_THROW(TrainModule(import_onnx(path.string()), quantization), Error);
}

// The depthwise architecture under the 8-bit method, whose weights are quantized behind their batch normalization.
TEST(Export, FoldedWeightsAreWhatTheModuleEvaluates) {
  const Graph graph = make_architecture("mobilenet-small", {3, 16, 16}, 10, 3);
  TrainQuantization quantization;
  quantization.weight_method = quantization.activation_method = "ema";
  for (const bool per_channel : {true, false}) {
    quantization.per_channel = per_channel;
    TrainModule module(graph, quantization);
    train_a_little(module, graph, 3);
    EXPECT_GE(agreement(module, graph, 40), 0.97);
  }
}

}  // namespace
}  // namespace nibble::train
