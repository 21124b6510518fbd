// The contract between qadd.cc and the kernels in the ISA files: one row of n elements. Internal to the room.
#pragma once

#include <cstdint>

namespace nibble::kernels {

// b_step: 1, or 0 where b is one value for all. Original integers: a[i] - offset_a.
struct BinaryRow {
  const std::uint8_t* a = nullptr;
  const std::uint8_t* b = nullptr;
  std::int64_t b_step = 1;
  std::uint8_t* dst = nullptr;
  std::int64_t n = 0;
  std::int32_t offset_a = 0, offset_b = 0, offset_dst = 0;
  std::int32_t zero_point = 0, qmin = 0, qmax = 0;  // of dst, original
  // float32: qadd: fma(a, ra, fma(b, rb, f)); qmul: f32((a - za)(b - zb)) ra + f
  float ra = 0, rb = 0, f = 0;
  // integers: qadd: ((a - za) ma + (b - zb) mb + 2^(shift-1)) >> shift; qmul: ((a - za)(b - zb) ma + (2^shift >> 1)) >> shift
  std::int32_t za = 0, zb = 0, ma = 0, mb = 0, shift = 1;
};

}  // namespace nibble::kernels
