// Small files made on the spot for the tests of the data room.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/dataset.h"
#include "nibble/error.h"

namespace nibble::testing {

// A folder that is gone at the end of the test.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  // Writes a file, with the folders above it; gives its path.
  std::string write(const std::string& name, std::string_view bytes) const;

 private:
  std::string path_;
};

// [H, W, 3] with smooth colours, edges and noise: nothing that a wrong filter leaves alone.
Tensor synthetic_image(std::int64_t height, std::int64_t width, std::uint64_t seed);

struct JpegOptions {
  int quality = 90;
  bool progressive = false;
  bool gray = false;
  bool cmyk = false;      // Adobe's inverted CMYK; the fourth plane is the first, turned round
  bool subsample = true;  // 4:2:0
};
std::string jpeg_bytes(const Tensor& image, JpegOptions options = {});
// `row_bytes` are the raw rows as PNG packs them, without filter bytes. Written by hand, so that every kind and every fault can be made.
struct PngParts {
  std::uint32_t width = 1, height = 1;
  int depth = 8, color = 2, interlace = 0;
  std::string rows = {};  // with a filter byte each
  std::string palette = {}, transparency = {};
};
std::string png_bytes(const PngParts& parts);
std::string png_bytes(const Tensor& image);
std::string png_chunk(std::string_view type, std::string_view data);

struct ZipItem {
  std::string name;
  std::string bytes;
  bool deflate = false;
};
std::string zip_bytes(const std::vector<ZipItem>& items);
std::string zlib_bytes(std::string_view bytes);
std::string gzip_bytes(std::string_view bytes);
std::string idx_bytes(const std::vector<std::uint32_t>& shape, std::string_view elements);
// .npy with a header of one's own.
std::string npy_with_header(std::string header, std::string_view data);

InputSpec image_input(std::int64_t channels = 3, std::int64_t side = 8);
PreprocessRecipe exact_recipe(std::int64_t side = 8);
// XXH-free checksum for golden values: FNV-1a, 64 bits.
std::uint64_t fnv1a(const Tensor& tensor);

// The assets' folder, or "" where it is missing.
std::string assets_folder();
// The message of the Error that `body` throws; fails the test if it throws none. `code` is compared too.
std::string error_of(ErrorCode code, const std::function<void()>& body);
// Any Error's message, "" if none was thrown.
std::string any_error_of(const std::function<void()>& body);

}  // namespace nibble::testing
