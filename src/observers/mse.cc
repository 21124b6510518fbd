// The clip that minimises E |x - Q(x)|^p over the histogram, on the very grid that choose_qparams would make of it.
//
// Inside of a bin the values are taken as evenly spread, so a bin's mean error is exact for any ratio of bin width to scale: with y = x /
// scale, n = clamp(rne(y)) the grid point and u = y - n, the antiderivative of |y - n|^p is
//     G(y) = (2 n (1/2)^(p+1) + sign(u) |u|^(p+1)) / (p + 1),
// which also holds beyond the grid's ends, where n stays and u grows. A bin [x0, x1) of c values adds c scale^p (G(y1) - G(y0)) / (y1 -
// y0).
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "numeric/qparams.h"
#include "observers/observer_base.h"

namespace nibble {

namespace {

struct Bin {
  double begin;
  double count;
};

class ClipError {
 public:
  ClipError(const Histogram& histogram, const ObserverTarget& target, double power)
      : target_(target), power_(power), width_(histogram.width()) {
    const auto counts = histogram.counts();
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::int64_t bin = histogram.first() + static_cast<std::int64_t>(i);
      const std::uint64_t count = counts[i] - (bin == 0 ? histogram.zeros() : 0);
      if (count > 0) bins_.push_back({static_cast<double>(bin) * width_, static_cast<double>(count)});
    }
  }

  double operator()(const Range& range) const {
    const ScaleZeroPoint q = choose_qparams(range.lo, range.hi, target_.type, target_.symmetric);
    const double least = static_cast<double>(target_.type.qmin() - q.zero_point),
                 most = static_cast<double>(target_.type.qmax() - q.zero_point);
    const double scale = static_cast<double>(q.scale);
    // p = 2 is the common case and needs no pow().
    const double sum = power_ == 2
                           ? total(scale, least, most, [](double u) { return u * u * u; })
                           : total(scale, least, most, [this](double u) { return std::copysign(std::pow(std::abs(u), power_ + 1), u); });
    return sum * std::pow(scale, power_);
  }

 private:
  template <typename Power>
  double total(double scale, double least, double most, Power power) const {
    constexpr double kRound = 6755399441055744.0;  // 1.5 2^52: adding and taking it away rounds half to even
    const double cell = 2 * std::pow(0.5, power_ + 1);
    const double inv_scale = 1 / scale;
    const auto antiderivative = [&](double x) {
      const double y = x * inv_scale;
      const double n = (std::clamp(y, least, most) + kRound) - kRound;
      return cell * n + power(y - n);
    };
    double sum = 0, end = std::numeric_limits<double>::quiet_NaN(), at_end = 0;
    for (const Bin& bin : bins_) {
      const double at_begin = bin.begin == end ? at_end : antiderivative(bin.begin);
      end = bin.begin + width_;
      at_end = antiderivative(end);
      sum += bin.count * (at_end - at_begin);
    }
    return sum * scale / (width_ * (power_ + 1));
  }

  ObserverTarget target_;
  double power_;
  double width_;
  std::vector<Bin> bins_;
};

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
