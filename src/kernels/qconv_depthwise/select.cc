#include "kernels/qconv_depthwise/select.h"

#include <algorithm>

namespace nibble::kernels {

#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) void fn(const DepthwiseRow&);
#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#include "kernels/qconv_depthwise/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#endif

namespace {

struct Row {
  Isa isa;
  std::int64_t width;
  DepthwiseRowFn fn;
};

[[maybe_unused]] constexpr Isa avx2 = Isa::kAvx2;
[[maybe_unused]] constexpr Isa avxvnni = Isa::kAvxVnni;
[[maybe_unused]] constexpr Isa avx512vnni = Isa::kAvx512Vnni;

constexpr Row kRows[] = {
#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) Row{isa, nr, fn},
#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#include "kernels/qconv_depthwise/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#endif
    Row{Isa::kReference, 0, nullptr}};

}  // namespace

DepthwiseRowFn depthwise_row_fn(Isa isa, std::int64_t width) {
  for (const Row& row : kRows)
    if (row.isa == isa && row.width == width) return row.fn;
  return nullptr;
}

std::vector<DepthwiseBlock> depthwise_blocks(Isa isa, std::int64_t channels) {
  std::vector<DepthwiseBlock> blocks;
  std::int64_t first = 0;
  while (first < channels) {
    const std::int64_t left = channels - first;
    // The widest block that is more than half used and fits into the tensor, going back over channels that are done if it must.
    std::int64_t width = 64;
    while (width >= 16 && (depthwise_row_fn(isa, width) == nullptr || width > channels || (width > 16 && left <= width / 2))) width /= 2;
    if (width < 16) return {};
    first = std::min(first, channels - width);
    blocks.push_back({first, width});
    first += width;
  }
  return blocks;
}

}  // namespace nibble::kernels
