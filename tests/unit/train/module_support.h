// What the tests of the trained module share.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>

#include "nibble/interpreter.h"
#include "nibble/onnx.h"
#include "support/quantized.h"
#include "train/module.h"
#include "train/torch_tensor.h"

namespace nibble::train::test {

inline std::filesystem::path asset(const std::string& name) {
  const char* folder = std::getenv("NIBBLE_ASSETS");
  return std::filesystem::path(folder != nullptr ? folder : "../shared/assets") / "models" / name;
}

inline StepInfo step_of(std::int64_t batch, bool training, bool quantize = true) {
  StepInfo step;
  step.training = training;
  step.quantize = quantize;
  step.sample_ids = torch::arange(batch, torch::kInt64);
  step.global_batch = batch;
  step.reducer = &single_process();
  return step;
}

// Seeded normal values of the first input's shape, `batch` samples.
inline torch::Tensor random_images(const Graph& graph, std::int64_t batch, std::uint64_t seed, double scale = 1,
                                   torch::Dtype dtype = torch::kFloat32) {
  std::vector<std::int64_t> shape = {batch};
  const TensorType& type = graph.value(graph.inputs()[0]).type;
  for (std::size_t i = 1; i < type.dims.size(); ++i) shape.push_back(type.dims[i].size);
  torch::Tensor images = torch::empty(shape, torch::kFloat64);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, scale);
  for (std::int64_t i = 0; i < images.numel(); ++i) images.data_ptr<double>()[i] = normal(random);
  return images.to(dtype);
}

// Our own float interpreter on each sample: the output, and the value that the module calls logits.
inline torch::Tensor interpret(const Graph& graph, const torch::Tensor& images, const std::string& value) {
  Interpreter interpreter(graph);
  std::vector<torch::Tensor> rows;
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    const std::vector<Tensor> inputs = {from_torch(images.slice(0, i, i + 1))};
    torch::Tensor row;
    interpreter.run(inputs, [&](ValueId id, const Tensor& tensor) {
      if (graph.value(id).name == value) row = to_torch(tensor, torch::kFloat32).view({1, -1});
    });
    rows.push_back(row);
  }
  return torch::cat(rows);
}

// The name of the value that a final Softmax reads, or of the output.
inline std::string logits_name(const Graph& graph) {
  ValueId v = graph.outputs()[0];
  const ValueId output = v;
  while (graph.value(v).producer != kNoNode) {
    const Node& node = graph.node(graph.value(v).producer);
    if (node.op_type == "Softmax") return graph.value(node.input(0)).name;
    if (node.op_type != "Identity") break;
    v = node.input(0);
  }
  return graph.value(output).name;
}

inline double relative_error(const torch::Tensor& a, const torch::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max().clamp_min(1e-20)).item<double>();
}

}  // namespace nibble::train::test
