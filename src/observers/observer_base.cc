#include "observers/observer_base.h"

#include <algorithm>
#include <cassert>

#include "base/fail.h"
#include "observers/state_json.h"

namespace nibble {

namespace {

BatchStats checked_stats(std::span<const float> values) {
  BatchStats stats = gather_stats(values);
  if (!stats.finite) fail(ErrorCode::kInvalidData, "observer: a NaN or an infinity is among the values; a range needs finite ones");
  return stats;
}

}  // namespace

void StatsObserver::observe(std::span<const float> values) {
  if (values.empty()) return;
  BatchStats stats = checked_stats(values);
  if (needs_moments()) gather_moments(values, stats);
  observe_stats(stats);
}

void HistogramObserver::observe(std::span<const float> values) {
  BatchHistogram batch;
  while (!values.empty()) {
    const auto part = values.first(std::min(values.size(), kMaxBatch));
    batch.fill(part, checked_stats(part), histogram_->empty() ? Histogram::kMinExponent : histogram_->exponent());
    histogram_->add(batch);
    values = values.subspan(part.size());
  }
}

void HistogramObserver::merge(const Observer& later) {
  const auto* other = dynamic_cast<const HistogramObserver*>(&later);
  assert(other != nullptr && other->name_ == name_);
  histogram_->merge(*other->histogram_);
}

std::string HistogramObserver::save() const { return histogram_->to_json().dump(); }

void HistogramObserver::load(const std::string& state) {
  *histogram_ = Histogram::from_json(parse_state(state, "state of observer " + name_));
}

Range HistogramObserver::range(const ObserverTarget& target) const {
  if (histogram_->empty()) return {};
  if (histogram_->lo() == histogram_->hi()) return {histogram_->lo(), histogram_->hi()};
  return choose(*histogram_, target);
}

double option_within(const ObserverOptions& options, const char* method, const char* name, double least, double greatest) {
  const double value = options.at(name);
  if (!(value >= least && value <= greatest)) {
    fail(ErrorCode::kInvalidArgument, "observer {}: {}={} is out of range; expected {} to {}", method, name, value, least, greatest);
  }
  return value;
}

}  // namespace nibble
