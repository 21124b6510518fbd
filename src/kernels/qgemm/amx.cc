#include "kernels/qgemm/amx.h"

#include <algorithm>

#include "kernels/qgemm/driver.h"

namespace nibble::kernels {

// Nanoseconds on the first processors with tiles, where only their ratio matters. A set-up of tiles costs as much as 40,000 products on
// vectors; a tile's product takes its time whatever part of it is in use. tests/ try both ways at all sizes; benchmarks/micro shows the
// figures.
bool amx_pays(std::int64_t rows, std::int64_t n, std::int64_t k) {
  if (rows <= 0 || n <= 0 || k <= 0) return false;
  const auto up = [](std::int64_t value, std::int64_t to) { return static_cast<double>((value + to - 1) / to); };
  const double panels = up(n, kPanel);
  const double endings = static_cast<double>(rows) * panels / 4;  // of 64 sums
  const double vectors = 25 + static_cast<double>(rows) * panels * up(k, 4) * 64 / 420 + 2.5 * endings;
  const double tiles = 100 + up(rows, 16) * panels * (6 * up(k, kAmxStep) + 5) + 2.5 * endings;
  return tiles < vectors;
}

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
