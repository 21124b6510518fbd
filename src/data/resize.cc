// Antialiased bilinear resizing in Pillow's arithmetic.
//
// One axis at a time, first along the rows, then along the columns, with 8 bits between. Output position i lies at c = (i + 0.5) s in the
// source, s = in / out. It is the mean of the source pixels x in [c - t, c + t), t = max(1, s), weighted by the triangle 1 - |x + 0.5 - c|
// / t. The weights are computed in double, normalised to sum 1, and rounded (half away from zero) to 22 fractional bits: with 8-bit pixels
// the sum then fits into 31 bits, and half a unit before the shift rounds the result half up.
#include "data/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "data/image.h"

namespace nibble {
namespace {

constexpr int kFractionBits = 32 - 8 - 2;

// The source pixels of each output position: `first` and `count` for position i; its weights are weights[i * stride ...].
struct Taps {
  std::size_t stride = 0;
  std::vector<std::int64_t> first;
  std::vector<std::int64_t> count;
  std::vector<std::int32_t> weights;
};

Taps triangle_taps(std::int64_t in, std::int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double reach = std::max(1.0, scale);
  Taps taps;
  taps.stride = static_cast<std::size_t>(std::ceil(reach)) * 2 + 1;
  taps.first.resize(static_cast<std::size_t>(out));
  taps.count.resize(static_cast<std::size_t>(out));
  taps.weights.resize(static_cast<std::size_t>(out) * taps.stride);
  std::vector<double> weights(taps.stride);
  const double inv_reach = 1.0 / reach;
  for (std::int64_t i = 0; i < out; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    // Truncation towards zero after + 0.5, and only then the clamp to 0: the order matters for the bits.
    const std::int64_t first = std::max<std::int64_t>(0, static_cast<std::int64_t>(center - reach + 0.5));
    const std::int64_t count = std::min(in, static_cast<std::int64_t>(center + reach + 0.5)) - first;
    double sum = 0;
    for (std::int64_t k = 0; k < count; ++k) {
      const double distance = std::abs((static_cast<double>(k + first) - center + 0.5) * inv_reach);
      const double weight = distance < 1.0 ? 1.0 - distance : 0.0;
      weights[static_cast<std::size_t>(k)] = weight;
      sum += weight;
    }
    const auto at = static_cast<std::size_t>(i);
    taps.first[at] = first;
    taps.count[at] = count;
    for (std::int64_t k = 0; k < count; ++k) {
      const double weight = weights[static_cast<std::size_t>(k)];
      const double normalised = sum != 0.0 ? weight / sum : weight;
      taps.weights[at * taps.stride + static_cast<std::size_t>(k)] =
          static_cast<std::int32_t>(0.5 + normalised * static_cast<double>(1 << kFractionBits));
    }
  }
  return taps;
}

std::uint8_t to_pixel(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

constexpr std::int32_t kHalf = 1 << (kFractionBits - 1);

Tensor resize_rows(const Tensor& image, std::int64_t width) {
  const std::int64_t height = image.shape()[0];
  const std::int64_t in_width = image.shape()[1];
  const auto channels = static_cast<std::size_t>(image.shape()[2]);
  const Taps taps = triangle_taps(in_width, width);
  Tensor result(DataType::kUInt8, {height, width, image.shape()[2]});
  const std::uint8_t* src = image.data<std::uint8_t>().data();
  std::uint8_t* dst = result.mutable_data<std::uint8_t>().data();
  for (std::int64_t y = 0; y < height; ++y) {
    const std::uint8_t* row = src + static_cast<std::size_t>(y * in_width) * channels;
    for (std::size_t x = 0; x < static_cast<std::size_t>(width); ++x) {
      const std::uint8_t* pixel = row + static_cast<std::size_t>(taps.first[x]) * channels;
      const std::int32_t* weights = &taps.weights[x * taps.stride];
      const auto count = static_cast<std::size_t>(taps.count[x]);
      if (channels == 3) {
        std::int32_t r = kHalf;
        std::int32_t g = kHalf;
        std::int32_t b = kHalf;
        for (std::size_t k = 0; k < count; ++k, pixel += 3) {
          r += pixel[0] * weights[k];
          g += pixel[1] * weights[k];
          b += pixel[2] * weights[k];
        }
        dst[0] = to_pixel(r);
        dst[1] = to_pixel(g);
        dst[2] = to_pixel(b);
        dst += 3;
        continue;
      }
      for (std::size_t c = 0; c < channels; ++c) {
        std::int32_t sum = kHalf;
        for (std::size_t k = 0; k < count; ++k) sum += pixel[k * channels + c] * weights[k];
        *dst++ = to_pixel(sum);
      }
    }
  }
  return result;
}

Tensor resize_columns(const Tensor& image, std::int64_t height) {
  const auto row_bytes = static_cast<std::size_t>(image.shape()[1] * image.shape()[2]);
  const Taps taps = triangle_taps(image.shape()[0], height);
  Tensor result(DataType::kUInt8, {height, image.shape()[1], image.shape()[2]});
  const std::uint8_t* src = image.data<std::uint8_t>().data();
  std::uint8_t* dst = result.mutable_data<std::uint8_t>().data();
  std::vector<std::int32_t> sums(row_bytes);
  for (std::size_t y = 0; y < static_cast<std::size_t>(height); ++y) {
    std::fill(sums.begin(), sums.end(), kHalf);
    for (std::size_t k = 0; k < static_cast<std::size_t>(taps.count[y]); ++k) {
      const std::int32_t weight = taps.weights[y * taps.stride + k];
      const std::uint8_t* row = src + (static_cast<std::size_t>(taps.first[y]) + k) * row_bytes;
      for (std::size_t x = 0; x < row_bytes; ++x) sums[x] += row[x] * weight;
    }
    for (std::size_t x = 0; x < row_bytes; ++x) *dst++ = to_pixel(sums[x]);
  }
  return result;
}

// The two neighbours of an output position and the share of the second.
struct Neighbours {
  std::size_t low = 0;
  std::size_t high = 0;
  double share = 0;
};

Neighbours neighbours(std::int64_t i, std::int64_t in, std::int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double at = std::clamp((static_cast<double>(i) + 0.5) * scale - 0.5, 0.0, static_cast<double>(in - 1));
  const auto low = static_cast<std::int64_t>(at);
  return {static_cast<std::size_t>(low), static_cast<std::size_t>(std::min(low + 1, in - 1)), at - static_cast<double>(low)};
}

}  // namespace

Tensor resize_antialiased(const Tensor& image, std::int64_t height, std::int64_t width) {
  check_image_size(height, width, "resize");
  Tensor result = image;
  if (width != image.shape()[1]) {
    check_image_size(image.shape()[0], width, "resize");
    result = resize_rows(result, width);
  }
  if (height != image.shape()[0]) result = resize_columns(result, height);
  return result;
}

Tensor resize_plain(const Tensor& image, std::int64_t height, std::int64_t width) {
  check_image_size(height, width, "resize");
  const std::int64_t in_height = image.shape()[0];
  const std::int64_t in_width = image.shape()[1];
  const auto channels = static_cast<std::size_t>(image.shape()[2]);
  const std::size_t row_bytes = static_cast<std::size_t>(in_width) * channels;
  std::vector<Neighbours> columns(static_cast<std::size_t>(width));
  for (std::size_t x = 0; x < columns.size(); ++x) columns[x] = neighbours(static_cast<std::int64_t>(x), in_width, width);
  Tensor result(DataType::kUInt8, {height, width, image.shape()[2]});
  const std::uint8_t* src = image.data<std::uint8_t>().data();
  std::uint8_t* dst = result.mutable_data<std::uint8_t>().data();
  for (std::int64_t y = 0; y < height; ++y) {
    const Neighbours row = neighbours(y, in_height, height);
    const std::uint8_t* top = src + row.low * row_bytes;
    const std::uint8_t* bottom = src + row.high * row_bytes;
    for (const Neighbours& column : columns) {
      const std::size_t left = column.low * channels;
      const std::size_t right = column.high * channels;
      for (std::size_t c = 0; c < channels; ++c) {
        const double above = top[left + c] + column.share * (top[right + c] - top[left + c]);
        const double below = bottom[left + c] + column.share * (bottom[right + c] - bottom[left + c]);
        *dst++ = static_cast<std::uint8_t>(above + row.share * (below - above) + 0.5);
      }
    }
  }
  return result;
}

}  // namespace nibble
