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

// m0 2^-shift, shift 0..62, of a Requantizer whose law is one of the integer ones: the same rounding for every int32 accumulator.
struct IntegerMultiplier {
  std::int32_t m0;
  std::uint8_t shift;
};
IntegerMultiplier integer_multiplier(const Requantizer& requantizer);

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

// The law of a fused addition. offset: what was added to the original integers of a tensor to store them as uint8 (128 for int8, else 0).
struct ResidualOffsets {
  std::int32_t requantized = 0, other = 0, dst = 0;
};
enum class ResidualRole { kSecond, kFirst };  // which operand of the adder lies in memory
// `grid` is that of the sum's original integers. src and ld_src are left to the call.
ResidualAdd residual_add(const Adder& adder, ResidualRole role, const ResidualOffsets& offsets, const OutputGrid& grid);
// The law of the view applied to one pair of stored integers: the reference of every fused addition.
std::uint8_t add_residual_one(const ResidualAdd& add, std::uint8_t requantized, std::uint8_t other);

// The scalar law on a view: the reference of every epilogue.
std::uint8_t requantize_one(const Requantize& requantize, std::int64_t acc, std::int64_t channel);

// Both, for one accumulator of row `row`: what the reference stores.
std::uint8_t finish_one(const Requantize& requantize, const ResidualAdd& add, std::int64_t acc, std::int64_t row, std::int64_t channel);

// dst[i] = requantize(acc[i], channel i % channels), rows of `channels` values: for accumulators that were made elsewhere.
void requantize_rows(const Requantize& requantize, const std::int32_t* acc, std::int64_t ld_acc, std::uint8_t* dst, std::int64_t ld_dst,
                     std::int64_t rows, std::int64_t channels);

}  // namespace nibble::kernels
