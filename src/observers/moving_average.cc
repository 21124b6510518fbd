// Exponential moving average of the batches' ends, in a form that merges.
//
// One pass over x_1 ... x_n with the weight c of a new batch: r_1 = x_1, r_i = (1 - c) r_{i-1} + c x_i. Unrolled, with d = 1 - c,
//     r_n = d^(n-1) x_1 + c sum_{i=2..n} d^(n-i) x_i = d^n x_1 + c sum_{i=1..n} d^(n-i) x_i = D x_1 + W,
// because d^(n-1) x_1 = d^n x_1 + c d^(n-1) x_1: it is the average that was already at x_1 before the first batch came. D, W and x_1 are
// the state. For shards a then b: D = D_a D_b, W = D_b W_a + W_b, x_1 from a: equal to one pass but for rounding (each step rounds once, so
// 1e-12 is safe for any number of batches: old errors decay with d).
#include <algorithm>
#include <cassert>

#include "observers/observer_base.h"
#include "observers/state_json.h"

namespace nibble {

namespace {

class MovingAverageObserver final : public StatsObserver {
 public:
  explicit MovingAverageObserver(double momentum) : momentum_(momentum) {}

  void observe_stats(const BatchStats& stats) override {
    const Range batch = {static_cast<double>(stats.lo), static_cast<double>(stats.hi)};
    if (batches_ == 0) first_ = batch;
    weighted_ = {(1 - momentum_) * weighted_.lo + momentum_ * batch.lo, (1 - momentum_) * weighted_.hi + momentum_ * batch.hi};
    decay_ *= 1 - momentum_;
    ++batches_;
  }
  Range range(const ObserverTarget&) const override {
    if (batches_ == 0) return {};
    const double lo = decay_ * first_.lo + weighted_.lo;
    return {lo, std::max(lo, decay_ * first_.hi + weighted_.hi)};
  }
  void merge(const Observer& later) override {
    const auto* other = dynamic_cast<const MovingAverageObserver*>(&later);
    assert(other != nullptr && other->momentum_ == momentum_);
    if (other->batches_ == 0) return;
    if (batches_ == 0) first_ = other->first_;
    weighted_ = {other->decay_ * weighted_.lo + other->weighted_.lo, other->decay_ * weighted_.hi + other->weighted_.hi};
    decay_ *= other->decay_;
    batches_ += other->batches_;
  }
  std::string save() const override {
    return nlohmann::json{{"batches", batches_},         {"decay", decay_},
                          {"first_lo", first_.lo},       {"first_hi", first_.hi},
                          {"weighted_lo", weighted_.lo}, {"weighted_hi", weighted_.hi}}
        .dump();
  }
  void load(const std::string& state) override {
    const auto json = parse_state(state, "state of observer moving_average");
    const StateReader reader(json, "state of observer moving_average",
                             {"batches", "decay", "first_lo", "first_hi", "weighted_lo", "weighted_hi"});
    batches_ = reader.count("batches");
    decay_ = reader.number("decay");
    if (decay_ < 0 || decay_ > 1) reader.refuse("decay", "a number outside of 0 to 1");
    const auto [first_lo, first_hi] = reader.range("first_lo", "first_hi");
    const auto [weighted_lo, weighted_hi] = reader.range("weighted_lo", "weighted_hi");
    first_ = {first_lo, first_hi};
    weighted_ = {weighted_lo, weighted_hi};
  }
  bool empty() const override { return batches_ == 0; }

 private:
  double momentum_;
  double decay_ = 1;        // D
  Range first_, weighted_;  // x_1, W
  std::uint64_t batches_ = 0;
};

}  // namespace

std::unique_ptr<Observer> make_moving_average(const ObserverOptions& options) {
  return std::make_unique<MovingAverageObserver>(option_within(options, "moving_average", "momentum", 1e-6, 1));
}

}  // namespace nibble
