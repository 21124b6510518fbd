// The row kernels, for any vector width; for the ISA files alone, internal linkage.
//
// A column of taps (up to four rows of one input pixel, all channels of the block) is interleaved once so that the four taps of a channel
// are neighbours, and then feeds every output of the tile that it belongs to: a tile of T outputs with KW columns and stride S needs (T -
// 1) S + KW columns instead of T KW. Interleaving by the unpack instructions leaves channel 16 l + 4 j + c of lane l in vector j, and
// narrowing the four vectors undoes just that.
//
// V: a vector type's operations.
//   T; kChannels; kPixels (2: a vector holds the block of two outputs); kWeiBytes (of one vector of weights); load(p, bytes to the second
//   pixel); store; zip8_lo/hi, zip16_lo/hi; dot(acc, z, wei); from_channels(p, j): int32 p[16 l + 4 j + c]; in_order(p, j): vector j of p;
//   store_lanes(buffer, j, v): the inverse of from_channels; finish(acc[4], multiplier[4], requantize): law float32; zero; sum;
//   minus_product
#pragma once

#include "kernels/qconv_depthwise/row.h"
#include "kernels/x86_inline.h"

namespace nibble::kernels {
namespace {

template <typename V>
struct Column {
  typename V::T z[4];
};

template <typename V>
NIBBLE_INLINE Column<V> zip(typename V::T r0, typename V::T r1, typename V::T r2, typename V::T r3) {
  const typename V::T low01 = V::zip8_lo(r0, r1), high01 = V::zip8_hi(r0, r1);
  const typename V::T low23 = V::zip8_lo(r2, r3), high23 = V::zip8_hi(r2, r3);
  return {{V::zip16_lo(low01, low23), V::zip16_hi(low01, low23), V::zip16_lo(high01, high23), V::zip16_hi(high01, high23)}};
}

// One output that is not simple. buffer: accumulators in order of channels.
template <typename V>
__attribute__((noinline)) void finish_any(const DepthwiseRow& d, std::int64_t ow, const std::int32_t* buffer) {
  for (std::int64_t c = 0; c < V::kChannels; c += 16) {
    if (d.acc != nullptr)
      __builtin_memcpy(d.acc + ow * d.ld_dst + c, buffer + c, 64);
    else
      _mm_storeu_si128(reinterpret_cast<__m128i*>(d.dst + ow * d.ld_dst + c), V::requantize(buffer + c, d.requantize, c));
  }
}

template <typename V>
NIBBLE_INLINE void finish(const DepthwiseRow& d, std::int64_t ow, const typename V::T (&acc)[4]) {
  if (d.acc == nullptr && d.multiplier != nullptr) {  // law float32 to bytes
    typename V::T multiplier[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) multiplier[j] = V::in_order(reinterpret_cast<const std::int32_t*>(d.multiplier), j);
    if (d.requantize.plain)
      V::store(d.dst + ow * d.ld_dst, d.ld_dst, V::template finish<true>(acc, multiplier, d.requantize));
    else
      V::store(d.dst + ow * d.ld_dst, d.ld_dst, V::template finish<false>(acc, multiplier, d.requantize));
    return;
  }
  alignas(64) std::int32_t buffer[V::kPixels * V::kChannels];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) V::store_lanes(buffer, j, acc[j]);
  for (int i = 0; i < V::kPixels; ++i) finish_any<V>(d, ow + i, buffer + i * V::kChannels);
}

// T vectors of outputs from ow on.
template <typename V, int KW, int S, std::size_t T, bool kInside>
NIBBLE_INLINE void tile(const DepthwiseRow& d, std::int64_t ow) {
  constexpr int kStep = S * V::kPixels;  // input columns from vector to vector
  typename V::T acc[T][4];
#pragma GCC unroll 8
  for (std::size_t t = 0; t < T; ++t)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) acc[t][j] = V::in_order(d.bias, j);
  const std::int64_t ix0 = ow * S - d.pad_left;
  for (std::int64_t g = 0; g < d.row_groups; ++g) {
    const std::uint8_t* const* rows = d.rows + 4 * g;
    const std::int64_t* steps = d.steps + 4 * g;
    const std::uint8_t* p0 = rows[0] + ix0 * steps[0];
    const std::uint8_t* p1 = rows[1] + ix0 * steps[1];
    const std::uint8_t* p2 = rows[2] + ix0 * steps[2];
    const std::uint8_t* p3 = rows[3] + ix0 * steps[3];
    const std::byte* wei = d.wei + g * 4 * V::kWeiBytes;
    const std::int64_t wei_step = d.row_groups * 4 * V::kWeiBytes;
#pragma GCC unroll 32
    for (int x = 0; x < static_cast<int>(T - 1) * kStep + KW; ++x) {
      if (x % kStep < KW || KW > kStep) {  // else no output has a tap there
        const bool inside = kInside || (ix0 + x >= 0 && ix0 + x < d.in_w);
        const Column<V> column = zip<V>(V::load(inside ? p0 : d.zeros, S * steps[0]), V::load(inside ? p1 : d.zeros, S * steps[1]),
                                        V::load(inside ? p2 : d.zeros, S * steps[2]), V::load(inside ? p3 : d.zeros, S * steps[3]));
#pragma GCC unroll 8
        for (std::size_t t = 0; t < T; ++t) {
          const int kw = x - static_cast<int>(t) * kStep;
          if (kw < 0 || kw >= KW) continue;
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) acc[t][j] = V::dot(acc[t][j], column.z[j], wei + kw * wei_step + j * V::kWeiBytes);
        }
      }
      p0 += steps[0];
      p1 += steps[1];
      p2 += steps[2];
      p3 += steps[3];
    }
  }
