#include <algorithm>
#include <cassert>

#include "observers/observer_base.h"
#include "observers/state_json.h"

namespace nibble {

namespace {

// The least and the greatest value seen: nothing is clipped.
class MinMaxObserver final : public StatsObserver {
 public:
  void observe_stats(const BatchStats& stats) override { include(static_cast<double>(stats.lo), static_cast<double>(stats.hi)); }
  Range range(const ObserverTarget&) const override { return {lo_, hi_}; }
  void merge(const Observer& later) override {
    const auto* other = dynamic_cast<const MinMaxObserver*>(&later);
    assert(other != nullptr);
    if (!other->empty_) include(other->lo_, other->hi_);
  }
  std::string save() const override { return nlohmann::json{{"empty", empty_}, {"lo", lo_}, {"hi", hi_}}.dump(); }
  void load(const std::string& state) override {
    const auto json = parse_state(state, "state of observer min_max");
    const StateReader reader(json, "state of observer min_max", {"empty", "lo", "hi"});
    if (!reader.at("empty").is_boolean()) reader.refuse("empty", "something that is neither true nor false");
    empty_ = reader.at("empty").get<bool>();
    const auto [lo, hi] = reader.range("lo", "hi");
    lo_ = empty_ ? 0 : lo;
    hi_ = empty_ ? 0 : hi;
  }
  bool empty() const override { return empty_; }

 private:
  void include(double lo, double hi) {
    lo_ = empty_ ? lo : std::min(lo_, lo);
    hi_ = empty_ ? hi : std::max(hi_, hi);
    empty_ = false;
  }

  bool empty_ = true;
  double lo_ = 0, hi_ = 0;
};

}  // namespace

std::unique_ptr<Observer> make_min_max(const ObserverOptions&) { return std::make_unique<MinMaxObserver>(); }

}  // namespace nibble
