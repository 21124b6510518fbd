// The histogram that percentile, entropy, mse, aciq and power_of_two share.
//
// Bin k holds the values x with floor(x / 2^e) == k: bins are aligned at multiples of a power of two. The exponent e is the smallest one
// for which all bins between the least and the greatest value are at most kMaxBins, so it follows from lo and hi alone. When the range
// grows, e grows, and bins k and k+1 (k even) become bin k/2 of twice the width: counts move, none is split. Hence the state depends on the
// *set* of values seen and not on their order or grouping, and histograms merge exactly.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "observers/batch_stats.h"

namespace nibble {

// Counts of one batch, made without touching the histogram that they will be added to (so that threads can make theirs side by side).
// Keep one a thread and use it again: it owns the scratch memory.
struct BatchHistogram {
  int exponent = 0;
  std::int64_t first = 0;             // bin of counts[0]
  std::vector<std::uint32_t> counts;  // bins first ... of width 2^exponent
  BatchStats stats;
  std::vector<std::uint32_t> lanes;  // scratch

  // `min_exponent`: at least so coarse (the receiver's exponent; a finer one is right too, only slower). At most 2^31 finite values.
  void fill(std::span<const float> values, const BatchStats& batch, int min_exponent);
};

class Histogram {
 public:
  static constexpr std::int64_t kMaxBins = 8192;
  static constexpr int kMinExponent = -126;  // finer bins would make 1 / width overflow

  // The smallest exponent whose bins hold [lo, hi]: at most kMaxBins of them, indices below 2^22 so that float arithmetic finds them
  // exactly.
  static int exponent_for(double lo, double hi);

  void add(const BatchHistogram& batch);
  void merge(const Histogram& other);

  bool empty() const { return total_ == 0; }
  std::uint64_t total() const { return total_; }
  std::uint64_t zeros() const { return zeros_; }  // exact zeros, which every grid holds exactly
  double lo() const { return lo_; }
  double hi() const { return hi_; }
  int exponent() const { return exponent_; }
  double width() const;
  std::int64_t first() const { return first_; }  // index of the first bin, floor(lo / width)
  std::span<const std::uint64_t> counts() const { return counts_; }

  nlohmann::json to_json() const;
  static Histogram from_json(const nlohmann::json& state);  // throws Error{kInvalidData}
  bool operator==(const Histogram&) const = default;

 private:
  void widen(double lo, double hi);  // makes room for [lo, hi]

  int exponent_ = kMinExponent;
  std::int64_t first_ = 0;
  std::vector<std::uint64_t> counts_;
  std::uint64_t total_ = 0, zeros_ = 0;
  double lo_ = 0, hi_ = 0;
};

// A histogram's shape for searches: the bins of width 2^exponent from `first` on, at most `max_bins` (a power of two, >= 4), that hold the
// data and, always, 0. Exact zeros are left out: every grid holds 0 exactly, so they tell nothing about where to clip.
struct DenseBins {
  double width = 1;
  std::int64_t first = 0;      // <= 0
  std::vector<double> counts;  // first + counts.size() > 0
};
DenseBins dense_bins(const Histogram& histogram, std::int64_t max_bins);

}  // namespace nibble
