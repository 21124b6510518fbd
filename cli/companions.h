// Small files that are written beside a model.
#pragma once

#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "nibble/error.h"
#include "nibble/report.h"

namespace nibble::cli {

// Small files that go with the model. Those written are put back as they were unless keep() is called.
class Companions {
 public:
  ~Companions() {
    if (kept_) return;
    for (const auto& [path, old] : written_) {
      std::error_code ignored;
      try {
        if (old)
          write_text_file(path, *old);
        else
          std::filesystem::remove(path, ignored);
      } catch (const Error&) {  // there is no more to be done
      }
    }
  }
  Companions() = default;
  Companions(const Companions&) = delete;
  Companions& operator=(const Companions&) = delete;

  void write(const std::string& path, const std::string& text) {
    std::optional<std::string> old;
    if (std::ifstream file(path, std::ios::binary); file) {
      std::stringstream bytes;
      bytes << file.rdbuf();
      old = bytes.str();
    }
    write_text_file(path, text);
    written_.emplace_back(path, std::move(old));
  }
  void keep() { kept_ = true; }

 private:
  bool kept_ = false;
  std::vector<std::pair<std::string, std::optional<std::string>>> written_;
};

}  // namespace nibble::cli
