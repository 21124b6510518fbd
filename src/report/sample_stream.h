// SampleStream: a dataset's samples in order, decoded ahead by other threads.
#pragma once

#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "nibble/dataset.h"

namespace nibble {

// Memory is bounded: at most `window` samples are held. An exception of Dataset::sample() comes out of next() in its place.
class SampleStream {
 public:
  SampleStream(const Dataset& dataset, int threads);
  ~SampleStream();
  SampleStream(const SampleStream&) = delete;
  SampleStream& operator=(const SampleStream&) = delete;

  // The next sample; nullopt at the end.
  std::optional<Sample> next();

 private:
  struct Slot {
    std::optional<Sample> sample;
    std::exception_ptr error;
  };
  void work();

  const Dataset& dataset_;
  const std::int64_t size_;
  std::int64_t window_;
  std::int64_t taken_ = 0;   // by workers
  std::int64_t handed_ = 0;  // to the caller
  bool stop_ = false;
  std::map<std::int64_t, Slot> ready_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::thread> workers_;
};

}  // namespace nibble
