#include "train/run_log.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/fail.h"

namespace nibble::train {

void RunLog::fail_io() const { fail(ErrorCode::kIo, "{}: the log cannot be written: {}", path_, std::strerror(errno)); }

void RunLog::open(std::int64_t bytes) {
  if (path_.empty()) return;
  file_.reset(std::fopen(path_.c_str(), bytes > 0 ? "r+b" : "wb"));
  if (file_ == nullptr) fail_io();
  if (bytes > 0) {
    if (std::fseek(file_.get(), 0, SEEK_END) != 0) fail_io();
    if (std::ftell(file_.get()) < bytes)
      fail(ErrorCode::kInvalidData, "{}: the log is shorter ({} bytes) than the checkpoint says ({}); it is another run's, or was changed",
           path_, std::ftell(file_.get()), bytes);
    if (::ftruncate(::fileno(file_.get()), bytes) != 0 || std::fseek(file_.get(), bytes, SEEK_SET) != 0) fail_io();
  }
  bytes_ = bytes;
}

void RunLog::write(const std::string& line) {
  if (file_ == nullptr) return;
  if (std::fwrite(line.data(), 1, line.size(), file_.get()) != line.size()) fail_io();
  bytes_ += static_cast<std::int64_t>(line.size());
}

void RunLog::step(std::int64_t epoch, std::int64_t step, double loss, double learning_rate) {
  write(fmt::format("{{\"step\": {}, \"epoch\": {}, \"loss\": {}, \"learning_rate\": {}}}\n", step, epoch, loss, learning_rate));
}

void RunLog::epoch(const EpochReport& report) {
  write(fmt::format(
      "{{\"epoch_done\": {}, \"loss\": {}, \"train_top1\": {}, \"eval_top1\": {}, \"learning_rate\": {}, \"seconds\": {:.3f}, "
      "\"images_per_second\": {:.1f}}}\n",
      report.epoch, report.loss, report.train_top1, report.eval_top1, report.learning_rate, report.seconds, report.images_per_second));
}

std::int64_t RunLog::flush() {
  if (file_ != nullptr && std::fflush(file_.get()) != 0) fail_io();
  return bytes_;
}

}  // namespace nibble::train
