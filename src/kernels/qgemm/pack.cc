// Packing of weights: panels of 16 columns, K in groups of four, zero padding. See qgemm.h for the layouts.

#include <algorithm>
#include <cstring>

#include "base/aligned_buffer.h"
#include "kernels/qgemm/amx.h"
#include "kernels/qgemm/driver.h"
#include "kernels/qgemm/qgemm.h"
#include "kernels/qgemm/tile.h"

namespace nibble::kernels {
namespace {

std::int64_t round_up(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

// Tiles are loaded whole.
// Bytes of a packed weight.
std::int64_t wei_element(Isa isa) { return isa == Isa::kAvx2 || isa == Isa::kPortable ? 2 : 1; }

// Weights of a column that lie together.
std::int64_t neighbours(Isa isa) {
  if (isa == Isa::kPortable) return 1;
  return isa == Isa::kAvx2 ? 2 : 4;
}

// Where column j of a panel lies: see portable.cc.
std::int64_t place(std::int64_t j, Isa isa) { return isa == Isa::kPortable ? j / 8 * 8 + j % 4 * 2 + j % 8 / 4 : j; }

std::int64_t padded_k(std::int64_t k, Isa isa) { return round_up(k, isa == Isa::kAmx ? kAmxStep : 4); }

std::int64_t wei_bytes(std::int64_t n, std::int64_t k, Isa isa) {
  if (isa == Isa::kReference) return round_up(n * k, 64);
  return round_up(n, kPanel) * padded_k(k, isa) * wei_element(isa);
}

}  // namespace

std::int64_t packed_gemm_bytes(std::int64_t n, std::int64_t k, Isa isa) {
  const std::int64_t channels = round_up(n + kChannelSlack, 16);
  // A kernel may fetch the next group of a panel ahead: one vector of slack.
  return round_up(wei_bytes(n, k, isa) + 64, 64) + 4 * channels * static_cast<std::int64_t>(sizeof(std::int32_t));
}

PackedGemm pack_gemm(const GemmWeights& weights, Isa isa) {
  const std::int64_t bytes = packed_gemm_bytes(weights.n, weights.k, isa);
  std::shared_ptr<std::byte> memory = allocate_aligned(bytes);
  PackedGemm packed = pack_gemm_into(weights, isa, {memory.get(), static_cast<std::size_t>(bytes)});
  packed.memory = std::move(memory);
  return packed;
}

PackedGemm pack_gemm_into(const GemmWeights& w, Isa isa, std::span<std::byte> memory) {
  const std::int64_t n = w.n;
  const std::int64_t k = w.k;
  const std::int64_t channels = round_up(n + kChannelSlack, 16);
  const std::int64_t area = round_up(wei_bytes(n, k, isa) + 64, 64);
  std::byte* const wei = memory.data();
  auto* const bias = reinterpret_cast<std::int32_t*>(wei + area);
  std::int32_t* const raw_bias = bias + channels;
  std::int32_t* const sums = raw_bias + channels;
  std::int32_t* const zero_points = sums + channels;

  const auto at = [&](std::int64_t row, std::int64_t column) {
    return static_cast<std::int8_t>(static_cast<std::uint8_t>(w.wei[row * w.stride_k + column * w.stride_n]) ^ w.flip);
  };
  std::fill_n(sums, channels, 0);
  std::memset(wei, 0, static_cast<std::size_t>(area));
  PackedGemm packed{.isa = isa, .n = n, .k = k, .wei = wei, .bias = bias, .raw_bias = raw_bias, .column_sums = sums, .memory = {}};
  packed.bytes = packed_gemm_bytes(n, k, isa);

  if (isa == Isa::kReference) {
    packed.panel_bytes = 0;
    auto* out = reinterpret_cast<std::int8_t*>(wei);
    for (std::int64_t row = 0; row < k; ++row)
      for (std::int64_t column = 0; column < n; ++column) {
        const std::int8_t value = at(row, column);
        out[row * n + column] = value;
        sums[column] += value;
      }
  } else {
    const bool wide = wei_element(isa) == 2;
    const std::int64_t together = neighbours(isa);
    packed.panel_bytes = padded_k(k, isa) * kPanel * wei_element(isa);
    for (std::int64_t panel = 0; panel * kPanel < n; ++panel) {
      const std::int64_t columns = std::min(kPanel, n - panel * kPanel);
      std::byte* const base = wei + panel * packed.panel_bytes;
      for (std::int64_t row = 0; row < k; ++row) {
        // int8: [K/4][16][4]. int16: [K/2][16][2], or [K][16].
        const std::int64_t group = row / together * kPanel * together;
        for (std::int64_t j = 0; j < columns; ++j) {
          const std::int8_t value = at(row, panel * kPanel + j);
          sums[panel * kPanel + j] += value;
          if (wide)
            reinterpret_cast<std::int16_t*>(base)[group + place(j, isa) * together + row % together] = value;
          else
            reinterpret_cast<std::int8_t*>(base)[group + j * together + row % together] = value;
        }
      }
    }
  }

  bool affine = false;
  for (std::int64_t c = 0; c < channels; ++c) {
    const auto i = static_cast<std::size_t>(c);
    raw_bias[c] = i < w.bias.size() ? w.bias[i] : 0;
    zero_points[c] = c >= n || w.zero_points.empty() ? 0 : w.zero_points[w.zero_points.size() == 1 ? 0 : i];
    affine = affine || zero_points[c] != 0;
    sums[c] -= static_cast<std::int32_t>(w.counted_k < 0 ? k : w.counted_k) * zero_points[c];
  }
  packed.zero_points = affine ? zero_points : nullptr;
  fold_bias(packed, w.src_zero_point, bias);
  return packed;
}

void fold_bias(const PackedGemm& packed, std::int32_t src_zero_point, std::int32_t* out) {
  // In unsigned arithmetic: the sum is meant modulo 2^32.
  for (std::int64_t c = 0; c < packed.n + kChannelSlack; ++c)
    out[c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(packed.raw_bias[c]) -
                                       static_cast<std::uint32_t>(src_zero_point) * static_cast<std::uint32_t>(packed.column_sums[c]));
}

}  // namespace nibble::kernels
