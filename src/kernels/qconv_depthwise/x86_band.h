// 3x3 kernels for any vector width; for the ISA files alone, internal linkage.
//
// Two rows of outputs share the interleaving of the four (stride 2: five) rows of inputs under them: the four taps that one dot product
// sums are (w0 w1 w2 0) for the upper output, (0 w0 w1 w2) for the lower. Each column of inputs is interleaved once and feeds every output
// it belongs to. The lower half of the interleaved vectors is done first, for many outputs, then the higher one: so the weights of both
// rows stay in registers. In between, the first half waits as 16-bit words.
//
// A block narrower than the vector takes kStreams parts of the rows at once, one a part of the vector: its inputs are copied to the
// scratch memory in that order first, padding and all.
//
// V: a vector type's operations.
//   T; kBytes; Wei; Taps; kWeiVectors (T of one Wei); wei(p); below(wei): for the lower row, stride 1; taps(T): interleaved bytes, ready
//   for dot(acc, taps, wei); load, zip8_lo/hi, zip16_lo/hi; fused(acc, multiplier, offset): to integers; words(v0, v1);
//   bytes(low, high); words_of, add_words; clamp_bytes; store_part<n, at>: n bytes from byte `at` on; requantize(acc, r, c): 16 channels
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

// Where the streams lie, in outputs.
struct Streams {
  std::int64_t count = 0;     // outputs of each
  std::int64_t distance = 0;  // from stream to stream
};

template <int kStreams>
NIBBLE_INLINE Streams streams_of(std::int64_t out_w) {
  Streams s;
  s.distance = out_w / kStreams;
  s.count = out_w - (kStreams - 1) * s.distance;
  return s;
}

// Outputs of some pairs, `count` of each stream.
struct BandPart {
  const std::byte* constants = nullptr;  // [3 kw][4 j] Wei, [4 j] bias, [4 j] multiplier, [4 j] offset: whole vectors
  // Inputs: at channel 0 of the block of column 0 of the first output; that is column ix of in_w, outside of them is `zeros`.
  const std::uint8_t* const* rows = nullptr;
  const std::int64_t* steps = nullptr;
  const std::uint8_t* zeros = nullptr;
  std::int64_t ix = 0, in_w = 0;
  std::uint8_t* words = nullptr;
  std::int64_t pairs = 1, count = 1;
  bool last_is_single = false;
  std::int32_t zero_point = 0, qmin = 0, qmax = 255;
  // Outputs: the first one of stream 0 of the first row; then elements from pixel to pixel, from row to row, from stream to stream.
  std::uint8_t* dst = nullptr;
  std::int32_t* acc = nullptr;
  std::int64_t ld = 0, below = 0, apart = 0;
  std::uint8_t* unwanted = nullptr;
};

// One column of taps, a half of it: [output row][vector].
template <typename V>
struct BandColumn {
  typename V::Taps z[2][2];
};

template <typename V, Half kHalf, int kStride>
NIBBLE_INLINE BandColumn<V> band_column(const std::uint8_t* p0, const std::uint8_t* p1, const std::uint8_t* p2, const std::uint8_t* p3,
                                        const std::uint8_t* p4) {
  using T = typename V::T;
  constexpr bool kLow = kHalf == Half::kLow;
  const T r0 = V::load(p0), r1 = V::load(p1), r2 = V::load(p2), r3 = V::load(p3);
  const T z01 = kLow ? V::zip8_lo(r0, r1) : V::zip8_hi(r0, r1);
  const T z23 = kLow ? V::zip8_lo(r2, r3) : V::zip8_hi(r2, r3);
  BandColumn<V> c;
  c.z[0][0] = V::taps(V::zip16_lo(z01, z23));
  c.z[0][1] = V::taps(V::zip16_hi(z01, z23));
  if constexpr (kStride == 2) {
    const T r4 = V::load(p4);
    const T z44 = kLow ? V::zip8_lo(r4, r4) : V::zip8_hi(r4, r4);
    c.z[1][0] = V::taps(V::zip16_lo(z23, z44));
    c.z[1][1] = V::taps(V::zip16_hi(z23, z44));
  }
  return c;
}

template <typename V, int kStreams>
NIBBLE_INLINE void store_streams(std::uint8_t* p, std::int64_t apart, typename V::T v) {
  constexpr int kWidth = V::kBytes / kStreams;
  V::template store_part<kWidth, 0>(p, v);
  if constexpr (kStreams >= 2) V::template store_part<kWidth, kWidth>(p + apart, v);
  if constexpr (kStreams == 4) {
    V::template store_part<kWidth, 2 * kWidth>(p + 2 * apart, v);
    V::template store_part<kWidth, 3 * kWidth>(p + 3 * apart, v);
  }
}

