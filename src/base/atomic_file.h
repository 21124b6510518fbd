// Files that are either whole or not there.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace nibble {

// Writes `bytes` to a temporary file beside `path`, flushes it to the disk and renames it. A failure removes the temporary file and leaves an
// old file as it was. Throws Error{kIo} with the system's reason; Error{kInvalidArgument} if `path` exists and is not a regular file.
void write_file(const std::string& path, std::string_view bytes);

// The whole file. Throws Error{kNotFound} or Error{kIo}; `what` says in the message what the file is ("the model").
std::string read_file(const std::string& path, std::string_view what);

}  // namespace nibble
