#include "kernels/qgemm/qgemm.h"

#include <algorithm>
#include <array>

#include "kernels/kernel_name.h"
#include "kernels/qgemm/driver.h"
#include "kernels/qgemm/select.h"

namespace nibble::kernels {

std::int64_t next_rows(std::int64_t rows) {
  const std::int64_t blocks = (rows + kRowBlock - 1) / kRowBlock;
  const std::int64_t even = (rows + blocks - 1) / blocks;
  return std::min({(even + 11) / 12 * 12, rows, kRowBlock});
}

void repeat_last(const std::uint8_t** rows, std::int64_t count) {
  for (std::int64_t i = count; i < count + kMaxTileRows; ++i) rows[i] = rows[count - 1];
}

void run_row_block(const PackedGemm& weights, const QgemmTile& block, std::int64_t rows, std::int64_t panel_begin, std::int64_t panel_end) {
  const QgemmTiles& tiles = qgemm_tiles(weights.isa);
  QgemmTile tile = block;
  tile.panel_bytes = weights.panel_bytes;
  std::int64_t panel = panel_begin;
  while (panel < panel_end) {
    // Panels, and rows within them, are shared out evenly: 5 panels are 3 + 2, 9 rows of tiles of 6 are 5 + 4.
    const std::int64_t left = panel_end - panel;
    const std::int64_t calls = (left + tiles.max_panels - 1) / tiles.max_panels;
    const std::int64_t width = (left + calls - 1) / calls;
    const std::int64_t column = panel * kPanel;
    tile.wei = weights.wei + panel * weights.panel_bytes;
    tile.bias = block.bias + column;
    tile.zero_points = block.zero_points == nullptr ? nullptr : block.zero_points + column;
    if (block.requantize.multiplier != nullptr) tile.requantize.multiplier = block.requantize.multiplier + column;
    if (block.requantize.m0 != nullptr) {
      tile.requantize.m0 = block.requantize.m0 + column;
      tile.requantize.shift = block.requantize.shift + column;
    }
    tile.columns = std::min(width * kPanel, weights.n - column);
    const QgemmTiles::Width& choice = tiles.width[static_cast<std::size_t>(width)];
    for (std::int64_t row = 0; row < rows;) {
      const std::int64_t rows_left = rows - row;
      const std::int64_t steps = (rows_left + choice.max_rows - 1) / choice.max_rows;
      const std::int64_t height = (rows_left + steps - 1) / steps;
      tile.rows = block.rows + row;
      tile.valid_rows = height;
      if (block.dst != nullptr) tile.dst = block.dst + row * block.ld_dst + column;
      if (block.acc != nullptr) tile.acc = block.acc + row * block.ld_dst + column;
      choice.fn[static_cast<std::size_t>(height)](tile);
      row += height;
    }
    panel += width;
  }
}

std::int64_t gemm_panels(const PackedGemm& weights) { return (weights.n + kPanel - 1) / kPanel; }

void qgemm(const PackedGemm& weights, const GemmCall& call, std::int64_t row_begin, std::int64_t row_end) {
  qgemm_panels(weights, call, row_begin, row_end, 0, gemm_panels(weights));
}

void qgemm_panels(const PackedGemm& weights, const GemmCall& call, std::int64_t row_begin, std::int64_t row_end, std::int64_t panel_begin,
                  std::int64_t panel_end) {
  if (weights.isa == Isa::kReference) {
    qgemm_reference(weights, call, row_begin, row_end, panel_begin * kPanel, std::min(panel_end * kPanel, weights.n));
    return;
  }
  std::array<const std::uint8_t*, kRowBlock + kMaxTileRows> pointers;
  QgemmTile block;
  block.rows = pointers.data();
  block.row_stride = kRowBlock + kMaxTileRows;
  block.run = weights.k;
  block.bias = call.bias != nullptr ? call.bias : weights.bias;
  block.zero_points = weights.zero_points;
  block.requantize = call.requantize;
  block.ld_dst = call.ld_dst;
  const std::int64_t padded = (weights.k + 3) / 4 * 4;
  std::int64_t rows = 0;
  for (std::int64_t row = row_begin; row < row_end; row += rows) {
    rows = next_rows(row_end - row);
    for (std::int64_t i = 0; i < rows; ++i) pointers[static_cast<std::size_t>(i)] = call.src + (row + i) * call.ld_src;
    repeat_last(pointers.data(), rows);
    // Reading up to three bytes past a row is reading the next one, but for the last row of the matrix.
    block.may_read_past = (row + rows - 1) * call.ld_src + padded <= (call.rows - 1) * call.ld_src + weights.k;
    if (call.dst_type == DstType::kInt32)
      block.acc = static_cast<std::int32_t*>(call.dst) + row * call.ld_dst;
    else
      block.dst = static_cast<std::uint8_t*>(call.dst) + row * call.ld_dst;
    run_row_block(weights, block, rows, panel_begin, panel_end);
  }
}

std::string gemm_kernel_name(Isa isa, std::int64_t rows, std::int64_t n) {
  if (isa == Isa::kReference) return kernel_name("qgemm", "u8s8s32", 1, 1, 1, isa);
  const QgemmTiles& tiles = qgemm_tiles(isa);
  const std::int64_t panels = (n + kPanel - 1) / kPanel;
  const std::int64_t calls = (panels + tiles.max_panels - 1) / tiles.max_panels;
  const std::int64_t width = std::max<std::int64_t>(1, (panels + calls - 1) / std::max<std::int64_t>(calls, 1));
  const QgemmTiles::Width& choice = tiles.width[static_cast<std::size_t>(width)];
  const std::int64_t height = std::clamp<std::int64_t>(rows, 1, choice.max_rows);
  return kernel_name("qgemm", "u8s8s32", choice.rows_of[static_cast<std::size_t>(height)], static_cast<int>(width * kPanel),
                     isa == Isa::kAvx2 ? 2 : 4, isa);
}

}  // namespace nibble::kernels
