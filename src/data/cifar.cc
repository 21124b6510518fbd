// CIFAR-10 in its binary form: records of one label byte (0..9) and three planes (R, G, B) of 32 x 32 bytes.
#include "base/fail.h"
#include "data/files.h"
#include "data/fit.h"
#include "data/preprocess.h"
#include "data/source.h"

namespace nibble {
namespace {

constexpr std::size_t kSide = 32;
constexpr std::size_t kPlane = kSide * kSide;
constexpr std::size_t kRecord = 1 + 3 * kPlane;
constexpr std::int64_t kClasses = 10;

struct Batch {
  std::string file;
  std::int64_t first = 0;  // index of its first sample
  std::string bytes;
};

class Cifar final : public Source {
 public:
  Cifar(const std::vector<std::string>& paths, const std::string& spec, const DatasetOptions& options)
      : spec_(spec), input_(single_input(options.inputs, "images", spec)), recipe_(need_recipe(options, spec)) {
    for (const std::string& path : paths) {
      Batch batch{file_name(path), size_, read_regular_file(path, "the CIFAR-10 file")};
      if (batch.bytes.empty() || batch.bytes.size() % kRecord != 0)
        fail(ErrorCode::kInvalidData, "{}: {} bytes are no whole number of CIFAR-10 records (of {} bytes): truncated, or another format",
             path, batch.bytes.size(), kRecord);
      const std::size_t count = batch.bytes.size() / kRecord;
      for (std::size_t i = 0; i < count; ++i) {
        const auto label = static_cast<unsigned char>(batch.bytes[i * kRecord]);
        if (label >= kClasses)
          fail(ErrorCode::kInvalidData, "{}: record {} has the label {}; CIFAR-10 has 0 to {}", path, i, label, kClasses - 1);
      }
      size_ += static_cast<std::int64_t>(count);
      batches_.push_back(std::move(batch));
    }
  }
  std::int64_t size() const override { return size_; }
  bool has_labels() const override { return true; }
  std::int64_t class_count() const override { return kClasses; }
  std::int64_t label_offset() const override { return recipe_.label_offset; }
  std::optional<std::int64_t> label(std::int64_t index) const override { return static_cast<unsigned char>(record(index).front()); }
  std::string description() const override { return fmt::format("{} images with labels in {}", size_, spec_); }
  Sample sample(std::int64_t index) const override {
    Sample sample;
    sample.name = name(index);
    sample.label = label(index);
    const std::string_view planes = record(index).substr(1);
    Tensor image(DataType::kUInt8, {kSide, kSide, 3});
    auto out = image.mutable_data<std::uint8_t>();
    for (std::size_t i = 0; i < kPlane; ++i) {
      for (std::size_t c = 0; c < 3; ++c) out[3 * i + c] = static_cast<std::uint8_t>(planes[c * kPlane + i]);
    }
    sample.inputs.push_back(fit_input(preprocess_image(image, recipe_, sample.name), input_, ValueKind::kImage, sample.name));
    return sample;
  }
  void hash_sample(std::int64_t index, Hasher& hasher) const override {
    hasher.add(name(index));
    hasher.add(record(index).substr(1));
  }

 private:
  const Batch& batch_of(std::int64_t index) const {
    std::size_t i = batches_.size() - 1;
    while (i > 0 && batches_[i].first > index) --i;
    return batches_[i];
  }
  std::string_view record(std::int64_t index) const {
    const Batch& batch = batch_of(index);
    return std::string_view(batch.bytes).substr(static_cast<std::size_t>(index - batch.first) * kRecord, kRecord);
  }
  std::string name(std::int64_t index) const {
    const Batch& batch = batch_of(index);
    return fmt::format("{}[{}]", batch.file, index - batch.first);
  }
  std::string spec_;
  InputSpec input_;
  PreprocessRecipe recipe_;
  std::vector<Batch> batches_;
  std::int64_t size_ = 0;
};

}  // namespace

std::unique_ptr<Source> open_cifar(const std::vector<std::string>& paths, const std::string& spec, const DatasetOptions& options) {
  return std::make_unique<Cifar>(paths, spec, options);
}

}  // namespace nibble
