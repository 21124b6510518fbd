// What an epilogue needs to know of requantization: all that ISA files see of it.
#pragma once

#include <cstdint>

namespace nibble::kernels {

// Arrays that kernels read by whole vectors have this many readable elements after the last (their values do not matter).
inline constexpr std::int64_t kChannelSlack = 64;

// View for the kernels; element c belongs to output channel c. Either float32:
//   q = clamp(rne(f32(acc) multiplier[c]) + zero_point, qmin, qmax)
// or integers only (laws fixed_point and shift, the latter with m0 a power of two):
//   q = clamp(((acc m0[c] + (2^shift[c] >> 1)) >> shift[c]) + zero_point, qmin, qmax), shift 0..62
// on the unsigned grid: 0 <= qmin <= qmax <= 255.
struct Requantize {
  const float* multiplier = nullptr;  // null: integers only
  const std::int32_t* m0 = nullptr;
  const std::uint8_t* shift = nullptr;
  std::int32_t zero_point = 0;
  std::int32_t qmin = 0;
  std::int32_t qmax = 255;
  // Float32, all multipliers below 1, the whole grid: no product of an int32 can leave int32, and saturation is the clamp. Saves the
  // epilogues work.
  bool plain = false;
};

}  // namespace nibble::kernels
