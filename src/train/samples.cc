#include "train/samples.h"

#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "base/checked.h"
#include "base/fail.h"
#include "data/draw.h"

namespace nibble::train {
namespace {

// Streams of draws of one seed that must not meet.
constexpr std::uint64_t kOrderStream = 0x6f72646572, kAugmentStream = 0x61756721;

SplitMix64 stream(std::uint64_t seed, std::uint64_t what, std::int64_t a, std::int64_t b = 0) {
  std::uint64_t key = SplitMix64(seed).next() ^ what;
  key = SplitMix64(key).next() ^ static_cast<std::uint64_t>(a);
  key = SplitMix64(key).next() ^ static_cast<std::uint64_t>(b);
  return SplitMix64(SplitMix64(key).next());
}

std::int64_t free_memory() {
  const long pages = ::sysconf(_SC_AVPHYS_PAGES), bytes = ::sysconf(_SC_PAGE_SIZE);
  return pages > 0 && bytes > 0 ? static_cast<std::int64_t>(pages) * bytes : std::int64_t{1} << 30;
}

}  // namespace

std::vector<std::int64_t> epoch_order(std::uint64_t seed, std::int64_t epoch, std::int64_t count) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  SplitMix64 draws = stream(seed, kOrderStream, epoch);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[draws.below(i)]);
  return order;
}

Augmentation augmentation_of(std::uint64_t seed, std::int64_t epoch, std::int64_t sample, bool crop, bool flip) {
  SplitMix64 draws = stream(seed, kAugmentStream, epoch, sample);
  constexpr std::uint64_t kPlaces = 2 * kCropPadding + 1;
  // All three are always drawn: whether images are flipped does not move the crops.
  Augmentation augmentation;
  augmentation.dy = static_cast<std::int64_t>(draws.below(kPlaces)) - kCropPadding;
  augmentation.dx = static_cast<std::int64_t>(draws.below(kPlaces)) - kCropPadding;
  augmentation.flip = draws.below(2) == 1 && flip;
  if (!crop) augmentation.dy = augmentation.dx = 0;
  return augmentation;
}

Samples::Samples(const Dataset& dataset, const SamplesOptions& options)
    : dataset_(dataset), classes_(options.classes), pool_(std::make_unique<ThreadPool>(options.threads)) {
  const std::int64_t count = dataset.size();
  if (count == 0) fail(ErrorCode::kInvalidData, "{}: there are no samples", dataset.description());
  if (!dataset.has_labels())
    fail(ErrorCode::kInvalidData, "{}: has no labels, which training needs: one folder a class, or a labels.csv (file,label)",
         dataset.description());

  const Sample first = dataset.sample(0);
  if (first.inputs.size() != 1)
    fail(ErrorCode::kUnsupported, "training feeds networks with one input; this one has {}", first.inputs.size());
  const Tensor& input = first.inputs[0];
  if (input.rank() < 2 || input.shape()[0] != 1)
    fail(ErrorCode::kInvalidData, "{}: has the shape {}; training needs one sample at a time, [1, ...]", first.name,
         to_string(input.shape()));
  shape_.assign(input.shape().begin() + 1, input.shape().end());
  elements_ = element_count(shape_);
  if (shape_.size() == 3) {
    const auto few = [](std::int64_t channels) { return channels == 1 || channels == 3; };
    layout_ = few(shape_[0]) ? Layout::kNchw : few(shape_[2]) ? Layout::kNhwc : Layout::kNchw;
  }

  labels_.resize(static_cast<std::size_t>(count));
  const std::int64_t limit = options.memory_limit > 0 ? options.memory_limit : free_memory() / 2;
  const bool fits = elements_ <= limit / static_cast<std::int64_t>(sizeof(float)) / count;
  if (fits) {
    std::vector<std::int64_t> sizes = {count};
    sizes.insert(sizes.end(), shape_.begin(), shape_.end());
    images_ = torch::empty(sizes, torch::kFloat32);
  }
  // In blocks, so that there is progress to show and Ctrl-C is heard.
  if (options.progress != nullptr) options.progress->begin(options.stage, count);
  constexpr std::int64_t kBlock = 1024, kGrain = 16;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t size = std::min(kBlock, count - begin);
    pool_->parallel_for(size, kGrain, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t i = begin + from; i < begin + to; ++i) {
        const std::vector<float> values = read(i, labels_[static_cast<std::size_t>(i)]);
        if (fits) std::copy(values.begin(), values.end(), images_.data_ptr<float>() + i * elements_);
      }
    });
    if (options.progress == nullptr) continue;
    options.progress->advance(begin + size);
    if (options.progress->cancelled()) fail(ErrorCode::kInterrupted, "interrupted; nothing was written");
  }
  if (options.progress != nullptr) options.progress->end();
}

