#include <cstdint>

#include "kernels/qgemm/driver.h"

namespace nibble::kernels {

void qgemm_reference(const PackedGemm& weights, const GemmCall& call, std::int64_t row_begin, std::int64_t row_end,
                     std::int64_t column_begin, std::int64_t column_end) {
  const auto* wei = reinterpret_cast<const std::int8_t*>(weights.wei);
  const std::int32_t* bias = call.bias != nullptr ? call.bias : weights.bias;
  for (std::int64_t m = row_begin; m < row_end; ++m) {
    const std::uint8_t* src = call.src + m * call.ld_src;
    for (std::int64_t n = column_begin; n < column_end; ++n) {
      const std::int32_t zero_point = weights.zero_points != nullptr ? weights.zero_points[n] : 0;
      std::int64_t acc = bias[n];  // holds -zx sum_k (wei - zw) as well
      for (std::int64_t k = 0; k < weights.k; ++k) acc += static_cast<std::int64_t>(src[k]) * (wei[k * weights.n + n] - zero_point);
      const auto acc32 = static_cast<std::int32_t>(acc);
      if (call.dst_type == DstType::kInt32)
        static_cast<std::int32_t*>(call.dst)[m * call.ld_dst + n] = acc32;
      else
        static_cast<std::uint8_t*>(call.dst)[m * call.ld_dst + n] = finish_one(call.requantize, call.residual, acc32, m, n);
    }
  }
}

}  // namespace nibble::kernels
