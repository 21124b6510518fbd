// A matrix product on tile registers: the contract between the drivers and x86_amx.cc. Internal to the room.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/requantize/view.h"

namespace nibble::kernels {

// K of one step: a panel's 64 k x 16 columns, as pack_gemm() lays them out, are one tile of 16 rows of 64 bytes.
inline constexpr std::int64_t kAmxStep = 64;

// Rows at one distance times whole panels. Rows that lie elsewhere are gathered, some at a time.
//   acc[m, n] = bias[n] + sum over i in [0, k) of src[m * ld_src + i] wei[i, n]   (- zero_points[n] sum of the row)
struct QgemmAmx {
  const std::uint8_t* src = nullptr;
  std::int64_t ld_src = 0;
  std::int64_t rows = 0;      // at least 1
  std::int64_t k = 0;         // at least 1. Panels are packed up to the next multiple of kAmxStep, with zeros
  std::int64_t readable = 0;  // bytes from src on that may be read, at least (rows - 1) ld_src + k: what lies between counts nothing
  // Not null: src is not read. gather(context, first, count, to) writes rows [first, first + count) at `to`, ld_src apart (a multiple of 64),
  // as many as fit `gathered` (aligned to 64 bytes): at least 32. Of a row k bytes count, and all may be read.
  void (*gather)(const void* context, std::int64_t first, std::int64_t count, std::uint8_t* to) = nullptr;
  const void* context = nullptr;
  std::uint8_t* gathered = nullptr;
  std::int64_t gathered_rows = 0;
  const std::byte* wei = nullptr;
  std::int64_t panel_bytes = 0;
  const std::int32_t* bias = nullptr;         // at the first column; whole panels readable
  const std::int32_t* zero_points = nullptr;  // likewise, or null
  Requantize requantize;                      // arrays at the first column
  ResidualAdd residual;                       // src at the first row and column; only with dst
  std::uint8_t* dst = nullptr;                // either dst or acc
  std::int32_t* acc = nullptr;
  std::int64_t ld_dst = 0;
  std::int64_t columns = 0;  // that are written, in as many panels as they take
};

void qgemm_u8s8s32_32x32c64_amx(const QgemmAmx& g);

// `rows` rows of `bytes` bytes from one distance to another. Nothing else is read or written.
void copy_rows_avx512(const std::uint8_t* src, std::int64_t ld_src, std::uint8_t* dst, std::int64_t ld_dst, std::int64_t rows,
                      std::int64_t bytes);

}  // namespace nibble::kernels
