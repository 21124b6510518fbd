// tune(): searches the cheapest network that loses no more than it may: bits of each layer's weights, float or not, and methods, from what
// each layer costs alone. docs/tune.md tells the search.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/analyze.h"
#include "nibble/dataset.h"
#include "nibble/graph.h"
#include "nibble/progress.h"
#include "nibble/quantize.h"

namespace nibble {

// What decides. kTop1: percent of the labelled samples; kAgreement: percent of samples with the float network's class; kKl: mean KL(float
// || quantized) in nats; kSqnr: of the first output in dB; kCommand: the number that a program of the user's prints.
enum class TuneMetric { kTop1, kAgreement, kKl, kSqnr, kCommand };
// "top1", "agreement", "kl", "sqnr", "command:CMD" (the program goes to `command`). Throws Error{kInvalidArgument} listing the known ones.
TuneMetric parse_metric(const std::string& text, std::string& command);
std::string to_string(TuneMetric metric);

struct TuneOptions {
  QuantScheme scheme;                // where the search starts: what uniform quantization is
  std::string method = "min_max";    // of calibration
  std::optional<TuneMetric> metric;  // unset: top1 with labels, else kl for scores, else sqnr
  std::string
      command;  // kCommand: run by the shell with one argument more, a folder with one N.npy for each deciding sample's first output
  double command_seconds = 600;  // until it is stopped
  // What may be lost: points of top1 or agreement against float; nats (kKl); dB below uniform quantization (kSqnr); units of the command's
  // number.
  double max_drop = 1;
  std::optional<std::int64_t> max_size;  // bytes: done as soon as a network that loses no more than it may is as small
  std::int64_t max_trials = 40;
  std::optional<double> max_minutes;
  std::string state;   // folder: every trial, the best so far; a second run with the same arguments goes on where it stands
  std::string output;  // path of the result: .onnx is the quantized model (its recipe beside it), .json the recipe alone
  std::map<std::string, std::string> metadata;  // for the exported model
  std::uint64_t seed = 0;                       // of the split into calibrating and deciding samples
  int threads = 1;                              // results do not depend on it
  std::int64_t sensitivity_samples = 8;
  std::int64_t deciding_samples = 256;  // at most; at most half of the data
  ProgressSink* progress = nullptr;
};

// One network that was tried, on the deciding samples.
struct TuneTrial {
  std::int64_t number = 0;      // 1 is uniform quantization
  std::string methods;          // "none", or a list for --methods
  std::string layers;           // one letter a layer: its bits, 'f' for float
  std::int64_t size_bytes = 0;  // of the exported file
  Figures figures;
  double value = 0;          // of the metric
  double low = 0, high = 0;  // its 95 % confidence interval (Wilson for shares, normal for means; none for sqnr and commands)
  double milliseconds = 0;   // one sample on one thread; no decision hangs on it
  bool passes = false;       // loses no more than it may
};

struct TuneLayer {
  std::string name, op_type;
  std::int64_t weights = 0;  // elements
  std::string form;          // "8 bits", "float"
  std::string reason;
};

struct TuneResult {
  TuneMetric metric = TuneMetric::kTop1;
  double max_drop = 0;
  double float_value = 0;
  std::int64_t calibrating = 0, deciding = 0;
  std::vector<TuneTrial> trials;     // in order
  std::vector<std::int64_t> pareto;  // numbers of trials that no other one beats in both value and size, the smallest first
  std::int64_t best = 0;             // number; 0: none passes
  std::vector<TuneLayer> layers;     // of the best
  std::string recipe;                // of the best, JSON
  std::vector<std::string> notes;
};
// Throws what calibrate() and quantize() throw; Error{kInvalidArgument} on options that contradict each other or a state of another run;
// Error{kInterrupted}, with the best so far on disk.
TuneResult tune(const Graph& original, const std::shared_ptr<const Dataset>& data, const TuneOptions& options);

// 95 % confidence interval of a share, in percent (Wilson 1927).
struct Interval {
  double low = 0, high = 0;
};
Interval wilson_interval(std::int64_t hits, std::int64_t count);

std::string to_json(const TuneResult& result);
std::string to_text(const TuneResult& result);

}  // namespace nibble
