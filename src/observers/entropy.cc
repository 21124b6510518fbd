// Entropy calibration (S. Migacz, 8-bit inference with TensorRT, 2017): of all windows of the histogram, take the one whose quantized form
// Q says most about the original P, by least KL(P || Q).
//
// P is the window's bins with everything outside added to the edge bins; Q the window's bins alone, merged into as many levels as the grid
// has and spread back evenly over those bins that were not empty. With T all values, S those inside the window, prefix sums of h, h log h
// and [h > 0],
//     KL = (sum P log P - sum P log Q) / T + log(S / T),
// costs one logarithm a level instead of one a bin: inside one level Q is constant on its non-empty bins.
//
// Where we depart from the source: exact zeros are left out (every grid holds 0 exactly, but in the histogram they would be smeared over a
// level), ends stand on non-empty bins only (an empty edge bin with a clipped tail has KL = infinity), and for affine grids both ends are
// searched, in turns.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "observers/observer_base.h"

namespace nibble {

namespace {

// The source has 2048 bins. A window has one bin a level at least, so the bins also say how far a range may be cut: to 1/8 ... 1/16 on 8
// bits with 4096 of them on one side.
constexpr std::int64_t kBinsOneEnd = 4096;
constexpr std::int64_t kBinsTwoEnds = 8192;
// Counts fluctuate, and Q cannot follow: that alone gives a window of m bins a divergence of about m / (2 T), which draws the search to
// ever smaller windows. With T / 256 bins it stays below 1/500. Where that leaves less than a bin a level, nothing is clipped.
constexpr std::int64_t kValuesPerBin = 256;

std::int64_t bins_for(std::uint64_t values, std::int64_t levels, std::int64_t most) {
  const auto enough =
      static_cast<std::int64_t>(std::bit_floor(std::max<std::uint64_t>(values / static_cast<std::uint64_t>(kValuesPerBin), 1)));
  return std::min(most, std::max({enough, static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(levels))), std::int64_t{4}}));
}

double x_log_x(double x) { return x > 0 ? x * std::log(x) : 0; }

// Divergence of windows [first, last) of one array of counts.
class Divergence {
 public:
  Divergence(const std::vector<double>& counts, std::size_t levels) : counts_(counts), levels_(levels) {
    const std::size_t n = counts.size();
    sum_.resize(n + 1);
    log_.resize(n + 1);
    filled_.resize(n + 1);
    for (std::size_t i = 0; i < n; ++i) {
      sum_[i + 1] = sum_[i] + counts[i];
      log_[i + 1] = log_[i] + x_log_x(counts[i]);
      filled_[i + 1] = filled_[i] + (counts[i] > 0 ? 1 : 0);
    }
  }

  double operator()(std::size_t first, std::size_t last) const {
    const double total = sum_.back(), inside = sum_[last] - sum_[first];
    const double below = sum_[first], above = total - sum_[last];
    if (inside <= 0 || (below > 0 && counts_[first] <= 0) || (above > 0 && counts_[last - 1] <= 0))
      return std::numeric_limits<double>::infinity();
    double p_log_p = log_[last] - log_[first];
    if (last - first == 1) {
      p_log_p = x_log_x(total);
    } else {
      p_log_p += x_log_x(counts_[first] + below) - x_log_x(counts_[first]);
      p_log_p += x_log_x(counts_[last - 1] + above) - x_log_x(counts_[last - 1]);
    }
    double p_log_q = 0;
    const std::size_t bins = last - first, levels = std::min(levels_, bins);
    for (std::size_t level = 0; level < levels; ++level) {
      const std::size_t begin = first + level * bins / levels, end = first + (level + 1) * bins / levels;
      const double mass = sum_[end] - sum_[begin];
      if (mass <= 0) continue;
      double p = mass;
      if (level == 0) p += below;
      if (level + 1 == levels) p += above;
      p_log_q += p * std::log(mass / (filled_[end] - filled_[begin]));
    }
    return (p_log_p - p_log_q) / total + std::log(inside / total);
  }

  // The widest `last` <= `end` (or `first` >= `begin`) that stands on a filled bin.
  std::size_t trim_last(std::size_t begin, std::size_t end) const {
    while (end > begin + 1 && counts_[end - 1] <= 0) --end;
    return end;
  }
  std::size_t trim_first(std::size_t begin, std::size_t end) const {
    while (begin + 1 < end && counts_[begin] <= 0) ++begin;
    return begin;
  }

 private:
  const std::vector<double>& counts_;
  std::size_t levels_;
  std::vector<double> sum_, log_, filled_;
};

