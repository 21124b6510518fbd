// Measuring and explaining: inspect, evaluate, compare, benchmark.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nibble/calibrate.h"
#include "nibble/dataset.h"
#include "nibble/graph.h"
#include "nibble/passes.h"
#include "nibble/progress.h"
#include "nibble/quantize.h"
#include "nibble/runtime.h"

namespace nibble {

// A model as the program uses it: a float graph, or a quantized one.
struct Model {
  std::string path;
  Graph graph;                              // as imported
  std::optional<QuantizedGraph> quantized;  // set if the file holds quantization
  std::int64_t file_bytes = 0;
};
Model load_model(const std::string& path);

// Runs a Model either way: float interpreter, integer runtime, or simulation.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual std::vector<Tensor> run(std::span<const Tensor> inputs) = 0;
};
enum class RunAs { kAuto, kSimulation };
std::unique_ptr<Runner> make_runner(const Model& model, int threads, RunAs as = RunAs::kAuto);

struct EvaluateOptions {
  int threads = 1;
  RunAs as = RunAs::kAuto;
  ProgressSink* progress = nullptr;
};
struct EvaluateResult {
  std::int64_t samples = 0;
  std::optional<double> top1, top5;  // percent; unset without labels
  std::optional<double> agreement;   // percent of samples with the reference's argmax
  std::optional<double> reference_top1;
  std::optional<double> kl;       // mean KL(reference || model) of the softmaxed outputs, nats
  std::optional<double> sqnr_db;  // of the first output against the reference
  std::vector<std::string> notes;
};
// Classifier accuracy on the first output (its last or channel axis holds the classes).
EvaluateResult evaluate(const Model& model, const Dataset& dataset, const EvaluateOptions& options, const Model* reference = nullptr);

// How much a network suffers from these ranges: it is quantized with them, run in integers on the samples, and compared with the float
// network's first output. The mean KL divergence in nats (noise / signal where the output is no row of scores). The ScoreFunction of
// choose_method(); float outputs are kept between calls with the same dataset. Results do not depend on `threads`.
class QuantizationLoss {
 public:
  // `graph` is canonical and must outlive this.
  QuantizationLoss(const Graph& graph, QuantScheme scheme, const EvaluateOptions& options);
  double operator()(const RangeTable& ranges, const Dataset& dataset);

 private:
  const Graph& graph_;
  QuantScheme scheme_;
  EvaluateOptions options_;
  const Dataset* expected_of_ = nullptr;
  std::vector<Tensor> expected_;
};

struct LayerCompare {
  std::string name;     // value name
  std::string op_type;  // of its producer
  double sqnr_db = 0;
  double float_rms = 0, error_rms = 0;
};
struct CompareResult {
  std::int64_t samples = 0;
  std::optional<double> agreement;
  std::vector<LayerCompare> layers;  // in graph order, matched by value name
  std::vector<LayerCompare> outputs;
};
CompareResult compare(const Model& float_model, const Model& quantized_model, const Dataset& dataset, const EvaluateOptions& options);

struct BenchmarkOptions {
  int threads = 1;
  std::int64_t batch = 1;
  bool per_op = false;
  double min_seconds = 1.0;
};
enum class StepKind {
  kInteger,
  kFloatIsland,  // of a quantized model: what it computes in float
  kConversion,   // between reals and integers, or between layouts
  kFloat,        // of a float model
  kConstant,     // computed once
};
struct BenchmarkStep : StepProfile {
  StepKind kind = StepKind::kInteger;
  double gops = 0;                      // two operations a multiply-add; 0 where there are none
  double peak_percent = 0;              // of what its kernel's instruction set can do on so many threads; 0 for float
  std::optional<double> float_us = {};  // the node's time in the float network
  std::string note = {};                // why it is slower than that
};
// The same network in float, run in turn with the integer one.
struct FloatBeside {
  double median_ms = 0;
  double speedup = 0;  // median of float time by integer time
};
struct BenchmarkResult {
  double median_ms = 0, p10_ms = 0, p90_ms = 0;
  int threads = 1;
  std::int64_t batch = 1;
  std::int64_t runs = 0;
  std::string isa;
  double start_ms = 0;  // reading the file, lowering and planning; median of some. 0: float, or the model came from no file
  std::int64_t arena_bytes = 0, weight_bytes = 0;  // of a quantized model
  // With per_op:
  std::map<std::string, double> peaks;  // by instruction set: the most of its 8-bit dot product, GOPS, all threads, measured in this run
  std::vector<BenchmarkStep> steps;
  std::optional<FloatBeside> beside;  // unset where the model has no float form (dynamic quantization)
};
BenchmarkResult benchmark(const Model& model, const BenchmarkOptions& options);

struct LayerSummary {
  std::string name, op_type;
  std::string output_type;
  std::int64_t macs = 0, parameters = 0;
  bool integer = false;
  std::string reason;
  std::optional<AccumulatorProof> proof;
};
struct InspectResult {
  std::vector<InputSpec> inputs, outputs;
  std::int64_t nodes = 0, parameters = 0, macs = 0, file_bytes = 0, weight_bytes = 0;
  int opset = 0, ir_version = 0;
  bool quantized = false;
  std::map<std::string, std::string> metadata;
  std::int64_t weights = 0;                // that the file holds in fewer than 32 bits: integers, indices, 16-bit floats
  std::optional<double> bits_per_weight;   // of these, with their scales, zero points and tables
  std::string target;                      // that was asked about
  std::vector<TargetFinding> target_findings;
  std::vector<LayerSummary> layers;
  std::vector<std::string> notes;  // symbolic axes taken as 1 for the MACs, float islands ...
};
// `target`: also what it will not take; the model must be quantized then.
InspectResult inspect(const Model& model, const std::string& target = "");

// One JSON object.
std::string to_json(const InspectResult& result);
std::string to_json(const EvaluateResult& result);
std::string to_json(const CompareResult& result);
std::string to_json(const BenchmarkResult& result);
// Lines for a person, with a line feed after each.
std::string to_text(const InspectResult& result);
std::string to_text(const EvaluateResult& result);
std::string to_text(const CompareResult& result);  // the most damaged layers first
std::string to_text(const BenchmarkResult& result);

// What `nibble quantize` did, for its --report.
struct QuantizeReport {
  std::string input, output;        // file names without folders
  std::string method;               // of calibration
  std::vector<MethodScore> ladder;  // if the method was chosen: what each candidate scored
  QuantScheme scheme;
  std::string format;  // "qdq", "qoperator"
  std::string data, data_hash;
  std::int64_t samples = 0;
  std::vector<PassReport> passes;
  std::int64_t float_bytes = 0, quantized_bytes = 0;
  std::map<std::string, std::string> metadata;
};
std::string to_json(const QuantizeReport& report, const QuantizedGraph& model, const RangeTable& ranges);
std::string to_text(const QuantizeReport& report, const QuantizedGraph& model);

// Text into a temporary file beside `path`, renamed: a failure leaves an old file as it was. Throws Error{kIo, kInvalidArgument}.
void write_text_file(const std::string& path, const std::string& text);

}  // namespace nibble
