// Sinks for what the library has to tell while it works; the library itself never prints.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nibble {

// Receives progress and warnings. All functions may be called from the thread that called the library only.
class ProgressSink {
 public:
  virtual ~ProgressSink() = default;
  // A stage begins ("calibrate"); `total` steps follow (0: unknown).
  virtual void begin(std::string_view /*stage*/, std::int64_t /*total*/) {}
  // `done` steps of the stage are done.
  virtual void advance(std::int64_t /*done*/) {}
  virtual void end() {}
  // Something that the user should know: a fallback, a widened scale, a range that was never reached.
  virtual void warn(const std::string& /*message*/) {}
  // Polled between steps; true makes the library throw Error{kInterrupted} and leave nothing behind.
  virtual bool cancelled() { return false; }
};

}  // namespace nibble
