// Rows of reals: the contract between dynamic.cc and the kernels in the ISA files. Internal to the room.
#pragma once

#include <cstdint>

namespace nibble::kernels {

struct RealRow {
  const std::int32_t* acc = nullptr;  // dequantize_row
  const float* multiplier = nullptr;
  const float* bias = nullptr;  // or null
  const float* a = nullptr;     // add_row, min_max
  const float* b = nullptr;
  float lo = 0, hi = 0;
  float* dst = nullptr;
  std::int64_t n = 0;
  std::int64_t rows = 1, ld_acc = 0, ld_dst = 0;  // dequantize_row: several rows
  float min = 0, max = 0;  // what was written (read: min_max) is taken in
};

using RealRowFn = void (*)(RealRow&);

}  // namespace nibble::kernels