// 4 accumulators of each 16 channels.
template <typename V, int kStreams>
NIBBLE_INLINE void store_sums(std::int32_t* p, std::int64_t apart, typename V::T v) {
  constexpr int kLanes = V::kBytes / 16 / kStreams;  // of a stream
  const auto at = [&](int l) __attribute__((always_inline)) {
    return reinterpret_cast<std::uint8_t*>(p + l % kLanes * 16 + l / kLanes * apart);
  };
  V::template store_part<16, 0>(at(0), v);
  V::template store_part<16, 16>(at(1), v);
  if constexpr (V::kBytes == 64) {
    V::template store_part<16, 32>(at(2), v);
    V::template store_part<16, 48>(at(3), v);
  }
}

template <typename V, Half kHalf, int kStride, Finish kFinish, int kStreams>
__attribute__((noinline)) void half_band(const BandPart& part) {
  using T = typename V::T;
  constexpr int kFirst = kHalf == Half::kLow ? 0 : 2;  // of the four vectors
  constexpr bool kToBytes = kFinish != Finish::kSums;
  typename V::Wei w[2][3][2];
  T bias[2], multiplier[2], offset[2];
#pragma GCC unroll 2
  for (int j = 0; j < 2; ++j) {
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k) {
      w[0][k][j] = V::wei(part.constants + (k * 4 + kFirst + j) * V::kWeiVectors * V::kBytes);
      w[1][k][j] = kStride == 1 ? V::below(w[0][k][j]) : w[0][k][j];
    }
    const std::byte* const p = part.constants + (12 * V::kWeiVectors + kFirst + j) * V::kBytes;
    bias[j] = V::load(p);
    multiplier[j] = V::load(p + 4 * V::kBytes);
    offset[j] = V::load(p + 8 * V::kBytes);
  }
  const T zero_point = V::words_of(part.zero_point), qmin = V::bytes_of(part.qmin), qmax = V::bytes_of(part.qmax);
  std::uint8_t* words = part.words;

  for (std::int64_t pair = 0; pair < part.pairs; ++pair) {
    const std::uint8_t* const* const rows = part.rows + 2 * kStride * pair;
    const std::int64_t* const steps = part.steps + 2 * kStride * pair;
    const std::uint8_t *p0 = rows[0], *p1 = rows[1], *p2 = rows[2], *p3 = rows[3], *p4 = kStride == 2 ? rows[4] : nullptr;
    const std::int64_t s0 = steps[0], s1 = steps[1], s2 = steps[2], s3 = steps[3], s4 = kStride == 2 ? steps[4] : 0;
    const bool single = part.last_is_single && pair + 1 == part.pairs;
    const std::int64_t ld[2] = {part.ld, single ? 0 : part.ld};
    const std::int64_t apart[2] = {part.apart, single ? 0 : part.apart};
    const std::int64_t to = 2 * pair * part.below;
    std::uint8_t* dst[2] = {};
    std::int32_t* acc[2] = {};
    if constexpr (kToBytes) {
      dst[0] = part.dst + to;
      dst[1] = single ? part.unwanted : dst[0] + part.below;
    } else {
      acc[0] = part.acc + to;
      acc[1] = single ? reinterpret_cast<std::int32_t*>(part.unwanted) : acc[0] + part.below;
    }

    const auto emit = [&](const BandColumn<V>& a, const BandColumn<V>& b, const BandColumn<V>& c) __attribute__((always_inline)) {
#pragma GCC unroll 2
      for (int r = 0; r < 2; ++r) {
        const int from = kStride == 1 ? 0 : r;
        T v[2];
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          v[j] = V::dot(bias[j], a.z[from][j], w[r][0][j]);
          v[j] = V::dot(v[j], b.z[from][j], w[r][1][j]);
          v[j] = V::dot(v[j], c.z[from][j], w[r][2][j]);
        }
        if constexpr (kToBytes) {
          T q = V::words(V::fused(v[0], multiplier[0], offset[0]), V::fused(v[1], multiplier[1], offset[1]));
          if constexpr (kFinish == Finish::kFused) q = V::add_words(q, zero_point);
          if constexpr (kHalf == Half::kLow) {
            V::template store_part<V::kBytes, 0>(words, q);
          } else {
            q = V::bytes(V::load(words), q);
            if constexpr (kFinish == Finish::kFused) q = V::clamp_bytes(q, qmin, qmax);
            store_streams<V, kStreams>(dst[r], apart[r], q);
            dst[r] += ld[r];
          }
          words += V::kBytes;
        } else {
#pragma GCC unroll 2
          for (int j = 0; j < 2; ++j) store_sums<V, kStreams>(acc[r] + 4 * (kFirst + j), apart[r], v[j]);
          acc[r] += ld[r];
        }
      }
    };
    const auto advance = [&]() __attribute__((always_inline)) {
      p0 += s0;
      p1 += s1;
      p2 += s2;
      p3 += s3;
      if constexpr (kStride == 2) p4 += s4;
    };
    const auto next = [&]() __attribute__((always_inline)) {
      const BandColumn<V> c = band_column<V, kHalf, kStride>(p0, p1, p2, p3, p4);
      advance();
      return c;
    };
    std::int64_t ix = part.ix;
    const auto next_checked = [&]() __attribute__((always_inline)) {
      const bool inside = ix >= 0 && ix < part.in_w;
      const std::uint8_t* const z = part.zeros;
      const BandColumn<V> c =
          band_column<V, kHalf, kStride>(inside ? p0 : z, inside ? p1 : z, inside ? p2 : z, inside ? p3 : z, inside ? p4 : z);
      advance();
      ++ix;
      return c;
    };

    // A ring of columns, unrolled so that none is copied where all lie inside.
    std::int64_t left = part.count;
    BandColumn<V> a = next_checked();
    if constexpr (kStride == 1) {
      BandColumn<V> b = next_checked();
      BandColumn<V> c;
      const std::int64_t room = part.in_w - ix;
      if (ix >= 0)
        for (std::int64_t all = room < left ? room : left; all >= 3; all -= 3, left -= 3, ix += 3) {
          c = next();
          emit(a, b, c);
          a = next();
          emit(b, c, a);
          b = next();
          emit(c, a, b);
        }
      for (; left > 0; --left) {
        c = next_checked();
        emit(a, b, c);
        a = b;
        b = c;
      }
    } else {
      const std::int64_t room = (part.in_w - ix) / 2;
      if (ix >= 0)
        for (std::int64_t all = room < left ? room : left; all >= 2; all -= 2, left -= 2, ix += 4) {
          const BandColumn<V> b = next();
          const BandColumn<V> c = next();
          emit(a, b, c);
          const BandColumn<V> e = next();
          a = next();
          emit(c, e, a);
        }
      for (; left > 0; --left) {
        const BandColumn<V> b = next_checked();
        const BandColumn<V> c = next_checked();
        emit(a, b, c);
        a = c;
      }
    }
  }
}

