// The two kinds of observers: those that live on each batch's statistics, and those that live on the shared histogram.
//
// calibrate() makes statistics and histogram of a batch once, whatever the number of methods:
//   - statistics are handed to every StatsObserver in the order of the samples (sums and moving averages depend on it);
//   - the histogram is one object for all HistogramObservers of a value (share()); threads add to it in any order, which it does not show.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "nibble/calibrate.h"
#include "observers/batch_stats.h"
#include "observers/histogram.h"

namespace nibble {

using ObserverOptions = std::map<std::string, double>;

class StatsObserver : public Observer {
 public:
  virtual void observe_stats(const BatchStats& stats) = 0;  // finite, not empty
  virtual bool needs_moments() const { return false; }      // sum and sum_squares

  void observe(std::span<const float> values) final;
};

class HistogramObserver : public Observer {
 public:
  explicit HistogramObserver(std::string name) : name_(std::move(name)) {}

  void observe(std::span<const float> values) final;
  void merge(const Observer& later) final;
  std::string save() const final;
  void load(const std::string& state) final;
  bool empty() const final { return histogram_->empty(); }
  // Constant data gives its value; all else is up to the method.
  Range range(const ObserverTarget& target) const final;

  const Histogram& histogram() const { return *histogram_; }
  std::shared_ptr<Histogram> shared_histogram() const { return histogram_; }
  // From now on this observer looks at `histogram`, which somebody else fills.
  void share(std::shared_ptr<Histogram> histogram) { histogram_ = std::move(histogram); }

 protected:
  // The histogram holds at least two different values.
  virtual Range choose(const Histogram& histogram, const ObserverTarget& target) const = 0;

 private:
  std::string name_;
  std::shared_ptr<Histogram> histogram_ = std::make_shared<Histogram>();
};

// The longest batch that a BatchHistogram takes.
inline constexpr std::size_t kMaxBatch = std::size_t{1} << 30;

// One make function a method.
std::unique_ptr<Observer> make_min_max(const ObserverOptions& options);
std::unique_ptr<Observer> make_average(const ObserverOptions& options);
std::unique_ptr<Observer> make_moving_average(const ObserverOptions& options);
std::unique_ptr<Observer> make_mean_std(const ObserverOptions& options);
std::unique_ptr<Observer> make_percentile(const ObserverOptions& options);
std::unique_ptr<Observer> make_entropy(const ObserverOptions& options);
std::unique_ptr<Observer> make_mse(const ObserverOptions& options);
std::unique_ptr<Observer> make_aciq(const ObserverOptions& options);
std::unique_ptr<Observer> make_power_of_two(const ObserverOptions& options);

// An option's value, which must lie in [least, greatest]; Error{kInvalidArgument} otherwise. make_observer() has put the default in.
double option_within(const ObserverOptions& options, const char* method, const char* name, double least, double greatest);

}  // namespace nibble
