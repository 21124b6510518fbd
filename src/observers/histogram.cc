#include "observers/histogram.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "observers/state_json.h"

namespace nibble {

namespace {

constexpr std::int64_t kMaxIndex = std::int64_t{1} << 22;
constexpr std::size_t kLanes =
    4;  // equal values in a row (zeros after a ReLU) would wait for each other's increment in one set of counters

// k -> the bin that holds it when the width has doubled `doublings` times.
std::int64_t coarser(std::int64_t bin, int doublings) { return bin >> std::min(doublings, 62); }

std::int64_t bin_of(double x, int exponent) { return static_cast<std::int64_t>(std::floor(std::ldexp(x, -exponent))); }

bool holds(double lo, double hi, int exponent, std::int64_t max_bins) {
  const double first = std::floor(std::ldexp(lo, -exponent)), last = std::floor(std::ldexp(hi, -exponent));
  return last - first < static_cast<double>(max_bins) && first >= -static_cast<double>(kMaxIndex) && last < static_cast<double>(kMaxIndex);
}

int smallest_exponent(double lo, double hi, std::int64_t max_bins) {
  const double extent =
      std::max(hi - lo, std::max(std::abs(lo), std::abs(hi)) / static_cast<double>(kMaxIndex) * static_cast<double>(max_bins));
  if (extent == 0) return Histogram::kMinExponent;
  // One below the exponent that the extent alone asks for; then upwards to the first that holds.
  int exponent = std::max(Histogram::kMinExponent, std::ilogb(extent / static_cast<double>(max_bins)) - 1);
  while (!holds(lo, hi, exponent, max_bins)) ++exponent;
  return exponent;
}

}  // namespace

int Histogram::exponent_for(double lo, double hi) { return smallest_exponent(lo, hi, kMaxBins); }

double Histogram::width() const { return std::ldexp(1.0, exponent_); }

void BatchHistogram::fill(std::span<const float> values, const BatchStats& batch, int min_exponent) {
  stats = batch;
  counts.clear();
  if (values.empty()) return;
  exponent = std::max(min_exponent, Histogram::exponent_for(static_cast<double>(batch.lo), static_cast<double>(batch.hi)));
  first = bin_of(static_cast<double>(batch.lo), exponent);
  const auto bins = static_cast<std::size_t>(bin_of(static_cast<double>(batch.hi), exponent) - first + 1);
  counts.assign(bins, 0);

  // floor(x / width) in float32: the product is exact but where it underflows, and there |product| < 1. Truncation is one too high for
  // negative values off the edge: `index * width > x` is an exact comparison (|index| < 2^23, width a normal power of two).
  const float inv_width = std::ldexp(1.0F, -exponent), width = std::ldexp(1.0F, exponent);
  const auto origin = static_cast<std::int32_t>(first);
  constexpr std::size_t kBlock = 256;
  std::int32_t index[kBlock];
  const bool with_lanes = values.size() > 4 * bins;
  if (with_lanes) lanes.assign((kLanes - 1) * bins, 0);
  std::uint32_t* const c0 = counts.data();
  std::uint32_t* const c1 = with_lanes ? lanes.data() : c0;
  std::uint32_t* const c2 = with_lanes ? c1 + bins : c0;
  std::uint32_t* const c3 = with_lanes ? c2 + bins : c0;
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t n = std::min(kBlock, values.size() - begin);
    const float* x = values.data() + begin;
    for (std::size_t i = 0; i < n; ++i) {
      const auto truncated = static_cast<std::int32_t>(x[i] * inv_width);
      index[i] = truncated - origin - (static_cast<float>(truncated) * width > x[i] ? 1 : 0);
    }
    std::size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      ++c0[index[i]];
      ++c1[index[i + 1]];
      ++c2[index[i + 2]];
      ++c3[index[i + 3]];
    }
    for (; i < n; ++i) ++c0[index[i]];
  }
  if (with_lanes) {
    for (std::size_t i = 0; i < bins; ++i) c0[i] += c1[i] + c2[i] + c3[i];
  }
}

void Histogram::widen(double lo, double hi) {
  if (empty()) {
    lo_ = lo;
    hi_ = hi;
    exponent_ = exponent_for(lo, hi);
    first_ = bin_of(lo, exponent_);
    counts_.assign(static_cast<std::size_t>(bin_of(hi, exponent_) - first_ + 1), 0);
    return;
  }
  if (lo >= lo_ && hi <= hi_) return;
  lo_ = std::min(lo_, lo);
  hi_ = std::max(hi_, hi);
  const int exponent = exponent_for(lo_, hi_);
  const std::int64_t first = bin_of(lo_, exponent), last = bin_of(hi_, exponent);
  std::vector<std::uint64_t> counts(static_cast<std::size_t>(last - first + 1), 0);
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] == 0) continue;
    counts[static_cast<std::size_t>(coarser(first_ + static_cast<std::int64_t>(i), exponent - exponent_) - first)] += counts_[i];
  }
  counts_ = std::move(counts);
  exponent_ = exponent;
  first_ = first;
}