// n vectors, each of which holds kStreams times the same bytes.
template <typename V, int kStreams>
NIBBLE_INLINE std::byte* spread(const void* from, std::int64_t n, std::byte* to) {
  constexpr std::int64_t kWidth = V::kBytes / kStreams;
  const auto* p = static_cast<const std::byte*>(from);
  for (std::int64_t i = 0; i < n; ++i, p += kWidth)
    for (int s = 0; s < kStreams; ++s, to += kWidth) __builtin_memcpy(to, p, kWidth);
  return to;
}

// The columns under outputs [begin, begin + count) of each stream; n input rows from `row` on.
template <typename V, int kStreams, int kStride>
NIBBLE_INLINE void copy_inputs(const DepthwiseBand& d, std::int64_t row, std::int64_t n, std::int64_t begin, std::int64_t count,
                               std::uint8_t* to) {
  constexpr std::int64_t kWidth = V::kBytes / kStreams;
  const std::int64_t distance = streams_of<kStreams>(d.out_w).distance * kStride;
  const std::int64_t columns = (count - 1) * kStride + 3;
  for (std::int64_t i = row; i < row + n; ++i, to += columns * V::kBytes)
    for (int s = 0; s < kStreams; ++s) {
      const std::int64_t ix = begin * kStride - d.pad_left + s * distance;
      const std::int64_t step = d.steps[i];
      // Columns [left, right) lie in the image.
      const std::int64_t left = ix >= 0 ? 0 : -ix < columns ? -ix : columns;
      const std::int64_t room = d.in_w - ix;
      const std::int64_t right = room > columns ? columns : room > left ? room : left;
      const std::uint8_t* from = d.rows[i] + (step != 0 ? d.first : 0) + (ix + left) * step;
      std::uint8_t* out = to + s * kWidth;
      std::int64_t c = 0;
      for (; c < left; ++c, out += V::kBytes) __builtin_memcpy(out, d.zeros, kWidth);
      for (; c < right; ++c, out += V::kBytes, from += step) __builtin_memcpy(out, from, kWidth);
      for (; c < columns; ++c, out += V::kBytes) __builtin_memcpy(out, d.zeros, kWidth);
    }
}

