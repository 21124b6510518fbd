// The driver: cuts each window to the image, then one kernel call a pixel.
#include "kernels/qpool/qpool.h"

#include <algorithm>
#include <string_view>

#include "kernels/kernel_name.h"
#include "kernels/qpool/kernels.h"

namespace nibble::kernels {
namespace {

struct Row {
  std::string_view family;
  Isa isa;
  PoolFn fn;
};

[[maybe_unused]] constexpr Isa avx2 = Isa::kAvx2;
[[maybe_unused]] constexpr Isa avx512vnni = Isa::kAvx512Vnni;

constexpr Row kRows[] = {
#if defined(NIBBLE_KERNELS_X86)
#define NIBBLE_KERNEL(family, types, mr, nr, kr, isa, fn) Row{#family, isa, fn},
#define NIBBLE_REFERENCE(family, types, mr, nr, kr, isa, fn)
#include "kernels/qpool/kernels.inc"
#undef NIBBLE_KERNEL
#undef NIBBLE_REFERENCE
#endif
    Row{"qpool_max", Isa::kReference, pool_max_reference}, Row{"qpool_average", Isa::kReference, pool_average_reference}};

PoolFn find(std::string_view family, Isa isa) {
  const Row* best = nullptr;
  for (const Row& row : kRows)
    if (row.family == family && row.isa <= isa && (best == nullptr || row.isa > best->isa)) best = &row;
  return best->fn;
}

// Positions of a window along one axis.
struct Span1 {
  std::int64_t first = 0;   // coordinate of the first position inside of the image
  std::int64_t inside = 0;  // positions inside of the image
  std::int64_t padded = 0;  // positions inside of the padded image
};

Span1 clip(std::int64_t out, std::int64_t stride, std::int64_t dilation, std::int64_t kernel, std::int64_t in, std::int64_t pad_begin,
           std::int64_t pad_end) {
  Span1 s;
  const std::int64_t start = out * stride - pad_begin;
  const std::int64_t begin = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  const auto below = [&](std::int64_t limit) {  // positions with start + k dilation < limit
    return start >= limit ? std::int64_t{0} : std::min(kernel, (limit - start + dilation - 1) / dilation);
  };
  const std::int64_t end = below(in);
  s.first = start + begin * dilation;
  s.inside = std::max<std::int64_t>(end - begin, 0);
  s.padded = below(in + pad_end);
  return s;
}

template <typename Finish>
void for_each_window(const PoolCall& call, std::int64_t row_begin, std::int64_t row_end, PoolFn fn, Finish finish) {
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const std::int64_t oh = row % call.out_h;
    const std::int64_t b = row / call.out_h;
    const Span1 h = clip(oh, call.stride_h, call.dilation_h, call.kernel_h, call.in_h, call.pad_top, call.pad_bottom);
    for (std::int64_t ow = 0; ow < call.out_w; ++ow) {
      const Span1 w = clip(ow, call.stride_w, call.dilation_w, call.kernel_w, call.in_w, call.pad_left, call.pad_right);
      PoolWindow window;
      window.width = h.inside == 0 ? 0 : w.inside;
      window.height = w.inside == 0 ? 0 : h.inside;
      window.src = window.width == 0 ? call.src : call.src + ((b * call.in_h + h.first) * call.in_w + w.first) * call.ld_src;
      window.step_w = call.dilation_w * call.ld_src;
      window.step_h = call.dilation_h * call.in_w * call.ld_src;
      window.channels = call.channels;
      window.dst = call.dst + (row * call.out_w + ow) * call.ld_dst;
      finish(window, h, w);
      fn(window);
    }
  }
}

}  // namespace

void qpool_max(Isa isa, const PoolCall& call, std::int32_t qmin, std::int32_t qmax, std::int64_t row_begin, std::int64_t row_end) {
  for_each_window(call, row_begin, row_end, find("qpool_max", isa), [&](PoolWindow& window, const Span1&, const Span1&) {
    window.qmin = qmin;
    window.qmax = qmax;
  });
}

void qpool_average(Isa isa, const PoolCall& call, std::int32_t src_zero_point, PadCount pad_count, const Requantize& per_count,
                   std::int64_t row_begin, std::int64_t row_end) {
  for_each_window(call, row_begin, row_end, find("qpool_average", isa), [&](PoolWindow& window, const Span1& h, const Span1& w) {
    const std::int64_t inside = window.width * window.height;
    const std::int64_t count = std::max<std::int64_t>(pad_count == PadCount::kInclude ? h.padded * w.padded : inside, 1);
    window.bias = static_cast<std::int32_t>(-src_zero_point * inside);
    window.requantize = per_count;
    if (per_count.multiplier != nullptr) window.requantize.multiplier += count - 1;
    if (per_count.m0 != nullptr) {
      window.requantize.m0 += count - 1;
      window.requantize.shift += count - 1;
    }
  });
}

std::string max_pool_kernel_name(Isa isa) { return best_kernel_name("qpool_max", "u8u8", isa); }
std::string average_pool_kernel_name(Isa isa) { return best_kernel_name("qpool_average", "u8u8", isa); }

}  // namespace nibble::kernels
