#include <torch/torch.h>

#include "train/quantizer.h"

namespace nibble::train {
namespace {

// Steele et al. 2014, SplitMix: the finalizer of a counter.
std::uint64_t mix(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

std::uint64_t key_of(std::uint64_t seed, std::int64_t step, std::int64_t site) {
  return mix(mix(mix(seed) ^ static_cast<std::uint64_t>(step)) ^ static_cast<std::uint64_t>(site));
}

void fill(std::uint64_t key, std::int64_t count, double* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<double>(mix(key + static_cast<std::uint64_t>(i)) >> 11) * 0x1p-53;
}

}  // namespace

torch::Tensor uniform_draws(std::uint64_t seed, std::int64_t step, std::int64_t site, torch::IntArrayRef shape) {
  torch::Tensor draws = torch::empty(shape, torch::kFloat64);
  fill(key_of(seed, step, site), draws.numel(), draws.data_ptr<double>());
  return draws;
}

torch::Tensor uniform_draws_by_sample(std::uint64_t seed, std::int64_t step, std::int64_t site, const torch::Tensor& sample_ids,
                                      torch::IntArrayRef shape) {
  TORCH_CHECK(!shape.empty() && shape[0] == sample_ids.numel(), "one row of draws a sample");
  torch::Tensor draws = torch::empty(shape, torch::kFloat64);
  const torch::Tensor ids = sample_ids.to(torch::kInt64).contiguous();
  const std::int64_t row = ids.numel() == 0 ? 0 : draws.numel() / ids.numel();
  const std::uint64_t key = key_of(seed, step, site);
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    fill(mix(key ^ mix(static_cast<std::uint64_t>(ids.data_ptr<std::int64_t>()[i]))), row, draws.data_ptr<double>() + i * row);
  }
  return draws;
}

}  // namespace nibble::train
