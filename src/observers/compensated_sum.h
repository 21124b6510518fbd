// A sum that remembers its rounding error.
#pragma once

namespace nibble {

// A sum held as high + low, exact to about 106 bits (Knuth's TwoSum), so that its parts may be added in any grouping and the answer agrees
// to 1e-15 of the sum of magnitudes. Needs strict IEEE arithmetic: never build it with -ffast-math.
class CompensatedSum {
 public:
  CompensatedSum() = default;
  CompensatedSum(double high, double low) : high_(high), low_(low) {}

  void add(double x) {
    const double sum = high_ + x;
    const double part = sum - high_;
    low_ += (high_ - (sum - part)) + (x - part);
    high_ = sum;
  }
  void add(const CompensatedSum& other) {
    add(other.high_);
    low_ += other.low_;
  }
  double value() const { return high_ + low_; }
  double high() const { return high_; }
  double low() const { return low_; }

 private:
  double high_ = 0, low_ = 0;
};

}  // namespace nibble
