#include "kernels/qgemm/amx.h"

#include <algorithm>

#include "kernels/qgemm/driver.h"

namespace nibble::kernels {

bool amx_pays(std::int64_t rows, std::int64_t /*n*/, std::int64_t k) { return rows >= 4 && k >= 16; }

void qgemm_amx([[maybe_unused]] const PackedGemm& weights, [[maybe_unused]] const GemmCall& call, [[maybe_unused]] std::int64_t row_begin,
               [[maybe_unused]] std::int64_t row_end, [[maybe_unused]] std::int64_t panel_begin, [[maybe_unused]] std::int64_t panel_end) {
#if defined(NIBBLE_KERNELS_X86)
  if (row_begin >= row_end || panel_begin >= panel_end) return;
  const std::int64_t column = panel_begin * kPanel;
  QgemmAmx g;
  g.src = call.src + row_begin * call.ld_src;
  g.ld_src = call.ld_src;
  g.rows = row_end - row_begin;
  g.k = weights.k;
  g.readable = (call.rows - 1 - row_begin) * call.ld_src + weights.k;
  g.wei = weights.wei + panel_begin * weights.panel_bytes;
  g.panel_bytes = weights.panel_bytes;
  g.bias = (call.bias != nullptr ? call.bias : weights.bias) + column;
  g.zero_points = weights.zero_points == nullptr ? nullptr : weights.zero_points + column;
  g.requantize = from_channel(call.requantize, column);
  g.residual = call.residual;
  if (call.residual.src != nullptr) g.residual.src = call.residual.src + row_begin * call.residual.ld_src + column;
  const std::int64_t offset = row_begin * call.ld_dst + column;
  if (call.dst_type == DstType::kInt32)
    g.acc = static_cast<std::int32_t*>(call.dst) + offset;
  else
    g.dst = static_cast<std::uint8_t*>(call.dst) + offset;
  g.ld_dst = call.ld_dst;
  g.columns = std::min(panel_end * kPanel, weights.n) - column;
  qgemm_u8s8s32_32x32c64_amx(g);
#endif
}

}  // namespace nibble::kernels
