// Which calibration method holds accuracy best? Ranges are observed on one part of the calibration data and judged on another, or min_max,
// which by construction clips nothing of what it saw, would be judged on the very samples that flatter it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/fail.h"
#include "nibble/calibrate.h"

namespace nibble {

namespace {

constexpr std::int64_t kFewestToSplit = 10;
constexpr std::int64_t kDecideShare = 4;  // one sample in four decides

// Some samples of a dataset.
class Part final : public Dataset {
 public:
  Part(std::shared_ptr<const Dataset> whole, std::vector<std::int64_t> indices) : whole_(std::move(whole)), indices_(std::move(indices)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(indices_.size()); }
  Sample sample(std::int64_t index) const override { return whole_->sample(indices_[static_cast<std::size_t>(index)]); }
  bool has_labels() const override { return whole_->has_labels(); }
  std::string description() const override { return fmt::format("{} samples of {}", indices_.size(), whole_->description()); }
  bool is_random() const override { return whole_->is_random(); }
  std::string hash() const override { return whole_->hash(); }
  std::int64_t class_count() const override { return whole_->class_count(); }
  std::int64_t label_offset() const override { return whole_->label_offset(); }

 private:
  std::shared_ptr<const Dataset> whole_;
  std::vector<std::int64_t> indices_;
};

}  // namespace

std::vector<std::string> default_method_ladder() {
  return {"min_max", "percentile:percentile=99.999", "percentile:percentile=99.99", "mse", "entropy"};
}

CalibrationSplit split_for_choice(std::int64_t samples, std::uint64_t seed, std::int64_t max_decide) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(std::max<std::int64_t>(samples, 0)));
  std::iota(all.begin(), all.end(), 0);
  if (samples < kFewestToSplit) return {all, all};
  // Fisher-Yates by hand: std::shuffle may differ between standard libraries, mt19937_64 may not. The modulo's bias is below 2^-40.
  std::mt19937_64 random(seed);
  std::vector<std::int64_t> order = all;
  for (std::size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
  const auto decide =
      static_cast<std::ptrdiff_t>(std::clamp<std::int64_t>(samples / kDecideShare, 1, std::max<std::int64_t>(max_decide, 1)));
  CalibrationSplit split{{order.begin() + decide, order.end()}, {order.begin(), order.begin() + decide}};
  std::sort(split.observe.begin(), split.observe.end());
  std::sort(split.decide.begin(), split.decide.end());
  return split;
}

MethodChoice choose_method(const Graph& graph, const std::shared_ptr<const Dataset>& dataset, const ChooseOptions& options,
                           const ScoreFunction& score) {
  if (options.methods.empty()) fail(ErrorCode::kInvalidArgument, "choose_method: no method to choose from");
  const CalibrationSplit split = split_for_choice(dataset->size(), options.seed, options.max_decide);
  const bool disjoint = split.observe.size() != static_cast<std::size_t>(dataset->size());
  CalibrateOptions calibrate_options = options.calibrate;
  calibrate_options.methods = options.methods;
  calibrate_options.keep_states = disjoint || options.calibrate.keep_states;
  const Part decide(dataset, split.decide), observe(dataset, split.observe);
  std::vector<RangeTable> observed = calibrate(graph, observe, calibrate_options);

  MethodChoice choice;
  std::size_t best = 0;
  for (std::size_t i = 0; i < observed.size(); ++i) {
    if (options.calibrate.progress != nullptr && options.calibrate.progress->cancelled())
      fail(ErrorCode::kInterrupted, "calibrate: stopped on request");
    double value = score(observed[i], decide);
    if (std::isnan(value)) value = std::numeric_limits<double>::infinity();
    choice.ladder.push_back({options.methods[i], value});
    const double to_beat = choice.ladder[best].score;
    if (i > 0 && (std::isinf(to_beat) ? value < to_beat : value < to_beat - options.tie * std::abs(to_beat))) best = i;
  }
  choice.method = options.methods[best];
  if (!disjoint) {
    choice.ranges = std::move(observed[best]);
    return choice;
  }
  // The samples that decided count for the winner's ranges as well.
  calibrate_options.methods = {choice.method};
  std::vector<RangeTable> parts = {std::move(observed[best])};
  parts.push_back(std::move(calibrate(graph, decide, calibrate_options).front()));
  choice.ranges = merge_ranges(parts);
  choice.ranges.data_hash = dataset->hash();
  if (!options.calibrate.keep_states) {
    for (auto& [name, entry] : choice.ranges.entries) entry.states.clear();
  }
  return choice;
}

}  // namespace nibble
