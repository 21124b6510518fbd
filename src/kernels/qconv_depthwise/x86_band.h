// 3x3 kernels for any vector width; for the ISA files alone, internal linkage.
//
// Two rows of outputs share the interleaving of the four (stride 2: five) rows of inputs under them: the four taps that one dot product
// sums are (w0 w1 w2 0) for the upper output, (0 w0 w1 w2) for the lower. Each column of inputs is interleaved once and feeds every output
// it belongs to. The lower half of the interleaved vectors is done first, for many outputs, then the higher one: so the weights of both
// rows stay in registers. In between, the first half waits as 16-bit words.
//
// A block narrower than the vector takes kStreams parts of the row at once, one a part of the vector, a constant distance apart.
//
// V: a vector type's operations.
//   T; kChannels; kStreams; kWeiBytes (of one packed vector of weights); Wei; wei(p); below(wei): for the lower row, stride 1; Taps;
//   taps(T): interleaved bytes, ready for dot(acc, taps, wei); load(p, d): stream s at p + s d; store; spread(p): kChannels / 4 int32 for
//   each stream; zip8_lo/hi, zip16_lo/hi; fused(acc, multiplier, offset): to integers; words(v0, v1); bytes(low, high); add_words;
//   clamp_bytes; store_lanes(p, d, v): 4 int32 of each 16 channels of stream s at p + s d
#pragma once

#include "kernels/qconv_depthwise/band.h"
#include "kernels/x86_inline.h"

namespace nibble::kernels {
namespace {

enum class Half { kLow, kHigh };
enum class Finish {
  kPlain,  // fused, zero point 0, the whole grid
  kFused,
  kSums,  // int32
};

// One column of taps, a half of it: [output row][vector].
template <typename V>
struct BandColumn {
  typename V::Taps z[2][2];
};

template <typename V>
struct BandCursor {
  const std::uint8_t* p[kBandRows];  // at the next column of stream 0
  std::int64_t step[kBandRows];
  std::int64_t ix = 0;  // that column
};

// Where the streams lie, in outputs.
struct Streams {
  std::int64_t count = 0;     // outputs of each
  std::int64_t distance = 0;  // from stream to stream
};

template <typename V>
NIBBLE_INLINE Streams streams_of(std::int64_t out_w) {
  Streams s;
  s.distance = out_w / V::kStreams;
  s.count = out_w - (V::kStreams - 1) * s.distance;
  if (V::kStreams == 1) s.distance = 0;
  return s;
}

// A column that some stream has outside of the image.
template <typename V>
__attribute__((noinline)) void load_border(const DepthwiseBand& d, const std::uint8_t* p, std::int64_t step, std::int64_t ix,
                                           std::int64_t distance, std::uint8_t* out) {
  for (int s = 0; s < V::kStreams; ++s, ix += distance, p += distance * step)
    __builtin_memcpy(out + s * V::kChannels, ix >= 0 && ix < d.in_w ? p : d.zeros, V::kChannels);
}

template <typename V, Half kHalf, int kStride>
NIBBLE_INLINE BandColumn<V> next_column(const DepthwiseBand& d, BandCursor<V>& at, std::int64_t distance) {
  using T = typename V::T;
  constexpr int kRows = kStride == 1 ? 4 : 5;
  T r[kRows];
  if (__builtin_expect(at.ix >= 0 && at.ix + (V::kStreams - 1) * distance < d.in_w, 1)) {
#pragma GCC unroll 5
    for (int i = 0; i < kRows; ++i) r[i] = V::load(at.p[i], distance * at.step[i]);
  } else {
    alignas(64) std::uint8_t lanes[64];
#pragma GCC unroll 5
    for (int i = 0; i < kRows; ++i) {
      load_border<V>(d, at.p[i], at.step[i], at.ix, distance, lanes);
      r[i] = V::load(lanes, V::kChannels);
    }
  }
#pragma GCC unroll 5
  for (int i = 0; i < kRows; ++i) at.p[i] += at.step[i];
  ++at.ix;
  constexpr bool kLow = kHalf == Half::kLow;
  const T z01 = kLow ? V::zip8_lo(r[0], r[1]) : V::zip8_hi(r[0], r[1]);
  const T z23 = kLow ? V::zip8_lo(r[2], r[3]) : V::zip8_hi(r[2], r[3]);
  BandColumn<V> c;
  c.z[0][0] = V::taps(V::zip16_lo(z01, z23));
  c.z[0][1] = V::taps(V::zip16_hi(z01, z23));
  if constexpr (kStride == 2) {
    const T z44 = kLow ? V::zip8_lo(r[4], r[4]) : V::zip8_hi(r[4], r[4]);
    c.z[1][0] = V::taps(V::zip16_lo(z23, z44));
    c.z[1][1] = V::taps(V::zip16_hi(z23, z44));
  }
  return c;
}

// Where accumulators go: two rows of outputs.
struct Sums {
  std::int32_t* row[2] = {nullptr, nullptr};  // at the first output of stream 0, channel 0 of the block
  std::int64_t ld = 0, distance = 0;          // from output to output, from stream to stream
};

// Outputs [begin, begin + count) of each stream of the pairs [first_pair, end_pair), one half of each lane's channels. `sums` (kSums, one
// pair at a time): where they go, if not to d.acc.
template <typename V, Half kHalf, int kStride, Finish kFinish>
__attribute__((noinline)) void half_band(const DepthwiseBand& d, std::int64_t first_pair, std::int64_t end_pair, std::int64_t begin,
                                         std::int64_t count, const Sums* sums) {
  using T = typename V::T;
  constexpr int kFirst = kHalf == Half::kLow ? 0 : 2;  // of the four vectors
  constexpr bool kBytes = kFinish != Finish::kSums;
  const Streams streams = streams_of<V>(d.out_w);
  const std::int64_t in_distance = streams.distance * kStride;

  typename V::Wei w[2][3][2];
  T bias[2], multiplier[2], offset[2];
#pragma GCC unroll 2
  for (int j = 0; j < 2; ++j) {
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k) {
      w[0][k][j] = V::wei(d.wei + (k * 4 + kFirst + j) * V::kWeiBytes);
      w[1][k][j] = kStride == 1 ? V::below(w[0][k][j]) : w[0][k][j];
    }
    const std::int64_t at = (kFirst + j) * V::kChannels / 4;
    bias[j] = V::spread(d.bias + at);
    if constexpr (kBytes) {
      multiplier[j] = V::spread(d.multiplier + at);
      offset[j] = V::spread(d.offset + at);
    }
  }
  const T zero_point = V::words_of(d.requantize.zero_point);

