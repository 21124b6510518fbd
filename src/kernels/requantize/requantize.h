// Requantization as the kernels' epilogues see it: wide accumulators back to 8 bits. The law is numeric/requantize.h; every kernel equals it
// bit for bit.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "numeric/requantize.h"

namespace nibble::kernels {

// Arrays that kernels read by whole vectors have this many readable elements after the last (their values do not matter).
inline constexpr std::int64_t kChannelSlack = 64;

// View for the kernels; element c belongs to output channel c. Either float32:
//   q = clamp(rne(f32(acc) multiplier[c]) + zero_point, qmin, qmax)
// or integers only (laws fixed_point and shift, the latter with m0 a power of two):
//   q = clamp(((acc m0[c] + (2^shift[c] >> 1)) >> shift[c]) + zero_point, qmin, qmax), shift 0..62
// on the unsigned grid: 0 <= qmin <= qmax <= 255.
struct Requantize {
  const float* multiplier = nullptr;  // null: integers only
  const std::int32_t* m0 = nullptr;
  const std::uint8_t* shift = nullptr;
  std::int32_t zero_point = 0;
  std::int32_t qmin = 0;
  std::int32_t qmax = 255;
};

// Owns what a Requantize points to, one entry a channel plus slack.
class RequantizeTable {
 public:
  RequantizeTable() = default;
  // `one` has one element (per tensor) or `channels`. All of the same law. `grid` is the unsigned one of dst.
  RequantizeTable(std::span<const Requantizer> one, std::int64_t channels, const OutputGrid& grid);
  // Law float32 with multipliers computed elsewhere (dynamic quantization).
  RequantizeTable(std::span<const float> multipliers, std::int64_t channels, const OutputGrid& grid);

  const Requantize& view() const { return view_; }
  std::int64_t channels() const { return channels_; }
  // The law applied to one accumulator, in plain code.
  std::uint8_t operator()(std::int64_t acc, std::int64_t channel) const;

 private:
  void set_grid(const OutputGrid& grid);
  std::shared_ptr<std::byte> memory_;
  Requantize view_;
  std::int64_t channels_ = 0;
};

// The scalar law on a view: the reference of every epilogue.
std::uint8_t requantize_one(const Requantize& requantize, std::int64_t acc, std::int64_t channel);

// dst[i] = requantize(acc[i], channel i % channels), rows of `channels` values: for accumulators that were made elsewhere.
void requantize_rows(const Requantize& requantize, const std::int32_t* acc, std::int64_t ld_acc, std::uint8_t* dst, std::int64_t ld_dst,
                     std::int64_t rows, std::int64_t channels);

}  // namespace nibble::kernels
