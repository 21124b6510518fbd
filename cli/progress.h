// Progress on stderr: one line that rewrites itself on a terminal, a line now and then where stderr is a file or a pipe.
#pragma once

#include <chrono>
#include <string>

#include "nibble/progress.h"

namespace nibble::cli {

class Progress final : public ProgressSink {
 public:
  enum class Verbosity { kNormal, kQuiet };  // kQuiet: warnings only
  explicit Progress(Verbosity verbosity = Verbosity::kNormal);
  ~Progress() override;

  void begin(std::string_view stage, std::int64_t total) override;
  void advance(std::int64_t done) override;
  void end() override;
  void warn(const std::string& message) override;
  bool cancelled() override;
  // A line of information.
  void note(const std::string& message);

 private:
  using Clock = std::chrono::steady_clock;
  void clear_line();
  std::string status() const;

  Verbosity verbosity_;
  bool terminal_;
  bool line_open_ = false;
  std::string stage_;
  std::int64_t total_ = 0;
  std::int64_t done_ = 0;
  Clock::time_point start_;
  Clock::time_point shown_;
};

// From now on SIGINT and SIGTERM make cancelled() true; a second one ends the program at once.
void catch_interrupts();
bool interrupted();

}  // namespace nibble::cli
