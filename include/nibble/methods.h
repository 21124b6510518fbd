// Methods that keep accuracy after training: rewrites of weights, biases, ranges and grids before quantize().
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

#include "nibble/calibrate.h"
#include "nibble/dataset.h"
#include "nibble/graph.h"
#include "nibble/progress.h"
#include "nibble/quantize.h"

namespace nibble {

// What a layer's outputs are like before its activation, one element an output channel: learned by BatchNormalization as beta and |gamma|.
struct ChannelNormal {
  std::vector<double> mean, deviation;
};
// The BatchNormalizations of a network as its file has it, under the names of the nodes of its canonical form that they were folded into.
// They are what the network itself remembers of its data; methods that rewrite channels keep them right.
std::map<std::string, ChannelNormal> batch_norm_normals(const Graph& imported, const Graph& canonical);

// What methods work on: quantize(graph, ranges, scheme) is the quantized network at any moment.
struct MethodState {
  // The float network that the quantized one shall equal, canonical. Methods that keep its function (equalization) rewrite both graphs.
  Graph reference;
  // The same nodes in the same order, with what methods made of weights and biases: values that lie on grids pinned in `ranges`.
  Graph graph;
  RangeTable ranges;  // of the activations of `graph`; a weight that a method has put on a grid is pinned under the name of its value
  QuantScheme scheme;
  std::map<std::string, ChannelNormal> normals;  // by node name; may be empty
  bool ranges_from_normals = false;              // no data: where `normals` tell a range it overrides the observed one
  std::vector<std::string> notes;                // what was done, and what was declined and why, one line each
};
MethodState method_state(Graph canonical, RangeTable ranges, QuantScheme scheme);

// What methods may look at beside the state. Evaluation data has no place here.
struct MethodInputs {
  std::shared_ptr<const Dataset> calibration;  // null: no data (only methods that need none)
  std::shared_ptr<const Dataset> deciding;     // what choices are judged by: for choose_methods() disjoint from `calibration`
  // Ranges of the activations of a graph whose scales were moved, by the observer and over the data that the state's own ranges came from.
  std::function<RangeTable(const Graph& graph)> observe;
  std::uint64_t seed = 0;
  int threads = 1;  // results do not depend on it
  ProgressSink* progress = nullptr;
};

using MethodOptions = std::map<std::string, double>;

// The order of the work. A method may not come after one of a later phase.
enum class MethodPhase {
  kEqualize,  // rewrites the float network into an equal one
  kAbsorb,    // moves bias from layer to layer of the float network
  kGrid,      // chooses grids: scales, clips, bits
  kRound,     // rounds weights onto their grids; one method of this phase at most
  kWeights,   // corrects the statistics of rounded weights
  kBias,      // corrects what all before did to the outputs
};

// One row for each method; the command line, the documents and `nibble list methods` read it.
struct MethodInfo {
  std::string_view name;
  std::string_view summary;
  std::string_view source;   // paper and equation
  std::string_view options;  // "iterations=1000,batch=128"
  MethodPhase phase;
  bool needs_data;
  void (*apply)(MethodState& state, const MethodInputs& inputs, const MethodOptions& options);
};
std::span<const MethodInfo> method_table();

struct MethodStep {
  const MethodInfo* method = nullptr;
  MethodOptions options;  // complete: what was not given has its default
};
// "equalization,adaround:iterations=500,bias_correction"; options of one method are separated by ';'. Unknown names and options,
// repetitions and an order that makes no sense (a correction before the rounding that it corrects) are Error{kInvalidArgument} naming both
// methods.
std::vector<MethodStep> parse_methods(std::string_view text);
std::string to_string(std::span<const MethodStep> steps);

// Applies the steps in order.
void apply_methods(MethodState& state, std::span<const MethodStep> steps, const MethodInputs& inputs);

// How close a quantized network stays to the float network on samples.
struct MethodLoss {
  double loss = 0;   // mean KL(float || quantized) in nats; noise / signal where the output is no row of scores
  double error = 0;  // standard error of `loss` over the samples
  bool is_kl = false;
  std::optional<double> agreement;  // percent, where the output is scores
  std::vector<double> samples;      // the loss of each sample
};

// The float network's outputs on the deciding samples, and how far others are from them.
class MethodJudge {
 public:
  // `graph` is the float network that is the truth. Results do not depend on `threads`.
  MethodJudge(const Graph& graph, std::shared_ptr<const Dataset> samples, int threads, ProgressSink* progress);
  MethodLoss operator()(const QuantizedGraph& model) const;
  MethodLoss of_float(const Graph& graph) const;
  // Of the first output, decibels: how much a rewritten float network differs from the truth.
  double float_sqnr_db(const Graph& graph) const;

 private:
  template <typename MakeRun>
  MethodLoss judge(MakeRun&& make_run, std::string_view what, double* sqnr_db) const;
  std::shared_ptr<const Dataset> samples_;
  int threads_;
  ProgressSink* progress_;
  std::vector<Tensor> expected_;
};

struct LadderRung {
  std::string methods;  // the whole list that was tried, and what beside it was; "none"
  double loss = 0;
  bool is_kl = true;
  std::optional<double> agreement;
  bool kept = false;
};
struct MethodsChoice {
  MethodState state;
  std::string methods;  // "none", or the list that won
  std::vector<LadderRung> ladder;
};
// Builds the list step by step and keeps a step only if it helps the deciding samples: the mean of the paired differences of the losses
// must exceed their standard error. Equalization is judged together with its correction. Below 8 bits affine weights are tried, too (state.scheme).
MethodsChoice choose_methods(const MethodState& start, const MethodInputs& inputs);

// Without data: ranges of every value that follows from `state.normals` (six deviations on either side, cut by the activation), laid over
// those of `state.ranges`, which synthetic inputs gave. Nagel et al. 2019, section 5.1. Returns how many were replaced.
std::int64_t overlay_ranges_of_normals(MethodState& state);
// Seeded samples for networks that remember nothing: normal values around the middle of each channel of `bounds` (of the network's first
// input; empty: -2.5 .. 2.5), cut at its ends.
std::unique_ptr<Dataset> synthetic_dataset(const Graph& graph, const std::vector<Range>& bounds, std::int64_t samples, std::uint64_t seed);

// Lines for a person: one a rung.
std::string to_text(std::span<const LadderRung> ladder);

}  // namespace nibble
