#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>

namespace nibble::cli {
namespace {

constexpr auto kTerminalInterval = std::chrono::milliseconds(100);
constexpr auto kPlainInterval = std::chrono::seconds(10);

volatile std::sig_atomic_t g_interrupted = 0;

extern "C" void on_interrupt(int signal) {
  if (g_interrupted != 0) {  // asked twice: stop now
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  g_interrupted = 1;
}

std::string duration(double seconds) {
  if (seconds < 60) return fmt::format("{:.0f} s", seconds);
  return fmt::format("{} min {:02} s", static_cast<int>(seconds) / 60, static_cast<int>(seconds) % 60);
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
}

bool interrupted() { return g_interrupted != 0; }

Progress::Progress(Verbosity verbosity) : verbosity_(verbosity), terminal_(isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() { clear_line(); }

void Progress::clear_line() {
  if (!line_open_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  line_open_ = false;
}

std::string Progress::status() const {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
  std::string out = fmt::format("{}: {}", stage_, done_);
  if (total_ > 0) out += fmt::format(" of {} ({} %)", total_, 100 * done_ / total_);
  if (rate > 0) out += fmt::format(", {:.1f}/s", rate);
  if (rate > 0 && total_ > done_) out += ", " + duration(static_cast<double>(total_ - done_) / rate) + " left";
  return out;
}

void Progress::begin(std::string_view stage, std::int64_t total) {
  stage_ = stage;
  total_ = total;
  done_ = 0;
  start_ = Clock::now();
  shown_ = start_;
}

void Progress::advance(std::int64_t done) {
  done_ = done;
  if (verbosity_ == Verbosity::kQuiet) return;
  const auto now = Clock::now();
  if (terminal_) {
    if (now - shown_ < kTerminalInterval) return;
    std::fputs(("\r\033[K" + status()).c_str(), stderr);
    std::fflush(stderr);
    line_open_ = true;
  } else {
    if (now - shown_ < kPlainInterval) return;
    std::fputs(("note: " + status() + "\n").c_str(), stderr);
  }
  shown_ = now;
}

void Progress::end() { clear_line(); }

void Progress::warn(const std::string& message) {
  clear_line();
  std::fputs(("warning: " + message + "\n").c_str(), stderr);
}

void Progress::note(const std::string& message) {
  if (verbosity_ == Verbosity::kQuiet) return;
  clear_line();
  std::fputs(("note: " + message + "\n").c_str(), stderr);
}

bool Progress::cancelled() { return interrupted(); }

}  // namespace nibble::cli
