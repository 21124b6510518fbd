// Calibration: observe a float network on data, get a range for every value.
#pragma once

#include <cstdint>
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

// What the observer needs to know of the grid that its range is for (entropy, mse and aciq depend on it).
struct ObserverTarget {
  QuantType type;
  bool symmetric = false;
};

// Estimates the range of one stream of values with bounded memory. Observers of one method merge: merge(a, b) equals one observer
// that saw a's data and then b's (min/max and histograms exactly, sums within 1e-12).
class Observer {
 public:
  virtual ~Observer() = default;
  // One batch (one sample's tensor). Values are finite (checked by the caller).
  virtual void observe(std::span<const float> values) = 0;
  virtual Range range(const ObserverTarget& target) const = 0;
  virtual void merge(const Observer& later) = 0;     // same method; asserts it
  virtual std::string save() const = 0;              // JSON text; load(save()) gives the same observer to the bit
  virtual void load(const std::string& state) = 0;   // throws Error{kInvalidData}
  virtual bool empty() const = 0;
};

// One row for each method; the command line, the documents and `nibble list observers` read it.
struct ObserverInfo {
  std::string_view name;     // "min_max", "average", "moving_average", "mean_std", "percentile", "entropy", "mse", "aciq"
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
  std::map<std::string, std::string> states;  // observer name -> saved state, so that tables merge
  std::int64_t samples = 0;                   // samples in which the value was seen
};
struct RangeTable {
  std::string method;                        // that `range` was made with
  std::map<std::string, RangeEntry> entries;  // by value name
  std::string data_hash;
  std::int64_t samples = 0;
  std::vector<std::string> warnings;         // constant, never reached ...
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
  int threads = 1;               // results do not depend on it
  ProgressSink* progress = nullptr;
};
// Runs every sample (batch by batch as the dataset gives them) through the float interpreter and observes every float value that is not constant,
// graph inputs included. One table a method. NaN or Inf: Error{kInvalidData} naming value and sample. A constant or never reached range is a
// warning. Samples may differ in shape.
std::vector<RangeTable> calibrate(const Graph& graph, const Dataset& dataset, const CalibrateOptions& options);

}  // namespace nibble
