// Files and folders as data sets see them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nibble {

enum class PathKind { kMissing, kFile, kFolder, kOther };
PathKind path_kind(const std::string& path);

// The whole of a regular file. Throws Error{kNotFound, kInvalidArgument, kIo}; `what` says in the message what the file is ("the image").
// Devices and pipes are refused: they need not end.
std::string read_regular_file(const std::string& path, std::string_view what);

// Names (not paths) in a folder, sorted by their bytes, hidden ones left out.
struct FolderListing {
  std::vector<std::string> files;
  std::vector<std::string> folders;
};
FolderListing list_folder(const std::string& path);

// "dir/name"; `name` alone where it is absolute or `dir` is empty.
std::string join_path(const std::string& dir, const std::string& name);
// "dir" of "dir/name", "" of "name".
std::string parent_path(const std::string& path);
std::string file_name(const std::string& path);

// By extension, in either case: ".jpg", ".jpeg", ".png"; ".npy".
bool is_image_name(std::string_view name);
bool is_npy_name(std::string_view name);
bool ends_with_no_case(std::string_view name, std::string_view lower_case_suffix);

// A path or name with its control characters replaced.
std::string printable(std::string_view text);
// At most 80 bytes of something that came from a file, with control characters replaced: messages stay on one line.
std::string in_quotes(std::string_view text);

}  // namespace nibble