std::int64_t Samples::class_of(const Sample& sample) const {
  if (!sample.label) fail(ErrorCode::kInvalidData, "{}: has no label, which training needs", sample.name);
  const std::int64_t label = *sample.label, offset = dataset_.label_offset();
  if (label < -offset || label >= classes_ - offset)
    fail(ErrorCode::kInvalidData,
         "{}: its label {} (offset {}) is none of the network's {} classes; check the labels, or label_offset in the recipe", sample.name,
         label, offset, classes_);
  return label + offset;
}

std::vector<float> Samples::read(std::int64_t index, std::int64_t& label) const {
  const Sample sample = dataset_.sample(index);
  label = class_of(sample);
  const Tensor input = sample.inputs.at(0).type() == DataType::kFloat32 ? sample.inputs[0] : cast(sample.inputs[0], DataType::kFloat32);
  if (input.size() != elements_)
    fail(ErrorCode::kInvalidData, "{}: has the shape {}, the samples before have [1,{}]; training needs samples of one shape", sample.name,
         to_string(input.shape()), fmt::join(shape_, ","));
  const auto values = input.data<float>();
  return {values.begin(), values.end()};
}

void Samples::move(const float* from, float* to, const Augmentation& augmentation) const {
  const bool nchw = layout_ == Layout::kNchw;
  const std::int64_t channels = nchw ? shape_[0] : shape_[2];
  const std::int64_t height = nchw ? shape_[1] : shape_[0], width = nchw ? shape_[2] : shape_[1];
  const std::int64_t planes = nchw ? channels : 1, inner = nchw ? 1 : channels;
  for (std::int64_t plane = 0; plane < planes; ++plane) {
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const std::int64_t from_y = y + augmentation.dy;
        const std::int64_t from_x = (augmentation.flip ? width - 1 - x : x) + augmentation.dx;
        const bool inside = from_y >= 0 && from_y < height && from_x >= 0 && from_x < width;
        const float* source = from + ((plane * height + from_y) * width + from_x) * inner;
        for (std::int64_t c = 0; c < inner; ++c) *to++ = inside ? source[c] : 0.0F;
      }
    }
  }
}

Batch Samples::batch(const std::vector<std::int64_t>& ids, const AugmentOptions& augment) const {
  const auto count = static_cast<std::int64_t>(ids.size());
  std::vector<std::int64_t> sizes = {count};
  sizes.insert(sizes.end(), shape_.begin(), shape_.end());
  Batch batch{.images = torch::empty(sizes, torch::kFloat32), .labels = torch::empty({count}, torch::kInt64)};
  float* out = batch.images.data_ptr<float>();
  std::int64_t* labels = batch.labels.data_ptr<std::int64_t>();
  const auto fill = [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i) {
      const std::int64_t id = ids[static_cast<std::size_t>(i)];
      labels[i] = labels_[static_cast<std::size_t>(id)];
      std::vector<float> decoded;
      if (!in_memory()) {
        std::int64_t label = 0;
        decoded = read(id, label);
      }
      const float* source = in_memory() ? images_.data_ptr<float>() + id * elements_ : decoded.data();
      float* target = out + i * elements_;
      if (augment.crop || augment.flip)
        move(source, target, augmentation_of(augment.seed, augment.epoch, id, augment.crop, augment.flip));
      else
        std::copy(source, source + elements_, target);
    }
  };
  // Copies are cheap; decoding is worth threads.
  if (in_memory())
    fill(0, count);
  else
    pool_->parallel_for(count, 4, fill);
  return batch;
}

}  // namespace nibble::train
