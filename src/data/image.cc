#include "data/image.h"

#include "base/fail.h"
#include "data/files.h"
#include "nibble/dataset.h"

namespace nibble {

void check_image_size(std::int64_t height, std::int64_t width, const std::string& origin) {
  if (height <= 0 || width <= 0) fail(ErrorCode::kInvalidData, "{}: broken image: its size is {} x {}", origin, width, height);
  if (height > kMostPixels / width)
    fail(ErrorCode::kInvalidData, "{}: the image says that it has {} x {} pixels; more than {} million are not read", origin, width, height,
         kMostPixels / 1'000'000);
}

Tensor decode_image(std::string_view bytes, const std::string& origin) {
  if (bytes.empty()) fail(ErrorCode::kInvalidData, "{}: broken image: the file is empty", origin);
  if (bytes.starts_with("\xFF\xD8")) return decode_jpeg(bytes, origin);
  if (bytes.starts_with("\x89PNG\r\n\x1A\n")) return decode_png(bytes, origin);
  fail(ErrorCode::kInvalidData, "{}: broken image: its content is neither JPEG nor PNG; convert or remove it", origin);
}

Tensor read_image(const std::string& path) { return decode_image(read_regular_file(path, "the image"), path); }

}  // namespace nibble
