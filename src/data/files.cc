#include "data/files.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/atomic_file.h"
#include "base/fail.h"

namespace nibble {

PathKind path_kind(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return PathKind::kMissing;
  if (S_ISREG(info.st_mode)) return PathKind::kFile;
  if (S_ISDIR(info.st_mode)) return PathKind::kFolder;
  return PathKind::kOther;
}

std::string read_regular_file(const std::string& path, std::string_view what) {
  if (path_kind(path) == PathKind::kOther)
    fail(ErrorCode::kInvalidArgument, "{}: is a device or a pipe, but {} is a regular file", path, what);
  return read_file(path, what);
}

FolderListing list_folder(const std::string& path) {
  const auto close = [](DIR* dir) { ::closedir(dir); };
  const std::unique_ptr<DIR, decltype(close)> dir(::opendir(path.c_str()), close);
  if (dir == nullptr) fail(ErrorCode::kIo, "{}: the folder cannot be read: {}", path, std::strerror(errno));
  FolderListing listing;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name.front() == '.') continue;
    switch (path_kind(join_path(path, name))) {
      case PathKind::kFile: listing.files.push_back(name); break;
      case PathKind::kFolder: listing.folders.push_back(name); break;
      case PathKind::kMissing:
      case PathKind::kOther: break;
    }
  }
  std::sort(listing.files.begin(), listing.files.end());
  std::sort(listing.folders.begin(), listing.folders.end());
  return listing;
}

std::string join_path(const std::string& dir, const std::string& name) {
  if (dir.empty() || (!name.empty() && name.front() == '/')) return name;
  return dir.back() == '/' ? dir + name : dir + "/" + name;
}

std::string parent_path(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return "";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string file_name(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

bool ends_with_no_case(std::string_view name, std::string_view lower_case_suffix) {
  if (name.size() < lower_case_suffix.size()) return false;
  const std::string_view tail = name.substr(name.size() - lower_case_suffix.size());
  return std::equal(tail.begin(), tail.end(), lower_case_suffix.begin(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b; });
}

bool is_image_name(std::string_view name) {
  return ends_with_no_case(name, ".jpg") || ends_with_no_case(name, ".jpeg") || ends_with_no_case(name, ".png");
}

bool is_npy_name(std::string_view name) { return ends_with_no_case(name, ".npy"); }

std::string printable(std::string_view text) {
  std::string result(text);
  std::replace_if(
      result.begin(), result.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, '?');
  return result;
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  return "'" + printable(text.substr(0, kLongest)) + (text.size() > kLongest ? "...'" : "'");
}

}  // namespace nibble
