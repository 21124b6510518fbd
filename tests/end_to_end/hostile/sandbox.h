// A folder full of traps, and a way to run the program in it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace nibble::hostile {

struct Outcome {
  int exit_code = -1;  // -1: ended by a signal
  int signal = 0;
  bool timed_out = false;
  std::string out, err;
};

struct RunOptions {
  std::vector<std::string> environment = {};  // "NAME=value"
  std::int64_t file_size_limit = 0;           // bytes that the program may write to one file; 0: no limit
  bool stdout_full = false;                   // stdout is /dev/full
  int interrupt_after_ms = 0;                 // send SIGINT then; 0: never
};

// The traps lie in path(); the folder goes when the object does. See sandbox.cc for what it holds.
class Sandbox {
 public:
  Sandbox();
  ~Sandbox();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // Runs the program here with these arguments. Waits at most two minutes.
  Outcome run(const std::vector<std::string>& arguments, const RunOptions& options = {}) const;
  // Every file in the sandbox with its size and link target, so that two listings tell what was left behind.
  std::set<std::string> listing() const;

 private:
  std::filesystem::path path_;
};

}  // namespace nibble::hostile