  auto* words = reinterpret_cast<std::uint8_t*>(d.scratch);
  auto* const unwanted = words + kBandScratch - 256;
  for (std::int64_t pair = first_pair; pair < end_pair; ++pair) {
    BandCursor<V> cursor;
    cursor.ix = begin * kStride - d.pad_left;
#pragma GCC unroll 5
    for (int i = 0; i < kBandRows; ++i) {
      cursor.step[i] = d.steps[pair * kBandRows + i];
      cursor.p[i] = d.rows[pair * kBandRows + i] + (cursor.step[i] != 0 ? d.first : 0) + cursor.ix * cursor.step[i];
    }
    const bool single = d.last_is_single && pair + 1 == d.pairs;
    const std::int64_t to = (pair * 2 * d.out_w + begin) * d.ld_dst + d.first;
    const std::int64_t below = d.out_w * d.ld_dst;
    std::uint8_t* dst[2] = {};
    std::int64_t ld[2] = {d.ld_dst, single ? 0 : d.ld_dst};
    std::int64_t apart[2] = {streams.distance * ld[0], streams.distance * ld[1]};
    Sums acc;
    if constexpr (kBytes) {
      dst[0] = d.dst + to;
      dst[1] = single ? unwanted : dst[0] + below;
    } else if (sums != nullptr) {
      acc = *sums;
      ld[0] = ld[1] = sums->ld;
      apart[0] = apart[1] = sums->distance;
    } else {
      acc.row[0] = d.acc + to;
      acc.row[1] = single ? reinterpret_cast<std::int32_t*>(unwanted) : acc.row[0] + below;
    }

    const auto emit = [&](const BandColumn<V>& a, const BandColumn<V>& b, const BandColumn<V>& c) __attribute__((always_inline)) {
#pragma GCC unroll 2
      for (int r = 0; r < 2; ++r) {
        constexpr int kOwn = kStride == 1 ? 0 : 1;  // the lower row's taps
        const int from = r * kOwn;
        T v[2];
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          v[j] = V::dot(bias[j], a.z[from][j], w[r][0][j]);
          v[j] = V::dot(v[j], b.z[from][j], w[r][1][j]);
          v[j] = V::dot(v[j], c.z[from][j], w[r][2][j]);
        }
        if constexpr (kBytes) {
          T q = V::words(V::fused(v[0], multiplier[0], offset[0]), V::fused(v[1], multiplier[1], offset[1]));
          if constexpr (kFinish == Finish::kFused) q = V::add_words(q, zero_point);
          if constexpr (kHalf == Half::kLow) {
            V::store(words, V::kChannels, q);
          } else {
            q = V::bytes(V::load(words, V::kChannels), q);
            if constexpr (kFinish == Finish::kFused) q = V::clamp_bytes(q, d.requantize.qmin, d.requantize.qmax);
            V::store(dst[r], apart[r], q);
            dst[r] += ld[r];
          }
          words += sizeof(T);
        } else {
#pragma GCC unroll 2
          for (int j = 0; j < 2; ++j) V::store_lanes(acc.row[r] + 4 * (kFirst + j), apart[r], v[j]);
          acc.row[r] += ld[r];
        }
      }
    };
    const auto next = [&]() __attribute__((always_inline)) { return next_column<V, kHalf, kStride>(d, cursor, in_distance); };