void Histogram::add(const BatchHistogram& batch) {
  if (batch.counts.empty()) return;
  widen(static_cast<double>(batch.stats.lo), static_cast<double>(batch.stats.hi));
  // The batch's exponent follows from a part of the range that this one follows from, so it is not the coarser one.
  const int doublings = exponent_ - batch.exponent;
  if (doublings < 0)
    fail(ErrorCode::kInvalidArgument, "histogram: a batch with bins of width 2^{} was added to bins of width 2^{}", batch.exponent,
         exponent_);
  const std::size_t shift = static_cast<std::size_t>(coarser(batch.first, doublings) - first_);
  if (doublings == 0) {
    for (std::size_t i = 0; i < batch.counts.size(); ++i) counts_[shift + i] += batch.counts[i];
  } else {
    for (std::size_t i = 0; i < batch.counts.size(); ++i) {
      counts_[static_cast<std::size_t>(coarser(batch.first + static_cast<std::int64_t>(i), doublings) - first_)] += batch.counts[i];
    }
  }
  total_ += static_cast<std::uint64_t>(batch.stats.count);
  zeros_ += static_cast<std::uint64_t>(batch.stats.zeros);
}

void Histogram::merge(const Histogram& other) {
  if (other.empty()) return;
  widen(other.lo_, other.hi_);
  const int doublings = exponent_ - other.exponent_;
  for (std::size_t i = 0; i < other.counts_.size(); ++i) {
    if (other.counts_[i] == 0) continue;
    counts_[static_cast<std::size_t>(coarser(other.first_ + static_cast<std::int64_t>(i), doublings) - first_)] += other.counts_[i];
  }
  total_ += other.total_;
  zeros_ += other.zeros_;
}

// Counts in a row; a run of n empty bins is the number -n.
nlohmann::json Histogram::to_json() const {
  nlohmann::json counts = nlohmann::json::array();
  std::int64_t empty_bins = 0;
  for (const std::uint64_t count : counts_) {
    if (count == 0) {
      ++empty_bins;
      continue;
    }
    if (empty_bins > 0) counts.push_back(-empty_bins);
    empty_bins = 0;
    counts.push_back(count);
  }
  return {{"lo", lo_}, {"hi", hi_}, {"zeros", zeros_}, {"counts", std::move(counts)}};
}

Histogram Histogram::from_json(const nlohmann::json& state) {
  const StateReader reader(state, "histogram", {"lo", "hi", "zeros", "counts"});
  Histogram result;
  const auto& counts = reader.array("counts");
  if (counts.empty()) return result;
  const auto [lo, hi] = reader.range("lo", "hi");
  result.widen(lo, hi);
  std::size_t bin = 0;
  for (const auto& item : counts) {
    if (bin >= result.counts_.size()) reader.refuse("counts", "more bins than lo and hi leave room for");
    if (item.is_number_integer() && !item.is_number_unsigned() && item.get<std::int64_t>() < 0) {
      const std::int64_t run = item.get<std::int64_t>();
      if (run < -kMaxBins) reader.refuse("counts", "a run of empty bins that is longer than a histogram");
      bin += static_cast<std::size_t>(-run);
    } else if (item.is_number_unsigned() && item.get<std::uint64_t>() < (std::uint64_t{1} << 62) && item.get<std::uint64_t>() > 0) {
      result.counts_[bin++] = item.get<std::uint64_t>();
      result.total_ += item.get<std::uint64_t>();
      if (result.total_ >= (std::uint64_t{1} << 62)) reader.refuse("counts", "more values than 2^62");
    } else {
      reader.refuse("counts", "an item that is neither a count (> 0) nor a run of empty bins (< 0)");
    }
  }
  if (bin != result.counts_.size()) reader.refuse("counts", "fewer bins than lo and hi ask for, or more");
  if (result.counts_.front() == 0 || result.counts_.back() == 0) reader.refuse("counts", "an empty bin at lo or hi");
  result.zeros_ = reader.count("zeros");
  const std::int64_t zero_bin = -result.first_;
  const bool zero_in_range = zero_bin >= 0 && zero_bin < static_cast<std::int64_t>(result.counts_.size());
  if (result.zeros_ > (zero_in_range ? result.counts_[static_cast<std::size_t>(zero_bin)] : 0)) {
    reader.refuse("zeros", "more zeros than values in the bin of 0");
  }
  return result;
}

DenseBins dense_bins(const Histogram& histogram, std::int64_t max_bins) {
  DenseBins bins;
  const double lo = std::min(histogram.lo(), 0.0), hi = std::max(histogram.hi(), 0.0);
  const int exponent = std::max(histogram.exponent(), smallest_exponent(lo, hi, max_bins));
  bins.width = std::ldexp(1.0, exponent);
  bins.first = bin_of(lo, exponent);
  bins.counts.assign(static_cast<std::size_t>(bin_of(hi, exponent) - bins.first + 1), 0.0);
  const auto counts = histogram.counts();
  for (std::size_t i = 0; i < counts.size(); ++i) {
    std::uint64_t count = counts[i];
    const std::int64_t bin = histogram.first() + static_cast<std::int64_t>(i);
    if (bin == 0) count -= histogram.zeros();
    bins.counts[static_cast<std::size_t>(coarser(bin, exponent - histogram.exponent()) - bins.first)] += static_cast<double>(count);
  }
  return bins;
}

}  // namespace nibble
