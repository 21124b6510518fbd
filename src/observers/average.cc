#include <algorithm>
#include <cassert>

#include "observers/observer_base.h"
#include "observers/state_json.h"

namespace nibble {

namespace {

// The mean of the batches' least values, and of their greatest: one outlier in one sample moves the range by 1/samples of its size.
class AverageObserver final : public StatsObserver {
 public:
  void observe_stats(const BatchStats& stats) override {
    lo_.add(static_cast<double>(stats.lo));
    hi_.add(static_cast<double>(stats.hi));
    ++batches_;
  }
  Range range(const ObserverTarget&) const override {
    if (batches_ == 0) return {};
    const double lo = lo_.value() / static_cast<double>(batches_);
    return {lo, std::max(lo, hi_.value() / static_cast<double>(batches_))};
  }
  void merge(const Observer& later) override {
    const auto* other = dynamic_cast<const AverageObserver*>(&later);
    assert(other != nullptr);
    lo_.add(other->lo_);
    hi_.add(other->hi_);
    batches_ += other->batches_;
  }
  std::string save() const override { return nlohmann::json{{"batches", batches_}, {"lo", to_json(lo_)}, {"hi", to_json(hi_)}}.dump(); }
  void load(const std::string& state) override {
    const auto json = parse_state(state, "state of observer average");
    const StateReader reader(json, "state of observer average", {"batches", "lo", "hi"});
    batches_ = reader.count("batches");
    lo_ = reader.sum("lo");
    hi_ = reader.sum("hi");
    if (lo_.value() > hi_.value()) reader.refuse("lo", "a sum above the other end's");
  }
  bool empty() const override { return batches_ == 0; }

 private:
  CompensatedSum lo_, hi_;
  std::uint64_t batches_ = 0;
};

}  // namespace

std::unique_ptr<Observer> make_average(const ObserverOptions&) { return std::make_unique<AverageObserver>(); }

}  // namespace nibble
