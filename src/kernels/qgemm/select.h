// Which kernel for how many panels. Internal to the room.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/isa.h"
#include "kernels/qgemm/tile.h"

namespace nibble::kernels {

struct QgemmKernel {
  QgemmStripFn fn = nullptr;
  int rows = 0;  // of its largest tile
};

struct QgemmKernels {
  std::int64_t max_panels = 0;
  // [panels][rows, at most kMaxTileRows]: the one with the smallest tile that holds the rows, else the one with the largest.
  std::array<std::array<QgemmKernel, kMaxTileRows + 1>, kMaxPanels + 1> by_size{};

  const QgemmKernel& find(std::int64_t rows, std::int64_t panels) const {
    return by_size[static_cast<std::size_t>(panels)][static_cast<std::size_t>(rows < kMaxTileRows ? rows : kMaxTileRows)];
  }
};

// Of any ISA but the reference.
const QgemmKernels& qgemm_kernels(Isa isa);

}  // namespace nibble::kernels
