#include "onnx/external_data.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/checked.h"
#include "base/fail.h"

namespace nibble {
namespace {

// A model with more data files than this keeps none open beyond the newest ones.
constexpr std::size_t kOpenFiles = 64;

// Closes what it holds at the end of the scope.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  int release() {
    const int held = fd;
    fd = -1;
    return held;
  }
};

std::vector<std::string> split(const std::string& location) {
  std::vector<std::string> parts;
  std::size_t start = 0;
  while (start <= location.size()) {
    const std::size_t end = std::min(location.find('/', start), location.size());
    if (end > start && location.compare(start, end - start, ".") != 0) parts.push_back(location.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

}  // namespace

ExternalData::~ExternalData() {
  for (const auto& [location, file] : files_) ::close(file.fd);
}

const ExternalData::File& ExternalData::open(const std::string& location, const std::string& tensor) {
  if (const auto it = files_.find(location); it != files_.end()) return it->second;

  const auto refuse = [&](const char* why) {
    // A zero byte would end the message where what() is read.
    std::string shown = location;
    std::replace(shown.begin(), shown.end(), '\0', '?');
    fail(ErrorCode::kInvalidModel, "tensor '{}': its external data file '{}' {}; data must lie in the model's own folder", tensor, shown,
         why);
  };
  if (location.empty()) refuse("has no name");
  if (location.find('\0') != std::string::npos) refuse("has a zero byte in its name");
  if (location.front() == '/') refuse("is an absolute path");
  const std::vector<std::string> parts = split(location);
  if (parts.empty()) refuse("is a folder");
  if (std::find(parts.begin(), parts.end(), "..") != parts.end()) refuse("leads out of the folder with '..'");

  // One component after the other, none of them a link: a check of the whole path beforehand could be outrun by a change of the folder.
  Descriptor folder{::open(folder_.empty() ? "." : folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (folder.fd < 0) fail(ErrorCode::kIo, "the model's folder '{}' cannot be opened: {}", folder_, std::strerror(errno));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    // O_NONBLOCK: opening a pipe must not wait for a writer.
    const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (last ? O_NONBLOCK : O_DIRECTORY);
    Descriptor next{::openat(folder.fd, parts[i].c_str(), flags)};
    if (next.fd < 0) {
      const int reason = errno;
      struct stat info {};
      if (::fstatat(folder.fd, parts[i].c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode))
        refuse("goes through a symbolic link");
      fail(reason == ENOENT || reason == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo,
           "tensor '{}': its external data file '{}' cannot be opened: {}; it belongs beside the model", tensor, location,
           std::strerror(reason));
    }
    std::swap(folder.fd, next.fd);
  }
  struct stat info {};
  if (::fstat(folder.fd, &info) != 0 || !S_ISREG(info.st_mode)) refuse("is not a regular file");

  if (files_.size() >= kOpenFiles) {
    ::close(files_.begin()->second.fd);
    files_.erase(files_.begin());
  }
  return files_.emplace(location, File{.fd = folder.release(), .size = info.st_size}).first->second;
}

void ExternalData::check(const std::string& location, std::int64_t offset, std::int64_t size, const std::string& tensor) {
  const File& file = open(location, tensor);
  const auto end = checked_add(offset, size);
  if (offset < 0 || size < 0 || !end || *end > file.size)
    fail(ErrorCode::kInvalidModel, "tensor '{}': its data ({} bytes at offset {}) lies outside of the file '{}', which has {} bytes",
         tensor, size, offset, location, file.size);
}

void ExternalData::read(const std::string& location, std::int64_t offset, std::span<std::byte> out, const std::string& tensor) {
  check(location, offset, static_cast<std::int64_t>(out.size()), tensor);
  const int fd = open(location, tensor).fd;
  while (!out.empty()) {
    const ssize_t got = ::pread(fd, out.data(), out.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      fail(ErrorCode::kIo, "tensor '{}': the file '{}' cannot be read: {}", tensor, location,
           got < 0 ? std::strerror(errno) : "it became shorter");
    out = out.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
}

}  // namespace nibble
