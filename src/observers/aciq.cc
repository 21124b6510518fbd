#include "observers/aciq.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "observers/observer_base.h"

namespace nibble {

double aciq_laplace_clip(int bits) {
  // t + log t = log(3 4^bits): concave and increasing, so Newton's steps from the left stay there and converge.
  const double right = std::log(3.0) + bits * std::log(4.0);
  double t = 1;
  for (int i = 0; i < 50; ++i) {
    const double next = t - (t + std::log(t) - right) / (1 + 1 / t);
    if (std::abs(next - t) < 1e-14 * next) return next;
    t = next;
  }
  return t;
}

double aciq_gauss_clip(int bits) {
  // g(t) = 2 (phi - t Q) - t / (3 4^bits) with Q = 1 - Phi; g' = -2 Q - 1 / (3 4^bits): convex and decreasing, so Newton's steps from 0
  // rise to the root.
  const double weight = 1 / (3 * std::exp2(2.0 * bits));
  double t = 0;
  for (int i = 0; i < 200; ++i) {
    const double density = std::exp(-t * t / 2) / std::sqrt(2 * std::numbers::pi);
    const double tail = std::erfc(t / std::numbers::sqrt2) / 2;
    const double step = (2 * (density - t * tail) - t * weight) / (2 * tail + weight);
    t += step;
    if (std::abs(step) < 1e-14 * t) break;
  }
  return t;
}

namespace {

// Fits a Laplace and a normal distribution and takes the optimal clip of the likelier one. Values of one sign (after a ReLU) are the half
// of a distribution about 0; the whole grid on one half makes it as fine as one more bit. Exact zeros are left out: no grid errs on them.
class AciqObserver final : public HistogramObserver {
 public:
  AciqObserver() : HistogramObserver("aciq") {}

 protected:
  Range choose(const Histogram& histogram, const ObserverTarget& target) const override {
    const double lo = histogram.lo(), hi = histogram.hi();
    const bool one_sided = lo >= 0 || hi <= 0;
    const bool about_zero = one_sided || target.symmetric;
    const double mean = about_zero ? 0 : average(histogram, [](double x) { return x; });
    const double b = average(histogram, [mean](double x) { return std::abs(x - mean); });
    const double sigma = std::sqrt(average(histogram, [mean](double x) { return (x - mean) * (x - mean); }));
    // Mean log likelihoods at the best fit: -log(2 b) - 1 and -log(2 pi e sigma^2) / 2 (halves gain log 2 both).
    const bool laplace = -std::log(2 * b) - 1 >= -std::log(2 * std::numbers::pi * std::numbers::e * sigma * sigma) / 2;
    const bool one_more_bit = one_sided && !(target.symmetric && (target.type.is_signed || lo < 0));
    const int bits = target.type.bit_width + (one_more_bit ? 1 : 0);
    const double alpha = laplace ? b * aciq_laplace_clip(bits) : sigma * aciq_gauss_clip(bits);
    return {std::clamp(mean - alpha, lo, hi), std::clamp(mean + alpha, lo, hi)};
  }

 private:
  // Mean of f over the values that are not 0, each taken as its bin's middle.
  template <typename F>
  static double average(const Histogram& histogram, F f) {
    const auto counts = histogram.counts();
    double sum = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::int64_t bin = histogram.first() + static_cast<std::int64_t>(i);
      const std::uint64_t count = counts[i] - (bin == 0 ? histogram.zeros() : 0);
      if (count > 0) sum += static_cast<double>(count) * f((static_cast<double>(bin) + 0.5) * histogram.width());
    }
    return sum / static_cast<double>(histogram.total() - histogram.zeros());
  }
};

}  // namespace

std::unique_ptr<Observer> make_aciq(const ObserverOptions&) { return std::make_unique<AciqObserver>(); }

}  // namespace nibble
