// The clip that minimises E |x - Q(x)|^p over the histogram (clip_error.h).
#include <algorithm>
#include <array>
#include <cmath>

#include "observers/clip_error.h"
#include "observers/observer_base.h"

namespace nibble {

namespace {

// Shrinks one end or both: each end is its data's end times 2^(-step / kStepsPerOctave).
class MseObserver final : public HistogramObserver {
 public:
  explicit MseObserver(double power) : HistogramObserver("mse"), power_(power) {}

 protected:
  Range choose(const Histogram& histogram, const ObserverTarget& target) const override {
    const ClipError error(histogram, target, power_);
    const double lo = std::min(histogram.lo(), 0.0), hi = std::max(histogram.hi(), 0.0);
    Search search{error, {lo, hi}, {0, 0}, error({lo, hi})};
    if (lo == 0 || hi == 0 || target.symmetric) {
      search.scan({1, 1});
    } else {
      search.scan({1, 1});
      for (int round = 0; round < 2; ++round) {
        search.scan({0, 1});
        search.scan({1, 0});
      }
    }
    const Range best = search.range(search.steps);
    return {std::clamp(best.lo, histogram.lo(), histogram.hi()), std::clamp(best.hi, histogram.lo(), histogram.hi())};
  }

 private:
  struct Search {
    static constexpr double kStepsPerOctave = 12;
    static constexpr int kSteps = 96;  // down to 1/256 of the range

    const ClipError& error;
    Range full;
    std::array<double, 2> steps;  // of lo and hi
    double least;

    Range range(const std::array<double, 2>& at) const {
      return {full.lo * std::exp2(-at[0] / kStepsPerOctave), full.hi * std::exp2(-at[1] / kStepsPerOctave)};
    }
    void visit(const std::array<double, 2>& at) {
      const double value = error(range(at));
      if (value < least) {
        least = value;
        steps = at;
      }
    }
    // All steps of the ends that `moves` marks with 1, then ever finer around the best.
    void scan(const std::array<double, 2>& moves) {
      const auto start = steps;
      for (int step = 0; step <= kSteps; ++step) {
        visit({moves[0] > 0 ? step : start[0], moves[1] > 0 ? step : start[1]});
      }
      for (double fine = 0.5; fine > 0.05; fine /= 2) {
        const auto center = steps;
        for (const double side : {-fine, fine}) {
          visit({std::max(0.0, center[0] + moves[0] * side), std::max(0.0, center[1] + moves[1] * side)});
        }
      }
    }
  };

  double power_;
};

}  // namespace

std::unique_ptr<Observer> make_mse(const ObserverOptions& options) {
  return std::make_unique<MseObserver>(option_within(options, "mse", "p", 0.5, 8));
}

}  // namespace nibble