// Least divergence over `last`, windows of at least `levels` bins, `first` fixed; ties go to the wider window. With stride > 1 coarse, then
// fine around the best.
std::size_t search_last(const Divergence& kl, std::size_t first, std::size_t least, std::size_t size, std::size_t stride) {
  std::size_t best = size;
  double best_kl = std::numeric_limits<double>::infinity();
  const auto visit = [&](std::size_t last) {
    last = kl.trim_last(least - 1, last);
    const double value = kl(first, last);
    if (value < best_kl) {
      best_kl = value;
      best = last;
    }
  };
  for (std::size_t last = size; last >= least; last -= stride) {
    visit(last);
    if (last < least + stride) break;
  }
  if (stride > 1) {
    const std::size_t center = best;
    for (std::size_t last = std::min(size, center + stride - 1); last >= least && last + stride > center; --last) visit(last);
  }
  return best;
}

std::size_t search_first(const Divergence& kl, std::size_t last, std::size_t most, std::size_t stride) {
  std::size_t best = 0;
  double best_kl = std::numeric_limits<double>::infinity();
  const auto visit = [&](std::size_t first) {
    first = kl.trim_first(first, most + 1);
    const double value = kl(first, last);
    if (value < best_kl) {
      best_kl = value;
      best = first;
    }
  };
  for (std::size_t first = 0; first <= most; first += stride) visit(first);
  if (stride > 1) {
    const std::size_t center = best;
    for (std::size_t first = center - std::min(center, stride - 1); first <= most && first < center + stride; ++first) visit(first);
  }
  return best;
}

class EntropyObserver final : public HistogramObserver {
 public:
  EntropyObserver() : HistogramObserver("entropy") {}

 protected:
  Range choose(const Histogram& histogram, const ObserverTarget& target) const override {
    const double lo = histogram.lo(), hi = histogram.hi();
    const auto all_levels = static_cast<std::size_t>(target.type.qmax() - target.type.qmin() + 1);
    const bool one_sided = lo >= 0 || hi <= 0;
    const std::int64_t most_bins = one_sided || target.symmetric ? kBinsOneEnd : kBinsTwoEnds;
    const DenseBins bins =
        dense_bins(histogram, bins_for(histogram.total() - histogram.zeros(), static_cast<std::int64_t>(all_levels), most_bins));
    const auto zero = static_cast<std::size_t>(-bins.first);  // index of bin [0, width)
    const std::size_t size = bins.counts.size();
    if (one_sided || target.symmetric) {
      // Magnitudes: bin k >= 0 and its mirror image -1 - k.
      std::vector<double> magnitudes(std::max(size - zero, zero), 0.0);
      for (std::size_t i = 0; i < size; ++i) magnitudes[i >= zero ? i - zero : zero - 1 - i] += bins.counts[i];
      const bool whole_grid = one_sided && !(target.symmetric && (target.type.is_signed || lo < 0));
      const std::size_t levels = whole_grid ? all_levels : all_levels / 2;
      const Divergence kl(magnitudes, std::max<std::size_t>(levels, 1));
      const std::size_t least = std::min(std::max<std::size_t>(levels, 1), magnitudes.size());
      const double reach = static_cast<double>(search_last(kl, 0, least, magnitudes.size(), 1)) * bins.width;
      return {std::clamp(-reach, lo, hi), std::clamp(reach, lo, hi)};
    }
    // Both ends, in turns: lo fixed while hi moves, then the other way round.
    constexpr std::size_t kStride = 16;
    constexpr int kRounds = 3;
    const Divergence kl(bins.counts, all_levels);
    std::size_t first = 0, last = size;
    for (int round = 0; round < kRounds; ++round) {
      const std::size_t least = std::max(zero + 1, std::min(size, first + all_levels));
      const std::size_t new_last = search_last(kl, first, least, size, kStride);
      const std::size_t most = std::min(zero, new_last > all_levels ? new_last - all_levels : 0);
      const std::size_t new_first = search_first(kl, new_last, most, kStride);
      if (new_first == first && new_last == last) break;
      first = new_first;
      last = new_last;
    }
    const double begin = static_cast<double>(bins.first + static_cast<std::int64_t>(first)) * bins.width;
    const double end = static_cast<double>(bins.first + static_cast<std::int64_t>(last)) * bins.width;
    return {std::max(lo, begin), std::min(hi, end)};
  }
};

}  // namespace

std::unique_ptr<Observer> make_entropy(const ObserverOptions&) { return std::make_unique<EntropyObserver>(); }

}  // namespace nibble
