// The range whose scale is the best power of two (Qiu et al. 2016, "Going deeper with embedded FPGA platform for convolutional neural
// network", section 5.1):
//     f = argmin sum |x - x'(n, f)|,
// x' being x on the grid of scale 2^f with n bits. Candidates are the smallest power of two that holds all values and the kSmaller below
// it. The range is what was seen, both ends multiplied with the factor that makes choose_qparams() answer 2^f exactly: it reaches beyond
// the data, by less than twice, where the scale was raised.
#include <algorithm>
#include <cmath>

#include "numeric/qparams.h"
#include "observers/clip_error.h"
#include "observers/observer_base.h"

namespace nibble {

namespace {

constexpr int kSmaller = 8;

class PowerOfTwoObserver final : public HistogramObserver {
 public:
  PowerOfTwoObserver() : HistogramObserver("power_of_two") {}

 protected:
  Range choose(const Histogram& histogram, const ObserverTarget& target) const override {
    const double lo = std::min(histogram.lo(), 0.0), hi = std::max(histogram.hi(), 0.0);
    // The scale is span / steps; how many steps a grid has is told by the scale of a span of 1, in double: a float would lose the last bit.
    const double span = target.symmetric ? std::max(-lo, hi) : hi - lo;
    const auto steps = std::round(1 / static_cast<double>(choose_qparams(lo / span, hi / span, target.type, target.symmetric).scale));
    int exponent = 0;
    if (std::frexp(span / steps, &exponent) == 0.5) --exponent;
    const ClipError error(histogram, target, 1);
    Range best;
    double least = std::numeric_limits<double>::infinity();
    for (int smaller = 0; smaller <= kSmaller; ++smaller) {
      const double factor = std::ldexp(steps, exponent - smaller) / span;
      const Range range{lo * factor, hi * factor};
      const double value = error(range);
      if (value >= least) continue;
      least = value;
      best = range;
    }
    // Data of one sign: the end at 0 moves to the data's own end, which makes the same grid.
    if (histogram.lo() > 0) best.lo = std::min(histogram.lo(), best.hi);
    if (histogram.hi() < 0) best.hi = std::max(histogram.hi(), best.lo);
    return best;
  }
};

}  // namespace

std::unique_ptr<Observer> make_power_of_two(const ObserverOptions&) { return std::make_unique<PowerOfTwoObserver>(); }

}  // namespace nibble
