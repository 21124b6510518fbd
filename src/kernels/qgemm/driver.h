// What qgemm and qconv share: a block of rows, given by pointers, times all columns. Internal to the room.
#pragma once

#include "kernels/qgemm/qgemm.h"
#include "kernels/qgemm/tile.h"

namespace nibble::kernels {

// `tile` describes the whole block (rows, taps, run, requantize and dst at column 0); columns and wei are those of `weights`.
// rows: the block's rows, at most kRowBlock; row_stride >= rows + kMaxTileRows, and the entries after the last row repeat it.
void run_row_block(const PackedGemm& weights, const QgemmTile& tile, std::int64_t rows, std::int64_t panel_begin, std::int64_t panel_end);

// How many of `rows` rows to take next: blocks of about the same size, at most kRowBlock, whole tiles of most shapes.
std::int64_t next_rows(std::int64_t rows);

// Fills the entries after the last row.
void repeat_last(const std::uint8_t** rows, std::int64_t count);

// The plain loops that are law.
void qgemm_reference(const PackedGemm& weights, const GemmCall& call, std::int64_t row_begin, std::int64_t row_end,
                     std::int64_t column_begin, std::int64_t column_end);

}  // namespace nibble::kernels
