#include <algorithm>
#include <cmath>

#include "observers/observer_base.h"

namespace nibble {

namespace {

// The value below which `share` of all values lie, linear inside of a bin: at most one bin width from the exact quantile.
double quantile(const Histogram& histogram, double share) {
  const double rank = share * static_cast<double>(histogram.total());
  const auto counts = histogram.counts();
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] > 0 && static_cast<double>(below + counts[i]) >= rank) {
      const double inside = std::max(0.0, rank - static_cast<double>(below)) / static_cast<double>(counts[i]);
      const double value = (static_cast<double>(histogram.first() + static_cast<std::int64_t>(i)) + inside) * histogram.width();
      return std::clamp(value, histogram.lo(), histogram.hi());
    }
    below += counts[i];
  }
  return histogram.hi();
}

// [quantile(1 - p), quantile(p)]: cuts off the same share of the values on both sides.
class PercentileObserver final : public HistogramObserver {
 public:
  explicit PercentileObserver(double percentile) : HistogramObserver("percentile"), share_(percentile / 100) {}

 protected:
  Range choose(const Histogram& histogram, const ObserverTarget&) const override {
    if (share_ >= 1) return {histogram.lo(), histogram.hi()};
    const double lo = quantile(histogram, 1 - share_);
    return {lo, std::max(lo, quantile(histogram, share_))};
  }

 private:
  double share_;
};

}  // namespace

std::unique_ptr<Observer> make_percentile(const ObserverOptions& options) {
  return std::make_unique<PercentileObserver>(option_within(options, "percentile", "percentile", 50, 100));
}

}  // namespace nibble