    // The ring of columns, unrolled so that none is copied.
    std::int64_t left = count;
    BandColumn<V> a = next();
    if constexpr (kStride == 1) {
      BandColumn<V> b = next();
      BandColumn<V> c;
      for (; left >= 3; left -= 3) {
        c = next();
        emit(a, b, c);
        a = next();
        emit(b, c, a);
        b = next();
        emit(c, a, b);
      }
      if (left >= 1) {
        c = next();
        emit(a, b, c);
      }
      if (left >= 2) {
        a = next();
        emit(b, c, a);
      }
    } else {
      for (; left >= 2; left -= 2) {
        const BandColumn<V> b = next();
        const BandColumn<V> c = next();
        emit(a, b, c);
        const BandColumn<V> e = next();
        a = next();
        emit(c, e, a);
      }
      if (left >= 1) {
        const BandColumn<V> b = next();
        const BandColumn<V> c = next();
        emit(a, b, c);
      }
    }
  }
}

// As much at a time as the words in between have room for.
template <typename V, int kStride, Finish kFinish>
NIBBLE_INLINE void both_halves(const DepthwiseBand& d) {
  const std::int64_t count = streams_of<V>(d.out_w).count;
  const std::int64_t pairs = count < kBandVectors ? kBandVectors / count : 1;
  for (std::int64_t pair = 0; pair < d.pairs; pair += pairs)
    for (std::int64_t at = 0; at < count; at += kBandVectors) {
      const std::int64_t end = pair + pairs < d.pairs ? pair + pairs : d.pairs;
      const std::int64_t n = at + kBandVectors < count ? kBandVectors : count - at;
      half_band<V, Half::kLow, kStride, kFinish>(d, pair, end, at, n, nullptr);
      half_band<V, Half::kHigh, kStride, kFinish>(d, pair, end, at, n, nullptr);
    }
}

// Any law: by way of accumulators in the scratch memory.
template <typename V, int kStride>
__attribute__((noinline)) void by_way_of_sums(const DepthwiseBand& d) {
  const Streams streams = streams_of<V>(d.out_w);
  Sums sums;
  sums.ld = V::kChannels;
  sums.distance = kAccVectors * V::kChannels;
  sums.row[0] = reinterpret_cast<std::int32_t*>(d.scratch);
  sums.row[1] = sums.row[0] + V::kStreams * sums.distance;
  for (std::int64_t pair = 0; pair < d.pairs; ++pair)
    for (std::int64_t at = 0; at < streams.count; at += kAccVectors) {
      const std::int64_t n = at + kAccVectors < streams.count ? kAccVectors : streams.count - at;
      half_band<V, Half::kLow, kStride, Finish::kSums>(d, pair, pair + 1, at, n, &sums);
      half_band<V, Half::kHigh, kStride, Finish::kSums>(d, pair, pair + 1, at, n, &sums);
      const int rows = d.last_is_single && pair + 1 == d.pairs ? 1 : 2;
      for (int r = 0; r < rows; ++r)
        for (int s = 0; s < V::kStreams; ++s)
          for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t c = 0; c < V::kChannels; c += 16)
              _mm_storeu_si128(
                  reinterpret_cast<__m128i*>(d.dst + ((pair * 2 + r) * d.out_w + at + s * streams.distance + i) * d.ld_dst + d.first + c),
                  V::requantize(sums.row[r] + s * sums.distance + i * V::kChannels + c, d.requantize, c));
    }
}

template <typename V, int kStride>
NIBBLE_INLINE void run_band(const DepthwiseBand& d) {
  if (d.acc != nullptr) return both_halves<V, kStride, Finish::kSums>(d);
  if (d.multiplier == nullptr) return by_way_of_sums<V, kStride>(d);
  if (d.requantize.zero_point == 0 && d.requantize.qmin == 0 && d.requantize.qmax == 255) return both_halves<V, kStride, Finish::kPlain>(d);
  both_halves<V, kStride, Finish::kFused>(d);
}

}  // namespace
}  // namespace nibble::kernels
