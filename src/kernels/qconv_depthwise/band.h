// Two output rows at a time of one block of channels, 3x3: the contract between the driver and the kernels in the ISA files. Internal to
// the room.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/requantize/view.h"

namespace nibble::kernels {

inline constexpr std::int64_t kBandPairs = 16;  // of output rows, at most
// Pairs times vectors of a row that the kernels do at a time: inputs, words and outputs stay in the first-level cache.
constexpr std::int64_t band_vectors(std::int64_t stride) { return stride == 1 ? 64 : 32; }
// Input rows under the output rows of `pairs` pairs.
constexpr std::int64_t band_rows(std::int64_t pairs, std::int64_t stride) { return (2 * pairs - 1) * stride + 3; }

struct DepthwiseBand {
  std::int64_t pairs = 1;  // of output rows; the last one may have one row
  bool last_is_single = false;
  const std::uint8_t* const* rows = nullptr;  // [band_rows(pairs)] at the image's channel 0, pixel 0; outside of the image: `zeros`
  const std::int64_t* steps = nullptr;        // likewise: bytes from pixel to pixel: ld, or 0 for `zeros`
  const std::uint8_t* zeros = nullptr;        // 64 bytes of zx
  std::int64_t first = 0;                     // channel of the block
  std::int64_t pad_left = 0, in_w = 1, out_w = 1;
  const std::byte* wei = nullptr;      // of the block
  const std::int32_t* bias = nullptr;  // folded, of the block, in the vectors' order (see DepthwiseRow)
  // Bytes by requantize/fused.h: bias then has the start in it. Null: by the law as it is.
  const float* multiplier = nullptr;
  const float* offset = nullptr;
  Requantize requantize;        // arrays at the block's first channel
  std::uint8_t* dst = nullptr;  // either dst or acc: the band's first row, pixel 0, channel 0
  std::int32_t* acc = nullptr;
  std::int64_t ld_dst = 0;
  std::byte* scratch = nullptr;  // kBandScratch bytes, 64-byte aligned
};

// The most inputs, in bytes, under n vectors of a row of band_vectors / n pairs.
constexpr std::int64_t band_input_bytes(std::int64_t stride) {
  std::int64_t most = 0;
  for (std::int64_t n = 1; n <= band_vectors(stride); ++n) {
    const std::int64_t pairs = band_vectors(stride) / n < kBandPairs ? band_vectors(stride) / n : kBandPairs;
    const std::int64_t bytes = band_rows(pairs, stride) * ((n - 1) * stride + 3) * 64;
    most = bytes > most ? bytes : most;
  }
  return most;
}

// How the kernels cut it, in bytes.
struct BandScratch {
  static constexpr std::int64_t kConstants = 12 * 64 * 2 + 3 * 4 * 64;  // weights (AVX2: 16 bits), bias, multipliers, offsets
  static constexpr std::int64_t kInputs = band_input_bytes(1) > band_input_bytes(2) ? band_input_bytes(1) : band_input_bytes(2);
  static constexpr std::int64_t kWords = band_vectors(1) * 2 * 64;
  static constexpr std::int64_t kUnwanted = 256;  // where a row that nobody wants goes
};
inline constexpr std::int64_t kBandScratch = BandScratch::kConstants + BandScratch::kInputs + BandScratch::kWords + BandScratch::kUnwanted;
// Where sums wait for their requantization, in the place of the words: vectors of a row.
inline constexpr std::int64_t kSumsVectors = BandScratch::kWords / (2 * 256);

using DepthwiseBandFn = void (*)(const DepthwiseBand&);

}  // namespace nibble::kernels
