// Law float32 in one fused multiply-add.
//
// An accumulator that starts at 0x4b000000 + B, B >= 0, IS a float as long as 0 <= acc + B < 2^23: its bits read 2^23 + B + acc. So
//   fma(as_float(acc), M, c), c = -(2^23 + B) M
// replaces the conversion to float and the product, if c is a float. It never is exactly, but B can be chosen such that c is off by the
// smallest step that products acc M have, delta = +-2^e; then fma gives round24(acc M + delta) where the law has round24(acc M). Both are
// monotone in acc and followed by the same rounding to an integer, so they can differ only where an acc M lies within delta of a
// threshold of the law: of k + 1/2, moved by the half unit in the last place that rounds onto it. There are at most 255 thresholds between
// the codes of a grid; fuse_float32 looks at each, and refuses, or tries the next B, if any acc M is that close.
#pragma once

#include <cstdint>
#include <optional>

namespace nibble::kernels {

struct FusedFloat32 {
  std::int32_t start = 0;  // added to the accumulator's start: 0x4b000000 + B
  float offset = 0;        // c
};

// For all acc in [acc_min, acc_max]: clamp(rne(fma(as_float(start + acc), multiplier, offset)), low, high) is
// clamp(rne(f32(f32(acc) multiplier)), low, high). |low|, |high| <= 255. nullopt: there is no such pair, or none was found.
std::optional<FusedFloat32> fuse_float32(float multiplier, std::int64_t acc_min, std::int64_t acc_max, std::int32_t low, std::int32_t high);

}  // namespace nibble::kernels
