// One tile of a matrix product: the contract between the drivers of qgemm and qconv and the kernels in the ISA files. Internal to the room.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/requantize/view.h"

namespace nibble::kernels {

inline constexpr std::int64_t kPanel = 16;     // columns of wei packed together
inline constexpr std::int64_t kMaxPanels = 4;  // of one tile
inline constexpr std::int64_t kMaxTileRows = 16;
// The most rows that a driver takes at once: many, so that a panel block of wei is fetched into the first-level cache for many tiles.
inline constexpr std::int64_t kRowBlock = 96;

// acc[m, n] = bias[n] + sum over taps t and i in [0, run) of rows[t * row_stride + m][i] wei[t, i, n]   (- zero_points[n] sum of the row)
struct QgemmTile {
  const std::uint8_t* const* rows = nullptr;  // [taps][row_stride], mr of them per tap
  std::int64_t row_stride = 0;
  std::int64_t taps = 1;
  std::int64_t run = 0;        // bytes behind each pointer that count
  bool may_read_past = false;  // the bytes from run up to the next multiple of 4 are readable (their weights are 0)
  const std::byte* wei = nullptr;
  std::int64_t panel_bytes = 0;
  const std::int32_t* bias = nullptr;         // at the first column; whole panels readable
  const std::int32_t* zero_points = nullptr;  // likewise, or null
  Requantize requantize;                      // arrays at the first column
  std::uint8_t* dst = nullptr;                // either dst or acc
  std::int32_t* acc = nullptr;
  std::int64_t ld_dst = 0;
  std::int64_t columns = 0;     // that are written: 1..16 panels
  std::int64_t valid_rows = 0;  // that are written: 1..mr; rows beyond repeat the last one
};

using QgemmTileFn = void (*)(const QgemmTile&);

}  // namespace nibble::kernels
