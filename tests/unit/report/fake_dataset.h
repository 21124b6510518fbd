// A dataset made of tensors.
#pragma once

#include <atomic>

#include "base/fail.h"
#include "nibble/dataset.h"

namespace nibble {

class FakeDataset final : public Dataset {
 public:
  explicit FakeDataset(std::vector<Sample> samples) : samples_(std::move(samples)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  Sample sample(std::int64_t index) const override {
    if (index == broken_from) fail(ErrorCode::kInvalidData, "sample {} is broken", index);
    if (broken_from >= 0 && index > broken_from) fail(ErrorCode::kInvalidData, "sample {} is broken, too", index);
    return samples_[static_cast<std::size_t>(index)];
  }
  bool has_labels() const override { return !samples_.empty() && samples_[0].label.has_value(); }
  std::string description() const override { return "fake"; }
  std::string hash() const override { return "0"; }
  std::int64_t label_offset() const override { return offset; }

  std::int64_t offset = 0;
  std::int64_t broken_from = -1;

 private:
  std::vector<Sample> samples_;
};

}  // namespace nibble
