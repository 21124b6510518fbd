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

// An addition fused behind the requantization: dst = adder(requantized, other) or adder(other, requantized) (numeric/requantize.h), so two
// roundings, those of the unfused pair. Made by residual_add(). Stored bytes throughout; dst may be `src` itself (same distances).
struct ResidualAdd {
  const std::uint8_t* src = nullptr;  // the other operand, laid out as dst; null: no addition
  std::int64_t ld_src = 0;            // elements between its rows
  bool float32 = true;                // the law, else integers
  bool src_first = false;             // float32: the other operand is the adder's first
  bool bounded = false;               // float32, and no sum of any two bytes can leave int32: what the kernels' fast endings ask for
  // float32: stored = rne(fma(first, r_first, fma(second, r_second, f))) + offset_dst, clamped, of the original integers
  //   first, second = stored - offset.
  // integers: stored = clamp((((q - zero) m + (other - zero_src) m_src + 2^(shift-1)) >> shift) + zero_dst), shift 1..30.
  float r_first = 0, r_second = 0, f = 0;
  std::int32_t offset = 0, offset_src = 0, offset_dst = 0;
  std::int32_t zero = 0, m = 0, zero_src = 0, m_src = 0, shift = 1, zero_dst = 0;
  std::int32_t qmin = 0, qmax = 255;  // stored
};

}  // namespace nibble::kernels
