// analyze(): what quantization costs each layer, and the causes behind what it costs the network, each with the option that fixes it and
// what the fix measured. docs/analyze.md explains every figure and every cause.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/calibrate.h"
#include "nibble/dataset.h"
#include "nibble/graph.h"
#include "nibble/progress.h"
#include "nibble/quantize.h"

namespace nibble {

// A network on some samples, beside the float network.
struct Figures {
  std::int64_t samples = 0;
  std::optional<double> top1;       // percent; with labels
  std::optional<double> agreement;  // percent of samples with the float network's first class; of rows of scores where a sample has several
  std::optional<double> kl;         // mean KL(float || network), nats; where the output is a row of scores
  double sqnr_db = 0;               // of the first output
};
// "top-1 76.25 %, agreement 98.1 %, KL 0.012, 31.2 dB"
std::string to_string(const Figures& figures);

// One layer's share. Decibels are SQNR. `own`: at the layer's own output; `output`: at the network's first output.
struct LayerSensitivity {
  std::string name;     // of the node; the value's for a network input
  std::string op_type;  // "Input" for a network input
  // It alone is quantized; all others are float. A layer without weights has none of theirs.
  std::optional<double> own_weights_db, own_activations_db;
  double own_alone_db = 0;
  double own_up_to_db = 0;  // it and every layer before it are quantized
  std::optional<double> output_weights_db, output_activations_db;
  double output_alone_db = 0;
  std::optional<double> weights_kl, activations_kl, alone_kl;  // nats, where the output is a row of scores
};

// What is wrong, where, and what puts it right. `before` and `after` are measured on the same samples, with and without the fix.
struct Cause {
  std::string id;                 // of cause_table()
  std::string where;              // node, value, input or data
  std::string evidence;           // what was found, with figures
  std::string option;             // the option or the change that fixes it
  std::string measured_on;        // "the quantized network", "the float network"
  std::optional<Figures> before;  // unset where no fix could be tried (`option` says why)
  std::optional<Figures> after;
  double damage = 0;  // what the fix won: points of top-1 (agreement without labels); where both stay, KL (or noise / signal) / 100
};
// One row a cause, for `nibble list causes` and the documents.
struct CauseInfo {
  std::string_view id;
  std::string_view summary;
  std::string_view fix;
};
std::span<const CauseInfo> cause_table();

struct AnalyzeOptions {
  QuantScheme scheme;
  std::string method = "min_max";             // of calibration
  std::optional<RangeTable> ranges;           // instead of calibrating
  std::optional<PreprocessRecipe> recipe;     // that made the samples; without it corrections are tried on the values as they are
  std::shared_ptr<const Dataset> evaluation;  // null: part of the calibration data judges
  std::uint64_t seed = 0;
  int threads = 1;                       // results do not depend on it
  std::int64_t sensitivity_samples = 8;  // for the layers' figures
  std::int64_t judging_samples = 128;    // for the network's and the causes'
  bool causes = true;
  ProgressSink* progress = nullptr;
};
struct AnalyzeResult {
  std::string data, judged_on;  // descriptions
  std::string method;
  std::optional<double> float_top1;
  Figures quantized;
  std::int64_t sensitivity_samples = 0;
  std::vector<LayerSensitivity> layers;  // in graph order, network inputs first
  std::vector<Cause> causes;  // the greatest damage first; those of the float network and its data stand before those of quantization
  std::vector<std::string> observations;  // dead channels, constant values, float islands: no cause by themselves
};
// `original` is a float graph as imported. Throws Error{kInvalidArgument} on a quantized one, what calibrate() and quantize() throw, and
// Error{kInterrupted}.
AnalyzeResult analyze(const Graph& original, const std::shared_ptr<const Dataset>& data, const AnalyzeOptions& options);

std::string to_json(const AnalyzeResult& result);
std::string to_text(const AnalyzeResult& result);

}  // namespace nibble
