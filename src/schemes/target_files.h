// The target files, compiled in.
#pragma once

#include <span>
#include <string_view>

namespace nibble {

struct TargetFile {
  std::string_view name;  // "ort-cpu.json"
  std::string_view text;
};
std::span<const TargetFile> target_files();

}  // namespace nibble
