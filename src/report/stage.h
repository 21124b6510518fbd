// Stage: one begin() and one end() of a ProgressSink, which may be null; advance() also asks whether the user wants to stop.
#pragma once

#include <string_view>

#include "base/fail.h"
#include "nibble/progress.h"

namespace nibble {

class Stage {
 public:
  Stage(ProgressSink* sink, std::string_view name, std::int64_t total) : sink_(sink) {
    if (sink_ != nullptr) sink_->begin(name, total);
  }
  ~Stage() {
    if (sink_ != nullptr) sink_->end();
  }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  void advance(std::int64_t done) {
    if (sink_ == nullptr) return;
    sink_->advance(done);
    if (sink_->cancelled()) fail(ErrorCode::kInterrupted, "interrupted");
  }

 private:
  ProgressSink* sink_;
};

}  // namespace nibble
