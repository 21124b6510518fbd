#include "kernels/requantize/requantize.h"

#include <algorithm>
#include <cmath>

#include "base/aligned_buffer.h"
#include "numeric/rounding.h"

namespace nibble::kernels {

// Law shift: beyond 62 places an int32 accumulator leaves nothing, and beyond 2^30 everything but 0 saturates.
IntegerMultiplier integer_multiplier(const Requantizer& r) {
  if (r.law == RequantizeLaw::kFixedPoint) return {r.fixed.m0, static_cast<std::uint8_t>(r.fixed.shift)};
  if (r.shift > 0) return {1, static_cast<std::uint8_t>(std::min(r.shift, 62))};
  return {std::int32_t{1} << std::min(-r.shift, 30), 0};
}

void RequantizeTable::set_grid(const OutputGrid& grid) {
  view_.zero_point = grid.zero_point;
  view_.qmin = static_cast<std::int32_t>(grid.qmin);
  view_.qmax = static_cast<std::int32_t>(grid.qmax);
}

void RequantizeTable::set_plain(std::size_t size) {
  view_.plain =
      view_.qmin == 0 && view_.qmax == 255 && std::all_of(view_.multiplier, view_.multiplier + size, [](float m) { return m < 1.0F; });
}

RequantizeTable::RequantizeTable(std::span<const Requantizer> one, std::int64_t channels, const OutputGrid& grid) : channels_(channels) {
  const auto size = static_cast<std::size_t>(channels + kChannelSlack);
  const auto at = [&](std::size_t c) -> const Requantizer& { return one[one.size() == 1 ? 0 : std::min(c, one.size() - 1)]; };
  set_grid(grid);
  if (one.empty() || one[0].law == RequantizeLaw::kFloat32) {
    memory_ = allocate_aligned(static_cast<std::int64_t>(size * sizeof(float)));
    auto* multiplier = reinterpret_cast<float*>(memory_.get());
    for (std::size_t c = 0; c < size; ++c) multiplier[c] = one.empty() ? 1.0F : at(c).multiplier;
    view_.multiplier = multiplier;
    set_plain(size);
    return;
  }
  memory_ = allocate_aligned(static_cast<std::int64_t>(size * (sizeof(std::int32_t) + 1)));
  auto* m0 = reinterpret_cast<std::int32_t*>(memory_.get());
  auto* shift = reinterpret_cast<std::uint8_t*>(m0 + size);
  for (std::size_t c = 0; c < size; ++c) {
    const IntegerMultiplier v = integer_multiplier(at(c));
    m0[c] = v.m0;
    shift[c] = v.shift;
  }
  view_.m0 = m0;
  view_.shift = shift;
}

RequantizeTable::RequantizeTable(std::span<const float> multipliers, std::int64_t channels, const OutputGrid& grid) : channels_(channels) {
  const auto size = static_cast<std::size_t>(channels + kChannelSlack);
  set_grid(grid);
  memory_ = allocate_aligned(static_cast<std::int64_t>(size * sizeof(float)));
  auto* multiplier = reinterpret_cast<float*>(memory_.get());
  for (std::size_t c = 0; c < size; ++c)
    multiplier[c] = multipliers.empty() ? 1.0F : multipliers[multipliers.size() == 1 ? 0 : std::min(c, multipliers.size() - 1)];
  view_.multiplier = multiplier;
  set_plain(size);
}

std::uint8_t requantize_one(const Requantize& r, std::int64_t acc, std::int64_t channel) {
  const OutputGrid grid{.zero_point = r.zero_point, .qmin = r.qmin, .qmax = r.qmax};
  if (r.multiplier != nullptr) return static_cast<std::uint8_t>(requantize_float32(acc, r.multiplier[channel], grid));
  const int shift = r.shift[channel];
  if (shift == 0) return static_cast<std::uint8_t>(std::clamp(acc * r.m0[channel] + r.zero_point, grid.qmin, grid.qmax));
  return static_cast<std::uint8_t>(requantize_fixed_point(acc, {.m0 = r.m0[channel], .shift = shift}, grid));
}

std::uint8_t RequantizeTable::operator()(std::int64_t acc, std::int64_t channel) const { return requantize_one(view_, acc, channel); }

ResidualAdd residual_add(const Adder& adder, ResidualRole role, const ResidualOffsets& offsets, const OutputGrid& grid) {
  const bool src_first = role == ResidualRole::kFirst;
  ResidualAdd add;
  add.float32 = adder.law == RequantizeLaw::kFloat32;
  add.src_first = src_first;
  add.r_first = adder.ra;
  add.r_second = adder.rb;
  add.f = adder.offset;
  add.bounded = add.float32 && 256.0F * (std::fabs(add.r_first) + std::fabs(add.r_second)) + std::fabs(add.f) < 1e9F;
  add.offset = offsets.requantized;
  add.offset_src = offsets.other;
  add.offset_dst = offsets.dst;
  add.zero = (src_first ? adder.zb : adder.za) + offsets.requantized;
  add.zero_src = (src_first ? adder.za : adder.zb) + offsets.other;
  add.m = src_first ? adder.mb : adder.ma;
  add.m_src = src_first ? adder.ma : adder.mb;
  add.shift = adder.shift;
  if (!add.float32 && adder.shift > 30) {
    // Multipliers of at most 2^21 and differences of at most 255 sum to less than 2^30 = half of 2^31: nothing is left of them.
    add.m = add.m_src = 0;
    add.shift = 30;
  }
  add.zero_dst = grid.zero_point + offsets.dst;
  add.qmin = static_cast<std::int32_t>(grid.qmin) + offsets.dst;
  add.qmax = static_cast<std::int32_t>(grid.qmax) + offsets.dst;
  return add;
}

std::uint8_t add_residual_one(const ResidualAdd& add, std::uint8_t requantized, std::uint8_t other) {
  if (add.float32) {
    const auto q = static_cast<float>(requantized - add.offset);
    const auto s = static_cast<float>(other - add.offset_src);
    const float sum = std::fma(add.src_first ? s : q, add.r_first, std::fma(add.src_first ? q : s, add.r_second, add.f));
    const auto lo = static_cast<float>(add.qmin - add.offset_dst);
    const auto hi = static_cast<float>(add.qmax - add.offset_dst);
    return static_cast<std::uint8_t>(static_cast<std::int32_t>(std::min(std::max(rne(sum), lo), hi)) + add.offset_dst);
  }
  const std::int32_t sum = (requantized - add.zero) * add.m + (other - add.zero_src) * add.m_src;
  const std::int32_t rounded = (sum + (1 << (add.shift - 1))) >> add.shift;
  return static_cast<std::uint8_t>(std::clamp(rounded + add.zero_dst, add.qmin, add.qmax));
}

std::uint8_t finish_one(const Requantize& requantize, const ResidualAdd& add, std::int64_t acc, std::int64_t row, std::int64_t channel) {
  const std::uint8_t q = requantize_one(requantize, acc, channel);
  return add.src == nullptr ? q : add_residual_one(add, q, add.src[row * add.ld_src + channel]);
}

void requantize_rows(const Requantize& requantize, const std::int32_t* acc, std::int64_t ld_acc, std::uint8_t* dst, std::int64_t ld_dst,
                     std::int64_t rows, std::int64_t channels) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < channels; ++c) dst[r * ld_dst + c] = requantize_one(requantize, acc[r * ld_acc + c], c);
}

}  // namespace nibble::kernels
