#include "analyze/held_samples.h"

#include <utility>

#include "base/fail.h"
#include "report/for_each_sample.h"
#include "report/stage.h"

namespace nibble {
namespace {

class HeldSamples final : public Dataset {
 public:
  HeldSamples(std::vector<Sample> samples, const Dataset& from)
      : samples_(std::move(samples)),
        labels_(from.has_labels()),
        description_(samples_.size() == static_cast<std::size_t>(from.size())
                         ? from.description()
                         : fmt::format("{} of {}", samples_.size(), from.description())),
        random_(from.is_random()),
        hash_(from.hash()),
        classes_(from.class_count()),
        offset_(from.label_offset()) {}

  std::int64_t size() const override { return std::ssize(samples_); }
  Sample sample(std::int64_t index) const override { return samples_[static_cast<std::size_t>(index)]; }
  bool has_labels() const override { return labels_; }
  std::string description() const override { return description_; }
  bool is_random() const override { return random_; }
  std::string hash() const override { return hash_; }
  std::int64_t class_count() const override { return classes_; }
  std::int64_t label_offset() const override { return offset_; }

 private:
  std::vector<Sample> samples_;
  bool labels_;
  std::string description_;
  bool random_;
  std::string hash_;
  std::int64_t classes_, offset_;
};

class Some final : public Dataset {
 public:
  Some(const Dataset& whole, const std::vector<std::int64_t>& indices) : whole_(whole), indices_(indices) {}
  std::int64_t size() const override { return std::ssize(indices_); }
  Sample sample(std::int64_t index) const override { return whole_.sample(indices_[static_cast<std::size_t>(index)]); }
  bool has_labels() const override { return whole_.has_labels(); }
  std::string description() const override { return whole_.description(); }
  std::string hash() const override { return whole_.hash(); }

 private:
  const Dataset& whole_;
  const std::vector<std::int64_t>& indices_;
};

}  // namespace

std::shared_ptr<const Dataset> hold_samples(const Dataset& dataset, const std::vector<std::int64_t>& indices, int threads,
                                            ProgressSink* progress) {
  const Some some(dataset, indices);
  std::vector<Sample> samples(indices.size());
  Stage stage(progress, "read samples", std::ssize(indices));
  for_each_sample(some, threads, stage, [&]() -> SampleWorker {
    return [&](std::int64_t index, const Sample& sample) { samples[static_cast<std::size_t>(index)] = sample; };
  });
  return std::make_shared<HeldSamples>(std::move(samples), dataset);
}

std::shared_ptr<const Dataset> map_inputs(const Dataset& held, const std::function<Tensor(const Tensor&)>& change) {
  std::vector<Sample> samples;
  for (std::int64_t i = 0; i < held.size(); ++i) {
    samples.push_back(held.sample(i));
    samples.back().inputs[0] = change(samples.back().inputs[0]);
  }
  return std::make_shared<HeldSamples>(std::move(samples), held);
}

std::shared_ptr<const Dataset> join_samples(const Dataset& held, const Dataset& more) {
  std::vector<Sample> samples;
  for (const Dataset* part : {&held, &more}) {
    for (std::int64_t i = 0; i < part->size(); ++i) samples.push_back(part->sample(i));
  }
  return std::make_shared<HeldSamples>(std::move(samples), held);
}

std::vector<std::int64_t> spread_indices(std::int64_t size, std::int64_t count) {
  std::vector<std::int64_t> result;
  const std::int64_t n = std::min(size, count);
  for (std::int64_t i = 0; i < n; ++i) result.push_back((2 * i + 1) * size / (2 * n));
  return result;
}

}  // namespace nibble
