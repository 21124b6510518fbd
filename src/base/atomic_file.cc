#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/fail.h"

namespace nibble {
namespace {

// A file descriptor and a name that are gone at the end of the scope unless kept.
struct TemporaryFile {
  std::string name;
  int fd = -1;
  bool kept = false;
  ~TemporaryFile() {
    if (fd >= 0) ::close(fd);
    if (!kept && !name.empty()) ::unlink(name.c_str());
  }
};

}  // namespace

void write_file(const std::string& path, std::string_view bytes) {
  struct stat info {};
  // lstat: a link is refused too, since rename() would replace it rather than what it points to.
  if (::lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    fail(ErrorCode::kInvalidArgument, "{}: exists and is not a regular file; choose another output path", path);

  TemporaryFile file;
  file.name = path + ".tmpXXXXXX";
  file.fd = ::mkstemp(file.name.data());
  if (file.fd < 0) {
    const int reason = errno;
    file.name.clear();
    fail(ErrorCode::kIo, "{}: cannot be written: {}; does the folder exist, and may you write there?", path, std::strerror(reason));
  }
  const char* data = bytes.data();
  std::size_t left = bytes.size();
  while (left > 0) {
    const ssize_t written = ::write(file.fd, data, left);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0)
      fail(ErrorCode::kIo, "{}: cannot be written: {}; nothing was changed", path, std::strerror(written < 0 ? errno : ENOSPC));
    data += written;
    left -= static_cast<std::size_t>(written);
  }
  if (::fsync(file.fd) != 0 && errno != EINVAL)
    fail(ErrorCode::kIo, "{}: cannot be written: {}; nothing was changed", path, std::strerror(errno));
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(file.fd, 0666 & ~mask);
  if (::rename(file.name.c_str(), path.c_str()) != 0)
    fail(ErrorCode::kIo, "{}: cannot be written: {}; nothing was changed", path, std::strerror(errno));
  file.kept = true;
}

std::string read_file(const std::string& path, std::string_view what) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) fail(ErrorCode::kNotFound, "{}: {} cannot be opened: {}", path, what, std::strerror(errno));
  if (S_ISDIR(info.st_mode)) fail(ErrorCode::kInvalidArgument, "{}: is a folder, but {} is a file", path, what);
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) fail(ErrorCode::kIo, "{}: {} cannot be opened: {}", path, what, std::strerror(errno));
  std::string bytes;
  bytes.resize(static_cast<std::size_t>(info.st_size > 0 ? info.st_size : 0));
  std::size_t have = 0;
  bool failed = false;
  for (;;) {
    if (have == bytes.size()) {
      // Pipes and files that grow: read on.
      char extra[4096];
      const std::size_t n = std::fread(extra, 1, sizeof extra, file);
      if (n == 0) break;
      bytes.append(extra, n);
      have += n;
      continue;
    }
    const std::size_t n = std::fread(bytes.data() + have, 1, bytes.size() - have, file);
    if (n == 0) break;
    have += n;
  }
  failed = std::ferror(file) != 0;
  std::fclose(file);
  if (failed) fail(ErrorCode::kIo, "{}: {} cannot be read: {}", path, what, std::strerror(errno));
  bytes.resize(have);
  return bytes;
}

}  // namespace nibble
