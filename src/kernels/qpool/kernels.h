// The contract between qpool.cc and the kernels in the ISA files: one output pixel, all channels. Internal to the room.
#pragma once

#include <cstdint>

#include "kernels/requantize/view.h"

namespace nibble::kernels {

// The window's part inside of the image: `height` rows of `width` positions.
struct PoolWindow {
  const std::uint8_t* src = nullptr;    // its first position
  std::int64_t step_w = 0, step_h = 0;  // bytes between positions, between rows
  std::int64_t width = 0, height = 0;
  std::int64_t channels = 0;
  std::uint8_t* dst = nullptr;
  std::int32_t qmin = 0, qmax = 255;  // max
  std::int32_t bias = 0;              // average: -zx width height
  Requantize requantize;              // average: one entry, that of the count
};

using PoolFn = void (*)(const PoolWindow&);

void pool_max_reference(const PoolWindow&);
void pool_average_reference(const PoolWindow&);
#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) void fn(const PoolWindow&);
#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#include "kernels/qpool/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#endif

}  // namespace nibble::kernels
