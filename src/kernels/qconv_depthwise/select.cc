#include "kernels/qconv_depthwise/select.h"

#include <algorithm>
#include <string_view>

namespace nibble::kernels {

#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) void fn(const DepthwiseRow&);
#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#include "kernels/qconv_depthwise/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) void fn(const DepthwiseBand&);
#include "kernels/qconv_depthwise/bands.inc"
#undef NIBBLE_KERNEL
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

struct Band {
  std::string_view family;
  Isa isa;
  std::int64_t width;
  DepthwiseBandFn fn;
};

constexpr Band kBands[] = {
#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) Band{#family, isa, nr, fn},
#include "kernels/qconv_depthwise/bands.inc"
#undef NIBBLE_KERNEL
#endif
    Band{"", Isa::kReference, 0, nullptr}};

}  // namespace

DepthwiseRowFn depthwise_row_fn(Isa isa, std::int64_t width) {
  for (const Row& row : kRows)
    if (row.isa == isa && row.width == width) return row.fn;
  return nullptr;
}

DepthwiseBandFn depthwise_band_fn(Isa isa, std::int64_t width, std::int64_t stride) {
  const std::string_view family = stride == 1 ? "qconv_depthwise_3x3s1" : "qconv_depthwise_3x3s2";
  for (const Band& band : kBands)
    if (band.family == family && band.isa == isa && band.width == width) return band.fn;
  return nullptr;
}

bool has_bands(const PackedDepthwise& conv) {
  const ConvShape& s = conv.shape;
  return !conv.blocks.empty() && conv.zero_points == nullptr && s.kernel_h == 3 && s.kernel_w == 3 && s.dilation_h == 1 &&
         s.dilation_w == 1 && s.stride_h == s.stride_w && s.stride_w <= 2 &&
         depthwise_band_fn(conv.isa, conv.blocks.front().width, s.stride_w) != nullptr;
}

std::vector<DepthwiseBlock> depthwise_blocks(Isa isa, std::int64_t channels) {
  std::vector<DepthwiseBlock> blocks;
  std::int64_t first = 0;
  while (first < channels) {
    // The widest block that the tensor has room for, going back over channels that are done at the end: a narrower kernel is hardly faster.
    std::int64_t width = 64;
    while (width >= 16 && (depthwise_row_fn(isa, width) == nullptr || width > channels)) width /= 2;
    if (width < 16) return {};
    first = std::min(first, channels - width);
    blocks.push_back({first, width});
    first += width;
  }
  return blocks;
}

}  // namespace nibble::kernels
