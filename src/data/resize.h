// Bilinear resizing of 8-bit images, with and without antialiasing.
#pragma once

#include <cstdint>

#include "nibble/tensor.h"

namespace nibble {

// `image` [H, W, C] uint8 -> [height, width, C] uint8; height and width >= 1. Bit-equal to Pillow's Image.resize((width, height),
// BILINEAR): where the image shrinks, the triangle filter is stretched by the factor, so that every source pixel counts.
Tensor resize_antialiased(const Tensor& image, std::int64_t height, std::int64_t width);

// The plain form: each pixel from its (at most) four neighbours, pixel centres at half integers, edges repeated; one rounding, half up.
Tensor resize_plain(const Tensor& image, std::int64_t height, std::int64_t width);

}  // namespace nibble
