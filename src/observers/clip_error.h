// The error E |x - Q(x)|^p of a histogram's values on the very grid that choose_qparams() would make of a range; mse and power_of_two
// search for its least.
//
// Inside of a bin the values are taken as evenly spread, so a bin's mean error is exact for any ratio of bin width to scale: with y = x /
// scale, n = clamp(rne(y)) the grid point and u = y - n, the antiderivative of |y - n|^p is
//     G(y) = (2 n (1/2)^(p+1) + sign(u) |u|^(p+1)) / (p + 1),
// which also holds beyond the grid's ends, where n stays and u grows. A bin [x0, x1) of c values adds c scale^p (G(y1) - G(y0)) / (y1 -
// y0).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "nibble/calibrate.h"
#include "numeric/qparams.h"
#include "observers/histogram.h"

namespace nibble {

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
  struct Bin {
    double begin;
    double count;
  };

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

}  // namespace nibble
