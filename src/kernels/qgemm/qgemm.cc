#include "kernels/qgemm/qgemm.h"

#include <algorithm>
#include <array>

#include "kernels/kernel_name.h"
#include "kernels/qgemm/driver.h"
#include "kernels/qgemm/select.h"

namespace nibble::kernels {

std::int64_t next_rows(std::int64_t rows) {
  const std::int64_t blocks = (rows + kRowBlock - 1) / kRowBlock;
  const std::int64_t even = (rows + blocks - 1) / blocks;
  return std::min({(even + 11) / 12 * 12, rows, kRowBlock});
}

void repeat_last(const std::uint8_t** rows, std::int64_t count) {
  for (std::int64_t i = count; i < count + kMaxTileRows; ++i) rows[i] = rows[count - 1];
}

void run_row_block(const PackedGemm& weights, const QgemmStrip& block, std::int64_t panel_begin, std::int64_t panel_end) {
  const QgemmKernels& kernels = qgemm_kernels(weights.isa);
  QgemmStrip strip = block;
  strip.panel_bytes = weights.panel_bytes;
  for (std::int64_t panel = panel_begin; panel < panel_end;) {
    const std::int64_t width = even_share(panel_end - panel, kernels.max_panels);
    const std::int64_t column = panel * kPanel;
    strip.wei = weights.wei + panel * weights.panel_bytes;
    strip.bias = block.bias + column;
    strip.zero_points = block.zero_points == nullptr ? nullptr : block.zero_points + column;
    strip.requantize = from_channel(block.requantize, column);
    if (block.residual.src != nullptr) strip.residual.src = block.residual.src + column;
    if (block.dst != nullptr) strip.dst = block.dst + column;
    if (block.acc != nullptr) strip.acc = block.acc + column;
    strip.columns = std::min(width * kPanel, weights.n - column);
    kernels.find(strip.count, width).fn(strip);
    panel += width;
  }
}

std::int64_t gemm_panels(const PackedGemm& weights) { return (weights.n + kPanel - 1) / kPanel; }

void qgemm(const PackedGemm& weights, const GemmCall& call, std::int64_t row_begin, std::int64_t row_end) {
  qgemm_panels(weights, call, row_begin, row_end, 0, gemm_panels(weights));
}

void qgemm_panels(const PackedGemm& weights, const GemmCall& call, std::int64_t row_begin, std::int64_t row_end, std::int64_t panel_begin,
                  std::int64_t panel_end) {
  if (weights.isa == Isa::kReference) {
    qgemm_reference(weights, call, row_begin, row_end, panel_begin * kPanel, std::min(panel_end * kPanel, weights.n));
    return;
  }
#if defined(NIBBLE_KERNELS_X86)
  if (weights.isa == Isa::kAmx && amx_pays(row_end - row_begin, weights.n, weights.k)) {
    qgemm_amx(weights, call, row_begin, row_end, panel_begin, panel_end);
    return;
  }
#endif
  std::array<const std::uint8_t*, kRowBlock + kMaxTileRows> pointers;
  QgemmStrip block;
  block.rows = pointers.data();
  block.row_stride = kRowBlock + kMaxTileRows;
  block.run = weights.k;
  block.bias = call.bias != nullptr ? call.bias : weights.bias;
  block.zero_points = weights.zero_points;
  block.requantize = call.requantize;
  block.residual = call.residual;
  block.ld_dst = call.ld_dst;
  const std::int64_t padded = (weights.k + 3) / 4 * 4;
  std::int64_t rows = 0;
  for (std::int64_t row = row_begin; row < row_end; row += rows) {
    rows = next_rows(row_end - row);
    for (std::int64_t i = 0; i < rows; ++i) pointers[static_cast<std::size_t>(i)] = call.src + (row + i) * call.ld_src;
    repeat_last(pointers.data(), rows);
    // Reading up to three bytes past a row is reading the next one, but for the last row of the matrix.
    block.may_read_past = (row + rows - 1) * call.ld_src + padded <= (call.rows - 1) * call.ld_src + weights.k;
    if (call.dst_type == DstType::kInt32)
      block.acc = static_cast<std::int32_t*>(call.dst) + row * call.ld_dst;
    else
      block.dst = static_cast<std::uint8_t*>(call.dst) + row * call.ld_dst;
    if (call.residual.src != nullptr) block.residual.src = call.residual.src + row * call.residual.ld_src;
    block.count = rows;
    run_row_block(weights, block, panel_begin, panel_end);
  }
}

std::string gemm_kernel_name(Isa best, std::int64_t rows, std::int64_t n, std::int64_t k) {
  if (best == Isa::kReference) return kernel_name("qgemm", "u8s8s32", 1, 1, 1, best);
  if (best == Isa::kAmx && amx_pays(rows, n, k)) return kernel_name("qgemm", "u8s8s32", 32, 32, 64, best);
  const Isa isa = vector_isa(best);
  const QgemmKernels& kernels = qgemm_kernels(isa);
  const std::int64_t width = even_share(std::max<std::int64_t>((n + kPanel - 1) / kPanel, 1), kernels.max_panels);
  return kernel_name("qgemm", "u8s8s32", kernels.find(rows, width).rows, static_cast<int>(width * kPanel),
                     isa == Isa::kPortable ? 1
                     : isa == Isa::kAvx2   ? 2
                                           : 4,
                     isa);
}

}  // namespace nibble::kernels