#pragma GCC unroll 8
  for (std::size_t t = 0; t < T; ++t) finish<V>(d, ow + static_cast<std::int64_t>(t) * V::kPixels, acc[t]);
}

// W: as V, or two outputs a vector, for the inside of a row.
template <typename V, typename W, int KW, int S, std::size_t T>
__attribute__((noinline)) void row_of_tiles(const DepthwiseRow& d) {
  constexpr auto kTile = static_cast<std::int64_t>(T);
  constexpr auto kWide = static_cast<std::int64_t>(T) * W::kPixels;
  for (std::int64_t at = 0; at < d.out_w;) {
    const std::int64_t ix0 = at * S - d.pad_left;
    if (W::kPixels > 1 && at + kWide <= d.out_w && ix0 >= 0 && ix0 + (kWide - 1) * S + KW <= d.in_w) {
      tile<W, KW, S, T, true>(d, at);
      at += kWide;
      continue;
    }
    const std::int64_t ow = at + kTile <= d.out_w ? at : d.out_w - kTile;  // the last tile does some outputs again
    const std::int64_t ix = ow * S - d.pad_left;
    if (ix >= 0 && ix + (kTile - 1) * S + KW <= d.in_w)
      tile<V, KW, S, T, true>(d, ow);
    else
      tile<V, KW, S, T, false>(d, ow);
    at = ow + kTile;
  }
}

// Any kernel, stride and dilation; affine weights: the sum of a channel's taps comes from a second accumulator with weights of one.
template <typename V>
__attribute__((noinline)) void row_of_pixels(const DepthwiseRow& d) {
  for (std::int64_t ow = 0; ow < d.out_w; ++ow) {
    typename V::T acc[4];
    typename V::T sums[4];
    for (int j = 0; j < 4; ++j) {
      acc[j] = V::in_order(d.bias, j);
      sums[j] = V::zero();
    }
    const std::byte* wei = d.wei;
    for (std::int64_t kw = 0; kw < d.kernel_w; ++kw) {
      const std::int64_t ix = ow * d.stride_w + kw * d.dilation_w - d.pad_left;
      const bool inside = ix >= 0 && ix < d.in_w;
      for (std::int64_t g = 0; g < d.row_groups; ++g) {
        const std::uint8_t* p[4];
        for (int r = 0; r < 4; ++r) p[r] = inside ? d.rows[4 * g + r] + ix * d.steps[4 * g + r] : d.zeros;
        const Column<V> column = zip<V>(V::load(p[0], 0), V::load(p[1], 0), V::load(p[2], 0), V::load(p[3], 0));
        for (int j = 0; j < 4; ++j) acc[j] = V::dot(acc[j], column.z[j], wei + j * V::kWeiBytes);
        wei += 4 * V::kWeiBytes;
        if (d.zero_points != nullptr)
          for (int j = 0; j < 4; ++j) sums[j] = V::sum(sums[j], column.z[j], d.kernel_h - 4 * g);
      }
    }
    if (d.zero_points != nullptr)
      for (int j = 0; j < 4; ++j) acc[j] = V::minus_product(acc[j], sums[j], V::from_channels(d.zero_points, j));
    finish<V>(d, ow, acc);
  }
}

template <typename V, typename W, std::size_t T>
NIBBLE_INLINE void run_row(const DepthwiseRow& d) {
  if (d.zero_points == nullptr && d.dilation_w == 1 && d.out_w >= static_cast<std::int64_t>(T)) {
    if (d.kernel_w == 5 && d.stride_w == 1) return row_of_tiles<V, W, 5, 1, T>(d);
    if (d.kernel_w == 5 && d.stride_w == 2) return row_of_tiles<V, W, 5, 2, T>(d);
  }
  row_of_pixels<V>(d);
}

}  // namespace
}  // namespace nibble::kernels
