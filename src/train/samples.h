// The images and labels of a training run: held in memory where they fit, cut into batches by sample index.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "nibble/dataset.h"
#include "nibble/progress.h"

namespace nibble::train {

// Which sample stands where in an epoch: a permutation of 0 .. count - 1 that (seed, epoch) decides.
std::vector<std::int64_t> epoch_order(std::uint64_t seed, std::int64_t epoch, std::int64_t count);

// A crop is the image moved by dy, dx in -4 .. 4, zeros moved in (a frame of 4 pixels of zeros, then a window of the old size).
struct Augmentation {
  std::int64_t dy = 0, dx = 0;
  bool flip = false;
};
inline constexpr std::int64_t kCropPadding = 4;
// Depends on nothing but its arguments: not on rank, threads or batch.
Augmentation augmentation_of(std::uint64_t seed, std::int64_t epoch, std::int64_t sample, bool crop, bool flip);

struct AugmentOptions {
  bool crop = false, flip = false;
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
};

struct Batch {
  torch::Tensor images;  // float32 [n, ...] as the network takes them
  torch::Tensor labels;  // int64 [n]: classes of the network
};

struct SamplesOptions {
  std::int64_t classes = 0;       // of the network
  int threads = 1;                // that decode
  std::int64_t memory_limit = 0;  // bytes of decoded samples that may be held; 0: half of what the machine has free
  ProgressSink* progress = nullptr;
  std::string stage = "load";
};

class Samples {
 public:
  // Reads every sample, or, where they do not fit into memory, every label alone. Throws Error{kInvalidData} naming the sample: no label, a
  // label that is none of the network's classes, samples of different shapes.
  Samples(const Dataset& dataset, const SamplesOptions& options);

  std::int64_t size() const { return static_cast<std::int64_t>(labels_.size()); }
  const std::vector<std::int64_t>& labels() const { return labels_; }
  bool in_memory() const { return images_.defined(); }
  // Images can be cropped and flipped: four axes, of which it is known where height and width are.
  bool has_pixels() const { return layout_ != Layout::kNone; }
  Batch batch(const std::vector<std::int64_t>& ids, const AugmentOptions& augment = {}) const;

 private:
  enum class Layout { kNone, kNchw, kNhwc };
  std::vector<float> read(std::int64_t index, std::int64_t& label) const;
  std::int64_t class_of(const Sample& sample) const;
  void move(const float* from, float* to, const Augmentation& augmentation) const;

  const Dataset& dataset_;
  std::int64_t classes_;
  std::vector<std::int64_t> shape_;  // of one sample, without the batch axis
  std::int64_t elements_ = 0;        // of one sample
  Layout layout_ = Layout::kNone;
  std::vector<std::int64_t> labels_;
  torch::Tensor images_;
  std::unique_ptr<ThreadPool> pool_;
};

}  // namespace nibble::train
