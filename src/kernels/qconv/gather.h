// Output pixels as rows of a matrix: what each sees of src, tap after tap, copied next to each other. Internal to the room.
#pragma once

#include <cstdint>

#include "kernels/qconv/qconv.h"

namespace nibble::kernels {

// A row may be written this much further than it is long, before the next one is.
inline constexpr std::int64_t kGatherSlack = 16;

// Rows of output pixels [begin, end) of batch x out_h x out_w at `rows`, `ld` bytes apart: KH KW C bytes in that order, then zeros up to
// ld. Taps outside of the image are zx. All groups; ld is less than 4 bytes longer than a row. kGatherSlack bytes behind the last row are
// writable.
void gather_pixels(const ConvShape& shape, const ConvCall& call, std::uint8_t zx, std::int64_t begin, std::int64_t end, std::uint8_t* rows,
                   std::int64_t ld);

}  // namespace nibble::kernels
