// Decoders of image files: bytes in, RGB out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "nibble/tensor.h"

namespace nibble {

// Larger images are refused before anything is allocated: a file of a few kB can say that it is any size.
inline constexpr std::int64_t kMostPixels = 100'000'000;

// [H, W, 3] uint8. `origin` names the file in messages. Throws Error{kInvalidData}.
Tensor decode_image(std::string_view bytes, const std::string& origin);
Tensor decode_jpeg(std::string_view bytes, const std::string& origin);
Tensor decode_png(std::string_view bytes, const std::string& origin);
// Throws Error{kInvalidData} for empty images and such of more than kMostPixels.
void check_image_size(std::int64_t height, std::int64_t width, const std::string& origin);

}  // namespace nibble
