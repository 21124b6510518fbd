// Tensor data that a model keeps in files beside itself. A model file may come from anywhere, so it must not be a way to read other files:
// locations are relative, stay inside the model's folder, and pass through no symbolic link.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>

namespace nibble {

class ExternalData {
 public:
  // `folder` is the model's; an empty one is the current folder.
  explicit ExternalData(std::string folder) : folder_(std::move(folder)) {}
  ~ExternalData();
  ExternalData(const ExternalData&) = delete;
  ExternalData& operator=(const ExternalData&) = delete;

  // Throws unless [offset, offset + size) lies inside of the file. Called before any memory is taken for the tensor.
  void check(const std::string& location, std::int64_t offset, std::int64_t size, const std::string& tensor);
  // Fills `out` with the bytes at `offset`.
  void read(const std::string& location, std::int64_t offset, std::span<std::byte> out, const std::string& tensor);

 private:
  struct File {
    int fd = -1;
    std::int64_t size = 0;
  };
  const File& open(const std::string& location, const std::string& tensor);

  std::string folder_;
  std::map<std::string, File> files_;
};

}  // namespace nibble