template <typename V, int kStreams, int kStride>
__attribute__((noinline)) void run_band(const DepthwiseBand& d) {
  constexpr std::int64_t kWidth = V::kBytes / kStreams;
  const Streams streams = streams_of<kStreams>(d.out_w);
  const bool sums_to_bytes = d.acc == nullptr && d.multiplier == nullptr;
  const std::int64_t room = sums_to_bytes ? kSumsVectors : band_vectors(kStride);
  const std::int64_t most_pairs = sums_to_bytes || streams.count >= room ? 1 : room / streams.count;

  BandPart part;
  std::byte* memory = d.scratch;
  part.constants = memory;
  memory = spread<V, kStreams>(d.wei, 12 * V::kWeiVectors, memory);
  memory = spread<V, kStreams>(d.bias, 4, memory);
  if (d.multiplier != nullptr) {
    memory = spread<V, kStreams>(d.multiplier, 4, memory);
    spread<V, kStreams>(d.offset, 4, memory);
  }
  auto* const inputs = reinterpret_cast<std::uint8_t*>(d.scratch + BandScratch::kConstants);
  part.words = inputs + BandScratch::kInputs;
  part.unwanted = part.words + BandScratch::kWords;
  part.zeros = d.zeros;
  constexpr auto kMostRows = static_cast<unsigned long>(band_rows(kBandPairs, kStride));
  const std::uint8_t* rows[kMostRows];
  std::int64_t steps[kMostRows];
  part.rows = rows;
  part.steps = steps;
  part.zero_point = d.requantize.zero_point;
  part.qmin = d.requantize.qmin;
  part.qmax = d.requantize.qmax;
  auto* const sums = reinterpret_cast<std::int32_t*>(part.words);

  for (std::int64_t pair = 0; pair < d.pairs; pair += most_pairs)
    for (std::int64_t at = 0; at < streams.count; at += room) {
      part.pairs = pair + most_pairs < d.pairs ? most_pairs : d.pairs - pair;
      part.count = at + room < streams.count ? room : streams.count - at;
      part.last_is_single = d.last_is_single && pair + part.pairs == d.pairs;
      const std::int64_t row = 2 * kStride * pair;
      const std::int64_t row_count = band_rows(part.pairs, kStride);
      if constexpr (kStreams == 1) {
        part.ix = at * kStride - d.pad_left;
        part.in_w = d.in_w;
        for (std::int64_t i = 0; i < row_count; ++i) {
          steps[i] = d.steps[row + i];
          rows[i] = d.rows[row + i] + (steps[i] != 0 ? d.first : 0) + part.ix * steps[i];
        }
      } else {
        part.ix = 0;
        part.in_w = (part.count - 1) * kStride + 3;
        copy_inputs<V, kStreams, kStride>(d, row, row_count, at, part.count, inputs);
        for (std::int64_t i = 0; i < row_count; ++i) {
          steps[i] = V::kBytes;
          rows[i] = inputs + i * part.in_w * V::kBytes;
        }
      }
      const std::int64_t to = (2 * pair * d.out_w + at) * d.ld_dst + d.first;
      part.ld = d.ld_dst;
      part.below = d.out_w * d.ld_dst;
      part.apart = streams.distance * d.ld_dst;
      if (d.acc != nullptr) {
        part.acc = d.acc + to;
        half_band<V, Half::kLow, kStride, Finish::kSums, kStreams>(part);
        half_band<V, Half::kHigh, kStride, Finish::kSums, kStreams>(part);
        continue;
      }
      part.dst = d.dst + to;
      if (!sums_to_bytes) {
        if (d.requantize.zero_point == 0 && d.requantize.qmin == 0 && d.requantize.qmax == 255) {
          half_band<V, Half::kLow, kStride, Finish::kPlain, 1>(part);
          half_band<V, Half::kHigh, kStride, Finish::kPlain, kStreams>(part);
        } else {
          half_band<V, Half::kLow, kStride, Finish::kFused, 1>(part);
          half_band<V, Half::kHigh, kStride, Finish::kFused, kStreams>(part);
        }
        continue;
      }
      part.acc = sums;
      part.ld = kWidth;
      part.apart = kSumsVectors * kWidth;
      part.below = kStreams * part.apart;
      half_band<V, Half::kLow, kStride, Finish::kSums, kStreams>(part);
      half_band<V, Half::kHigh, kStride, Finish::kSums, kStreams>(part);
      for (int r = 0; r < (part.last_is_single ? 1 : 2); ++r)
        for (int s = 0; s < kStreams; ++s)
          for (std::int64_t i = 0; i < part.count; ++i) {
            const std::int32_t* const acc = sums + r * part.below + s * part.apart + i * kWidth;
            std::uint8_t* const dst = part.dst + (r * d.out_w + s * streams.distance + i) * d.ld_dst;
            for (std::int64_t c = 0; c < kWidth; c += 16)
              _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + c), V::requantize(acc + c, d.requantize, c));
          }
    }
}

}  // namespace
}  // namespace nibble::kernels
