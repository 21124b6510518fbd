#include <algorithm>
#include <cassert>
#include <cmath>
#include <tuple>

#include "observers/observer_base.h"
#include "observers/state_json.h"

namespace nibble {

namespace {

// mean -+ n standard deviations of all values, inside of what was seen.
class MeanStdObserver final : public StatsObserver {
 public:
  explicit MeanStdObserver(double n) : n_(n) {}

  bool needs_moments() const override { return true; }
  void observe_stats(const BatchStats& stats) override {
    include(static_cast<double>(stats.lo), static_cast<double>(stats.hi));
    sum_.add(stats.sum);
    squares_.add(stats.sum_squares);
    count_ += static_cast<std::uint64_t>(stats.count);
  }
  Range range(const ObserverTarget&) const override {
    if (count_ == 0) return {};
    const double mean = sum_.value() / static_cast<double>(count_);
    const double variance = std::max(0.0, squares_.value() / static_cast<double>(count_) - mean * mean);
    const double reach = n_ * std::sqrt(variance);
    return {std::clamp(mean - reach, lo_, hi_), std::clamp(mean + reach, lo_, hi_)};
  }
  void merge(const Observer& later) override {
    const auto* other = dynamic_cast<const MeanStdObserver*>(&later);
    assert(other != nullptr && other->n_ == n_);
    if (other->count_ == 0) return;
    include(other->lo_, other->hi_);
    sum_.add(other->sum_);
    squares_.add(other->squares_);
    count_ += other->count_;
  }
  std::string save() const override {
    return nlohmann::json{{"count", count_}, {"lo", lo_}, {"hi", hi_}, {"sum", to_json(sum_)}, {"squares", to_json(squares_)}}.dump();
  }
  void load(const std::string& state) override {
    const auto json = parse_state(state, "state of observer mean_std");
    const StateReader reader(json, "state of observer mean_std", {"count", "lo", "hi", "sum", "squares"});
    count_ = reader.count("count");
    std::tie(lo_, hi_) = reader.range("lo", "hi");
    sum_ = reader.sum("sum");
    squares_ = reader.sum("squares");
  }
  bool empty() const override { return count_ == 0; }

 private:
  void include(double lo, double hi) {  // before count_ grows
    lo_ = count_ == 0 ? lo : std::min(lo_, lo);
    hi_ = count_ == 0 ? hi : std::max(hi_, hi);
  }

  double n_;
  std::uint64_t count_ = 0;
  double lo_ = 0, hi_ = 0;
  CompensatedSum sum_, squares_;
};

}  // namespace

std::unique_ptr<Observer> make_mean_std(const ObserverOptions& options) {
  return std::make_unique<MeanStdObserver>(option_within(options, "mean_std", "n", 0.1, 100));
}

}  // namespace nibble
