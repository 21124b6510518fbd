// Samples in memory, drawn from a seed.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "nibble/dataset.h"

namespace nibble::testing {

class MemoryDataset final : public Dataset {
 public:
  explicit MemoryDataset(std::vector<Tensor> samples) : samples_(std::move(samples)) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  Sample sample(std::int64_t index) const override {
    return {.inputs = {samples_[static_cast<std::size_t>(index)]}, .label = std::nullopt, .name = "sample_" + std::to_string(index)};
  }
  bool has_labels() const override { return false; }
  std::string description() const override { return std::to_string(size()) + " samples in memory"; }
  std::string hash() const override { return "hash-of-" + std::to_string(size()); }

  MemoryDataset part(const std::vector<std::int64_t>& indices) const {
    std::vector<Tensor> some;
    for (const std::int64_t i : indices) some.push_back(samples_[static_cast<std::size_t>(i)]);
    return MemoryDataset(std::move(some));
  }
  std::vector<Tensor>& samples() { return samples_; }

 private:
  std::vector<Tensor> samples_;
};

// float32 [1, 8, size] of N(0, 1); sizes vary from sample to sample where `varying`.
inline MemoryDataset normal_samples(std::int64_t count, std::uint64_t seed, bool varying = false) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<Tensor> samples;
  for (std::int64_t i = 0; i < count; ++i) {
    Tensor tensor(DataType::kFloat32, {1, 8, varying ? 40 + 10 * (i % 5) : 64});
    for (float& v : tensor.mutable_data<float>()) v = normal(random);
    samples.push_back(std::move(tensor));
  }
  return MemoryDataset(std::move(samples));
}

}  // namespace nibble::testing
