#include "tune/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "base/fail.h"
#include "nibble/dataset.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

// A process group of its own, so that what the command starts ends with it.
class Child {
 public:
  Child(const std::string& command, const std::string& folder) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) fail(ErrorCode::kIo, "command:{}: no pipe: {}", command, std::strerror(errno));
    std::string shell = "sh", option = "-c", line = command + " \"$0\"", argument = folder;
    const std::array<char*, 5> arguments = {shell.data(), option.data(), line.data(), argument.data(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawnattr_init(&attributes);
    sigset_t ignored;
    sigemptyset(&ignored);
    for (const int signal : {SIGINT, SIGTERM, SIGPIPE, SIGXFSZ}) sigaddset(&ignored, signal);
    posix_spawnattr_setsigdefault(&attributes, &ignored);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    const int error = posix_spawn(&pid_, "/bin/sh", &actions, &attributes, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(ends[1]);
    out_ = ends[0];
    if (error != 0) {
      close(out_);
      fail(ErrorCode::kIo, "command:{}: cannot be started: {}", command, std::strerror(error));
    }
  }
  ~Child() {
    if (!waited_) {
      kill(-pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(out_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Appends what has been printed within 100 ms; false at the end.
  bool read_some(std::string& text) const {
    pollfd ready{.fd = out_, .events = POLLIN, .revents = 0};
    constexpr int kMilliseconds = 100;
    if (poll(&ready, 1, kMilliseconds) <= 0) return true;
    std::array<char, 4096> buffer{};
    const ssize_t n = read(out_, buffer.data(), buffer.size());
    if (n > 0) text.append(buffer.data(), static_cast<std::size_t>(n));
    return n > 0 || (n < 0 && errno == EINTR);
  }
  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    waited_ = true;
    return status;
  }

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  bool waited_ = false;
};

std::string shown(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  constexpr std::size_t kLongest = 80;
  return text.size() > kLongest ? text.substr(0, kLongest) + " ..." : text;
}

}  // namespace

double run_command(const std::string& command, const std::vector<Tensor>& outputs, const std::string& folder, double seconds,
                   ProgressSink* progress) {
  std::error_code code;
  fs::remove_all(folder, code);
  fs::create_directories(folder, code);
  if (code) fail(ErrorCode::kIo, "cannot make the folder {}: {}", folder, code.message());
  for (std::size_t i = 0; i < outputs.size(); ++i) write_npy((fs::path(folder) / (std::to_string(i) + ".npy")).string(), outputs[i]);

  Child child(command, folder);
  std::string text;
  constexpr std::size_t kMostText = 1 << 16;
  const auto begin = std::chrono::steady_clock::now();
  while (child.read_some(text)) {
    if (progress != nullptr && progress->cancelled()) fail(ErrorCode::kInterrupted, "interrupted");
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() > seconds)
      fail(ErrorCode::kInvalidData, "command:{}: not done after {:g} s and stopped; allow more with --command-seconds", command, seconds);
    if (text.size() > kMostText)
      fail(ErrorCode::kInvalidData, "command:{}: it printed more than {} bytes; expected one number", command, kMostText);
  }
  const int status = child.wait();
  if (WIFSIGNALED(status)) fail(ErrorCode::kInvalidData, "command:{}: ended by signal {}", command, WTERMSIG(status));
  if (WEXITSTATUS(status) != 0)
    fail(ErrorCode::kInvalidData, "command:{}: failed with exit code {}{}", command, WEXITSTATUS(status),
         WEXITSTATUS(status) == 127 ? " (not found)" : "");
  const auto blank = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  std::string number = text;
  while (!number.empty() && blank(number.back())) number.pop_back();
  while (!number.empty() && blank(number.front())) number.erase(0, 1);
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size() || !std::isfinite(value))
    fail(ErrorCode::kInvalidData, "command:{}: expected one number on standard output (higher is better), found \"{}\"", command,
         shown(text));
  fs::remove_all(folder, code);
  return value;
}

}  // namespace nibble
