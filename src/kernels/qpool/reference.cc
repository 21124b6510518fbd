#include <algorithm>

#include "kernels/qpool/kernels.h"
#include "kernels/requantize/requantize.h"

namespace nibble::kernels {

void pool_max_reference(const PoolWindow& w) {
  for (std::int64_t c = 0; c < w.channels; ++c) {
    std::int32_t best = w.qmin;
    for (std::int64_t y = 0; y < w.height; ++y)
      for (std::int64_t x = 0; x < w.width; ++x) best = std::max<std::int32_t>(best, w.src[y * w.step_h + x * w.step_w + c]);
    w.dst[c] = static_cast<std::uint8_t>(std::min(best, w.qmax));
  }
}

void pool_average_reference(const PoolWindow& w) {
  for (std::int64_t c = 0; c < w.channels; ++c) {
    std::int64_t acc = w.bias;
    for (std::int64_t y = 0; y < w.height; ++y)
      for (std::int64_t x = 0; x < w.width; ++x) acc += w.src[y * w.step_h + x * w.step_w + c];
    w.dst[c] = requantize_one(w.requantize, acc, 0);
  }
}

}  // namespace nibble::kernels
