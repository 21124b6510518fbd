// Calibration: observe a float network on data, get a range for every value.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/dataset.h"
#include "nibble/graph.h"
#include "nibble/progress.h"
#include "nibble/quant_params.h"

namespace nibble {

// An interval of real values, lo <= hi, both finite.
struct Range {
  double lo = 0;
  double hi = 0;
  bool operator==(const Range&) const = default;
};

// What the observer needs to know of the grid that its range is for (entropy, mse, aciq and power_of_two depend on it).
struct ObserverTarget {
  QuantType type;
  bool symmetric = false;
  bool operator==(const ObserverTarget&) const = default;
};

// Estimates the range of one stream of values with bounded memory. Observers of one method merge: merge(a, b) equals one observer
// that saw a's data and then b's (min/max and histograms exactly, sums within 1e-12).
class Observer {
 public:
  virtual ~Observer() = default;
  // One batch (one sample's tensor). Values are finite (checked by the caller).
  virtual void observe(std::span<const float> values) = 0;
  virtual Range range(const ObserverTarget& target) const = 0;
  virtual void merge(const Observer& later) = 0;    // same method; asserts it
  virtual std::string save() const = 0;             // JSON text; load(save()) gives the same observer to the bit
  virtual void load(const std::string& state) = 0;  // throws Error{kInvalidData}
  virtual bool empty() const = 0;
};

// One row for each method; the command line, the documents and `nibble list observers` read it.
struct ObserverInfo {
  std::string_view name;  // "min_max", "average", "moving_average", "mean_std", "percentile", "entropy", "mse", "aciq", "power_of_two"
  std::string_view summary;
  std::string_view source;   // paper and equation
  std::string_view options;  // "percentile=99.999"
  std::unique_ptr<Observer> (*make)(const std::map<std::string, double>& options);
};
std::span<const ObserverInfo> observer_table();
// "percentile" or "percentile:percentile=99.99"; an unknown name or option is Error{kInvalidArgument} that lists the known ones.
std::unique_ptr<Observer> make_observer(std::string_view method);

// A range of one value, by name: observed, or pinned parameters (learned, or copied from another tool) that come through exactly.
struct RangeEntry {
  std::optional<Range> range;
  std::optional<QuantParams> pinned;
  std::vector<QuantParams> bases = {};        // instead of `pinned`: the value is a sum of codes, each on its own grid (docs/formats.md)
  std::map<std::string, std::string> states;  // observer name -> saved state, so that tables merge
  std::int64_t samples = 0;                   // samples in which the value was seen
};
struct RangeTable {
  std::string method;                         // that `range` was made with
  ObserverTarget target;                      // and for which grid
  std::map<std::string, RangeEntry> entries;  // by value name
  std::string data_hash;
  std::int64_t samples = 0;
  std::vector<std::string> warnings;  // constant, never reached ...
};
std::string to_json(const RangeTable& table);
RangeTable range_table_from_json(const std::string& text, const std::string& origin);
void save_ranges(const RangeTable& table, const std::string& path);  // temporary file + rename
RangeTable load_ranges(const std::string& path);
// Shards in order; equal to one calibration over all of the data (see Observer). Throws Error{kInvalidData} where methods differ.
RangeTable merge_ranges(std::span<const RangeTable> shards);

struct CalibrateOptions {
  std::vector<std::string> methods = {"min_max"};  // one pass over the data serves them all
  ObserverTarget target;
  int threads = 1;          // results do not depend on it
  bool keep_states = true;  // fill RangeEntry::states, so that tables merge; false saves time and memory
  ProgressSink* progress = nullptr;
};
// Runs every sample (batch by batch as the dataset gives them) through the float interpreter and observes every float value that is not
// constant, graph inputs included. One table a method. NaN or Inf: Error{kInvalidData} naming value and sample. A constant or never reached
// range is a warning. Samples may differ in shape.
std::vector<RangeTable> calibrate(const Graph& graph, const Dataset& dataset, const CalibrateOptions& options);

// Shard `index` (1 ... count) of the samples: contiguous blocks, in order, whose sizes differ by one at most.
struct Shard {
  std::int64_t index = 1;
  std::int64_t count = 1;
};
Shard parse_shard(const std::string& text);  // "i/n"; throws Error{kInvalidArgument}
std::vector<std::int64_t> shard_indices(std::int64_t samples, const Shard& shard);

// --- Which method holds accuracy best? Decided on calibration data alone (docs/calibration.md).
// ---------------------------------------------------

// Disjoint sets of samples: ranges are observed on one, methods are compared on the other. Both in ascending order; with few samples both
// are all.
struct CalibrationSplit {
  std::vector<std::int64_t> observe, decide;
};
CalibrationSplit split_for_choice(std::int64_t samples, std::uint64_t seed, std::int64_t max_decide = 32);

// From the simplest to the most involved.
std::vector<std::string> default_method_ladder();

struct MethodScore {
  std::string method;
  double score = 0;  // lower is better; NaN and infinity lose
};
struct MethodChoice {
  std::string method;
  std::vector<MethodScore> ladder;  // in the order of the candidates
  RangeTable ranges;                // of `method`, over all samples
};
struct ChooseOptions {
  std::vector<std::string> methods = default_method_ladder();
  double tie = 0.02;  // a later method must score lower by this share to win over an earlier one
  std::uint64_t seed = 0;
  std::int64_t max_decide = 32;
  CalibrateOptions calibrate;  // `methods` is not used
};
// How much the network suffers under these ranges on these samples, e.g. the mean KL(float || quantized) of the outputs.
using ScoreFunction = std::function<double(const RangeTable& ranges, const Dataset& decide)>;
// One pass over the data for all methods: calibrates on `observe`, scores every method on `decide`, and gives the winner's ranges over
// both.
MethodChoice choose_method(const Graph& graph, const std::shared_ptr<const Dataset>& dataset, const ChooseOptions& options,
                           const ScoreFunction& score);

}  // namespace nibble
