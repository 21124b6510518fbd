// Which tile for how many rows and panels. Internal to the room.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/isa.h"
#include "kernels/qgemm/tile.h"

namespace nibble::kernels {

struct QgemmTiles {
  struct Width {
    std::int64_t max_rows = 0;
    std::array<QgemmTileFn, kMaxTileRows + 1> fn{};  // by rows: the smallest tile that holds them
    std::array<int, kMaxTileRows + 1> rows_of{};     // its mr
  };
  std::int64_t max_panels = 0;
  std::array<Width, kMaxPanels + 1> width{};  // by panels
};

// Of any ISA but the reference.
const QgemmTiles& qgemm_tiles(Isa isa);

}  // namespace nibble::kernels
