#include "kernels/qgemm/select.h"

#include <algorithm>

#include "kernels/qgemm/portable.h"

namespace nibble::kernels {

#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_BLOCKS(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_PORTABLE(family, types, mr, nr, kr, isa, fn)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) void fn(const QgemmStrip&);
#if defined(NIBBLE_KERNELS_X86)
#include "kernels/qgemm/kernels.inc"
#endif
#undef NIBBLE_PORTABLE
#undef NIBBLE_KERNEL

namespace {

struct Row {
  Isa isa;
  int mr;
  int nr;
  QgemmStripFn fn;
};

[[maybe_unused]] constexpr Isa avx2 = Isa::kAvx2;
[[maybe_unused]] constexpr Isa avxvnni = Isa::kAvxVnni;
[[maybe_unused]] constexpr Isa avx512vnni = Isa::kAvx512Vnni;

#define NIBBLE_PORTABLE(family, types, mr, nr, kr, isa, fn) Row{Isa::kPortable, mr, nr, fn},
#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) Row{isa, mr, nr, fn},
#else
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn)
#endif
constexpr Row kRows[] = {
#include "kernels/qgemm/kernels.inc"
};
#undef NIBBLE_PORTABLE
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#undef NIBBLE_BLOCKS

QgemmKernels kernels_of(Isa isa) {
  QgemmKernels kernels;
  for (const Row& row : kRows) {
    if (row.isa != isa) continue;
    const std::int64_t panels = row.nr / kPanel;
    kernels.max_panels = std::max(kernels.max_panels, panels);
    auto& by_rows = kernels.by_size[static_cast<std::size_t>(panels)];
    for (int rows = 1; rows <= static_cast<int>(kMaxTileRows); ++rows) {
      QgemmKernel& chosen = by_rows[static_cast<std::size_t>(rows)];
      const bool better = chosen.rows >= rows ? row.mr >= rows && row.mr < chosen.rows : row.mr > chosen.rows;
      if (better) chosen = {row.fn, row.mr};
    }
  }
  return kernels;
}

}  // namespace

const QgemmKernels& qgemm_kernels(Isa isa) {
  static const std::array<QgemmKernels, 5> all = {QgemmKernels{}, kernels_of(Isa::kPortable), kernels_of(Isa::kAvx2),
                                                  kernels_of(Isa::kAvxVnni), kernels_of(Isa::kAvx512Vnni)};
  return all[static_cast<std::size_t>(vector_isa(isa))];
}

}  // namespace nibble::kernels
