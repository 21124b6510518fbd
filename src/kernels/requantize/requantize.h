// Requantization as the kernels' epilogues see it: wide accumulators back to 8 bits. The law is numeric/requantize.h; every kernel equals
// it bit for bit.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/requantize/view.h"
#include "numeric/requantize.h"

namespace nibble::kernels {

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
  void set_plain(std::size_t size);
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
