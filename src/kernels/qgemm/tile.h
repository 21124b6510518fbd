// A strip of a matrix product: the contract between the drivers of qgemm and qconv and the kernels in the ISA files. Internal to the room.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/requantize/view.h"

namespace nibble::kernels {

inline constexpr std::int64_t kPanel = 16;     // columns of wei packed together
inline constexpr std::int64_t kMaxPanels = 4;  // of one strip
inline constexpr std::int64_t kMaxTileRows = 16;
// The most rows that a driver takes at once: many, so that a panel block of wei is fetched into the first-level cache for many tiles.
inline constexpr std::int64_t kRowBlock = 96;

// Some rows times up to kMaxPanels panels; the kernel cuts the rows into its tiles.
//   acc[m, n] = bias[n] + sum over taps t and i in [0, run) of rows[t * row_stride + m][i] wei[t, i, n]   (- zero_points[n] sum of the row)
struct QgemmStrip {
  // [taps][row_stride], `count` of them per tap; kMaxTileRows more repeat the last one, so that a tile may be computed whole.
  const std::uint8_t* const* rows = nullptr;
  std::int64_t row_stride = 0;
  std::int64_t row_offset = 0;  // bytes, added to each pointer
  std::int64_t count = 0;       // 1..kRowBlock
  std::int64_t taps = 1;
  std::int64_t run = 0;        // bytes behind each pointer that count
  bool may_read_past = false;  // the bytes from run up to the next multiple of 4 are readable (their weights are 0)
  const std::byte* wei = nullptr;
  std::int64_t panel_bytes = 0;
  const std::int32_t* bias = nullptr;         // at the first column; whole panels readable
  const std::int32_t* zero_points = nullptr;  // likewise, or null
  Requantize requantize;                      // arrays at the first column
  ResidualAdd residual;                       // src at the first row and column; only with dst
  std::uint8_t* dst = nullptr;                // either dst or acc
  std::int32_t* acc = nullptr;
  std::int64_t ld_dst = 0;
  std::int64_t columns = 0;  // that are written, in as many panels as the kernel takes: the last one may be cut
};

using QgemmStripFn = void (*)(const QgemmStrip&);

// The next tile's rows, where `left` are left and tiles have at most `most`: shared out evenly, 9 rows of tiles of 6 are 5 + 4.
constexpr std::int64_t even_share(std::int64_t left, std::int64_t most) {
  const std::int64_t tiles = (left + most - 1) / most;
  return (left + tiles - 1) / tiles;
}

}  // namespace nibble::kernels
