// --log: one JSON object a line, one line a step and one an epoch.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "nibble/train.h"

namespace nibble::train {

class RunLog {
 public:
  // An empty path: nothing is written. Throws Error{kIo}.
  explicit RunLog(const std::string& path) : path_(path) {}
  // Begins the file, or goes on after its first `bytes` bytes: what was written after the checkpoint was taken is written again.
  void open(std::int64_t bytes);
  void step(std::int64_t epoch, std::int64_t step, double loss, double learning_rate);
  void epoch(const EpochReport& report);
  // Everything so far is in the file.
  std::int64_t flush();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  void write(const std::string& line);
  [[noreturn]] void fail_io() const;
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::int64_t bytes_ = 0;
};

}  // namespace nibble::train
