// What qgemm and qconv share: a block of rows, given by pointers, times all columns. Internal to the room.
#pragma once

#include "kernels/qgemm/qgemm.h"
#include "kernels/qgemm/tile.h"

namespace nibble::kernels {

// `block` describes the rows (at most kRowBlock of them) at column 0; columns and wei are those of `weights`.
void run_row_block(const PackedGemm& weights, const QgemmStrip& block, std::int64_t panel_begin, std::int64_t panel_end);

// How many of `rows` rows to take next: blocks of about the same size, at most kRowBlock, whole tiles of most shapes.
std::int64_t next_rows(std::int64_t rows);

// The view whose channel 0 is this one's `channel`.
inline Requantize from_channel(Requantize r, std::int64_t channel) {
  if (r.multiplier != nullptr) r.multiplier += channel;
  if (r.m0 != nullptr) {
    r.m0 += channel;
    r.shift += channel;
  }
  return r;
}

// Fills the entries after the last row.
void repeat_last(const std::uint8_t** rows, std::int64_t count);

// Whether tile registers are the faster way to a product of these sizes.
bool amx_pays(std::int64_t rows, std::int64_t n, std::int64_t k);
// qgemm_panels() on tile registers.
void qgemm_amx(const PackedGemm& weights, const GemmCall& call, std::int64_t row_begin, std::int64_t row_end, std::int64_t panel_begin,
               std::int64_t panel_end);

// The plain loops that are law.
void qgemm_reference(const PackedGemm& weights, const GemmCall& call, std::int64_t row_begin, std::int64_t row_end,
                     std::int64_t column_begin, std::int64_t column_end);

}  // namespace nibble::kernels
