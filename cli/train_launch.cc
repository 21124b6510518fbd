#include "train_launch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include "command.h"
#include "nibble/error.h"
#include "nibble/train.h"

extern char** environ;

namespace nibble::cli {
namespace {

using Clock = std::chrono::steady_clock;
// That the others get to notice, after one has failed: with what a collective may take (processes.cc) all have ended within 60 s.
constexpr std::chrono::seconds kGrace{10};
constexpr int kPollMs = 50;
constexpr const char* kParentVariable = "NIBBLE_TRAIN_PARENT";  // process id of who started this one

struct Process {
  pid_t pid = -1;
  int errors = -1;  // read end of its stderr
  std::string said;
  std::optional<int> status;
  bool failed() const { return status && *status != 0; }
};

class Pipe {
 public:
  Pipe() {
    if (::pipe2(ends_.data(), O_CLOEXEC) != 0) throw Error(ErrorCode::kIo, fmt::format("--nproc: no pipe: {}", std::strerror(errno)));
  }
  int read_end() const { return ends_[0]; }
  int write_end() const { return ends_[1]; }

 private:
  std::array<int, 2> ends_{};
};

std::vector<std::string> environment_of(int rank, int count, int port) {
  constexpr std::array<std::string_view, 8> kOurs = {"RANK=",
                                                     "LOCAL_RANK=",
                                                     "WORLD_SIZE=",
                                                     "LOCAL_WORLD_SIZE=",
                                                     "MASTER_ADDR=",
                                                     "MASTER_PORT=",
                                                     "TORCHELASTIC_USE_AGENT_STORE=",
                                                     "TORCHELASTIC_RESTART_COUNT="};
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    bool ours = false;
    for (const std::string_view name : kOurs) ours = ours || text.starts_with(name);
    if (!ours) environment.emplace_back(text);
  }
  for (const auto& [name, value] :
       {std::pair{"RANK", rank}, {"LOCAL_RANK", rank}, {"WORLD_SIZE", count}, {"LOCAL_WORLD_SIZE", count}, {"MASTER_PORT", port}})
    environment.push_back(fmt::format("{}={}", name, value));
  environment.emplace_back("MASTER_ADDR=127.0.0.1");
  environment.emplace_back("TORCHELASTIC_USE_AGENT_STORE=True");
  environment.push_back(fmt::format("{}={}", kParentVariable, ::getpid()));
  return environment;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

Process start(int rank, int count, int port, std::vector<std::string> words) {
  std::vector<std::string> environment = environment_of(rank, count, port);
  words.insert(words.begin(), "nibble-train");
  std::vector<char*> argv = pointers(words), envp = pointers(environment);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // Groups of their own: a terminal's Ctrl-C comes here alone and is passed on once.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  Process process;
  int write_end = -1;
  if (rank > 0) {
    const Pipe pipe;
    process.errors = pipe.read_end();
    write_end = pipe.write_end();
    posix_spawn_file_actions_adddup2(&actions, write_end, STDERR_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  }
  const int error = posix_spawn(&process.pid, "/proc/self/exe", &actions, &attributes, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (write_end >= 0) ::close(write_end);
  if (error != 0) throw Error(ErrorCode::kIo, fmt::format("--nproc: process {} cannot be started: {}", rank, std::strerror(error)));
  return process;
}

void listen(Process& process) {
  pollfd poll_errors{.fd = process.errors, .events = POLLIN, .revents = 0};
  while (process.errors >= 0 && ::poll(&poll_errors, 1, 0) > 0) {
    std::array<char, 4096> buffer{};
    const ssize_t count = ::read(process.errors, buffer.data(), buffer.size());
    if (count <= 0) {
      ::close(process.errors);
      process.errors = -1;
    } else {
      process.said.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }
}

// The line of a process that begins with "error: ", empty if there is none.
std::string error_line(const std::string& said) {
  const std::size_t begin = said.rfind("error: ");
  return begin == std::string::npos ? "" : said.substr(begin, said.find('\n', begin) - begin);
}

}  // namespace

bool was_launched() { return std::getenv(kParentVariable) != nullptr; }

void end_with_parent() {
  if (!was_launched()) return;
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (std::to_string(::getppid()) != std::getenv(kParentVariable)) ::raise(SIGTERM);  // it is gone already
}

int launch_processes(int count, const std::vector<std::string>& words) {
  const TrainStoreHost host;
  std::vector<Process> processes;
  const auto signal_all = [&](int signal) {
    for (const Process& process : processes) {
      if (!process.status) ::kill(process.pid, signal);
    }
  };
  try {
    for (int rank = 0; rank < count; ++rank) processes.push_back(start(rank, count, host.port(), words));
  } catch (...) {
    signal_all(SIGKILL);
    throw;
  }

  std::optional<Clock::time_point> failed_at;
  std::string ended;  // of those that a signal ended
  bool passed_on = false;
  for (;;) {
    bool running = false;
    for (std::size_t rank = 0; rank < processes.size(); ++rank) {
      Process& process = processes[rank];
      listen(process);
      if (process.status) continue;
      int status = 0;
      if (::waitpid(process.pid, &status, WNOHANG) != process.pid) {
        running = true;
        continue;
      }
      process.status = status;
      listen(process);
      if (status != 0 && !failed_at) failed_at = Clock::now();
      if (WIFSIGNALED(status)) ended += fmt::format("{}rank {} was ended by signal {}", ended.empty() ? "" : ", ", rank, WTERMSIG(status));
    }
    if (!running) break;
    if (interrupted() && !passed_on) {
      passed_on = true;
      signal_all(SIGINT);
    }
    if (failed_at && Clock::now() - *failed_at > kGrace) signal_all(SIGKILL);
    ::poll(nullptr, 0, kPollMs);
  }

  int code = kSuccess;
  bool rank_0_spoke = false;
  for (std::size_t rank = 0; rank < processes.size(); ++rank) {
    const int status = *processes[rank].status;
    if (status == 0) continue;
    if (rank == 0) rank_0_spoke = WIFEXITED(status);
    if (code == kSuccess) code = WIFEXITED(status) ? WEXITSTATUS(status) : kFailure;
  }
  if (code == kSuccess || rank_0_spoke) return code;
  std::string line;
  for (const Process& process : processes) {
    if (line.empty()) line = error_line(process.said);
  }
  if (line.empty()) line = "error: " + (ended.empty() ? std::string("a process failed without a word") : ended);
  std::fputs((line + "\n").c_str(), stderr);
  return code;
}

}  // namespace nibble::cli
