#include "report/sample_stream.h"

#include <algorithm>

namespace nibble {

SampleStream::SampleStream(const Dataset& dataset, int threads)
    : dataset_(dataset), size_(dataset.size()), window_(2 * std::max(threads, 1)) {
  for (int i = 0; i < std::max(threads, 1); ++i) workers_.emplace_back([this] { work(); });
}

SampleStream::~SampleStream() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void SampleStream::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || taken_ >= size_ || taken_ < handed_ + window_; });
    if (stop_ || taken_ >= size_) return;
    const std::int64_t index = taken_++;
    lock.unlock();
    Slot slot;
    try {
      slot.sample = dataset_.sample(index);
    } catch (...) {
      slot.error = std::current_exception();
    }
    lock.lock();
    ready_.emplace(index, std::move(slot));
    changed_.notify_all();
  }
}

std::optional<Sample> SampleStream::next() {
  std::unique_lock lock(mutex_);
  if (handed_ >= size_) return std::nullopt;
  changed_.wait(lock, [&] { return ready_.contains(handed_); });
  Slot slot = std::move(ready_.extract(handed_).mapped());
  ++handed_;
  changed_.notify_all();
  if (slot.error) std::rethrow_exception(slot.error);
  return std::move(slot.sample);
}

}  // namespace nibble
