// Several accumulators, each on a scale of its own, and a bias: one result, one rounding (docs/arithmetic.md, Eq. 28-30).
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "numeric/requantize.h"

namespace nibble {

// Of one output channel.
struct BaseRequantizer {
  RequantizeLaw law = RequantizeLaw::kFloat32;
  std::vector<double> multiplier;    // kFloat32: M_k
  double bias = 0;                   // kFloat32: B
  std::vector<std::int32_t> factor;  // the others: m_k = rne(M_k 2^shift), the largest in [2^23, 2^24)
  std::int64_t fixed_bias = 0;       // rne(B 2^shift)
  int shift = 0;

  // float32 (Eq. 29): clamp(rne(S_n) + z), S_0 = B, S_k = fma(acc_k, M_k, S_(k-1)) in float64.
  // fixed_point, shift (Eq. 30): clamp(((sum acc_k m_k + b + 2^(shift-1)) >> shift) + z).
  // acc_k = acc[k * stride]; as many as there are multipliers.
  std::int64_t operator()(const std::int32_t* acc, std::size_t stride, const OutputGrid& grid) const;
};
// M_k = scales[k] / dst_scale, B = bias / dst_scale, in float64 (Eq. 28). `scales` are products of a scale of activations and one of weights. nullopt where
// the law cannot hold them: the shift outside of 1..62, a bias of 2^61 and more, under law shift anything but powers of two that are 24 places apart at most.
std::optional<BaseRequantizer> make_base_requantizer(RequantizeLaw law, std::span<const double> scales, double bias, float dst_scale);

}  // namespace nibble
