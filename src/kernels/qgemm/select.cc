#include "kernels/qgemm/select.h"

#include <algorithm>

namespace nibble::kernels {

#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) void fn(const QgemmTile&);
#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#include "kernels/qgemm/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#endif

namespace {

struct Row {
  Isa isa;
  int mr;
  int nr;
  QgemmTileFn fn;
};

constexpr Isa avx2 = Isa::kAvx2;
constexpr Isa avxvnni = Isa::kAvxVnni;
constexpr Isa avx512vnni = Isa::kAvx512Vnni;

constexpr Row kRows[] = {
#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) Row{isa, mr, nr, fn},
#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#include "kernels/qgemm/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#endif
    Row{Isa::kReference, 0, 0, nullptr}};

QgemmTiles tiles_of(Isa isa) {
  QgemmTiles tiles;
  for (const Row& row : kRows) {
    if (row.isa != isa || row.fn == nullptr) continue;
    const std::int64_t panels = row.nr / kPanel;
    tiles.max_panels = std::max(tiles.max_panels, panels);
    QgemmTiles::Width& width = tiles.width[static_cast<std::size_t>(panels)];
    width.max_rows = std::max<std::int64_t>(width.max_rows, row.mr);
    for (int rows = 1; rows <= row.mr; ++rows) {
      const auto i = static_cast<std::size_t>(rows);
      if (width.fn[i] != nullptr && width.rows_of[i] <= row.mr) continue;
      width.fn[i] = row.fn;
      width.rows_of[i] = row.mr;
    }
  }
  return tiles;
}

}  // namespace

const QgemmTiles& qgemm_tiles(Isa isa) {
  static const std::array<QgemmTiles, 4> all = {QgemmTiles{}, tiles_of(avx2), tiles_of(avxvnni), tiles_of(avx512vnni)};
  return all[static_cast<std::size_t>(isa)];
}

}  // namespace nibble::kernels
