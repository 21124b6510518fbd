#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <random>

#include "base/fail.h"
#include "nibble/interpreter.h"
#include "nibble/passes.h"
#include "nibble/report.h"
#include "report/macs.h"

namespace nibble {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

// Random inputs of a fixed seed: normal reals, zeros for indices.
std::vector<Tensor> make_inputs(const Model& model, std::int64_t batch) {
  const Graph& graph = model.quantized ? model.quantized->graph : model.graph;
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  std::vector<Tensor> inputs;
  for (const ValueId id : graph.inputs()) {
    const Value& value = graph.value(id);
    if (!value.type.has_rank)
      fail(ErrorCode::kUnsupported, "{}: input '{}' declares no shape, so there is nothing to benchmark with", model.path, value.name);
    Shape shape;
    for (std::size_t i = 0; i < value.type.dims.size(); ++i) {
      const Dim& dim = value.type.dims[i];
      if (i == 0 && dim.known() && dim.size != batch && batch != 1)
        fail(ErrorCode::kInvalidArgument, "{}: input '{}' is {}: its batch is fixed, --batch {} does not fit; use --batch {}", model.path,
             value.name, to_string(value.type), batch, dim.size);
      shape.push_back(dim.known() ? dim.size : i == 0 ? batch : 1);
    }
    const DataType type = value.type.dtype == DataType::kUndefined ? DataType::kFloat32 : value.type.dtype;
    if (!is_float(type)) {
      inputs.push_back(Tensor::zeros(type, shape));
      continue;
    }
    Tensor tensor(DataType::kFloat32, shape);
    for (float& v : tensor.mutable_data<float>()) v = normal(rng);
    inputs.push_back(cast(tensor, type));
  }
  return inputs;
}

double percentile(const std::vector<double>& sorted, double fraction) {
  const double at = fraction * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

// Times `run` until `min_seconds` have passed, kMinRuns at least.
void measure(const std::function<void()>& run, double min_seconds, BenchmarkResult& result) {
  constexpr std::int64_t kMinRuns = 10;
  constexpr std::int64_t kMaxRuns = 100000;
  constexpr int kWarmUpRuns = 3;
  for (int i = 0; i < kWarmUpRuns; ++i) run();
  std::vector<double> times;
  const auto start = Clock::now();
  while (true) {
    const auto before = Clock::now();
    run();
    const auto after = Clock::now();
    times.push_back(milliseconds(after - before));
    const auto runs = static_cast<std::int64_t>(times.size());
    if ((runs >= kMinRuns && milliseconds(after - start) >= 1000 * min_seconds) || runs >= kMaxRuns) break;
  }
  std::sort(times.begin(), times.end());
  result.runs = static_cast<std::int64_t>(times.size());
  result.median_ms = percentile(times, 0.5);
  result.p10_ms = percentile(times, 0.1);
  result.p90_ms = percentile(times, 0.9);
}

// Median of each step over some runs.
constexpr int kProfiledRuns = 15;
void median_steps(std::vector<std::vector<StepProfile>> runs, std::vector<StepProfile>& steps) {
  if (runs.empty()) return;
  steps = runs[0];
  for (std::size_t s = 0; s < steps.size(); ++s) {
    std::vector<double> times;
    for (const auto& run : runs) {
      if (s < run.size()) times.push_back(run[s].microseconds);
    }
    std::sort(times.begin(), times.end());
    steps[s].microseconds = percentile(times, 0.5);
  }
}

// From the file to a session that is ready for these inputs: its first run, less the time of a run.
double start_time(const Model& model, const BenchmarkOptions& options, const std::vector<Tensor>& inputs, double run_ms) {
  constexpr int kStarts = 3;
  std::error_code ignored;
  if (!std::filesystem::exists(model.path, ignored)) return 0;
  std::vector<double> times;
  for (int i = 0; i < kStarts; ++i) {
    const auto before = Clock::now();
    Model again = load_model(model.path);
    if (!again.quantized) return 0;
    Session session(lower(std::move(*again.quantized)), {.threads = options.threads});
    session.run(inputs);
    times.push_back(milliseconds(Clock::now() - before));
  }
  std::sort(times.begin(), times.end());
  return std::max(0.0, percentile(times, 0.5) - run_ms);
}

void benchmark_integer(const Model& model, const BenchmarkOptions& options, const std::vector<Tensor>& inputs, BenchmarkResult& result) {
  const Program program = lower(*model.quantized);
  Session session(program, {.threads = options.threads});
  measure([&] { session.run(inputs); }, options.min_seconds, result);
  result.isa = active_isa();
  result.start_ms = start_time(model, options, inputs, result.median_ms);
  if (!options.per_op) return;
  session.set_profiling(true);
  std::vector<std::vector<StepProfile>> runs;
  for (int i = 0; i < kProfiledRuns; ++i) {
    session.run(inputs);
    runs.push_back(session.profile());
  }
  median_steps(std::move(runs), result.steps);
}

void benchmark_float(const Model& model, const BenchmarkOptions& options, const std::vector<Tensor>& inputs, BenchmarkResult& result) {
  Graph graph = model.graph;
  canonicalize(graph);
  Interpreter interpreter(graph, {.threads = options.threads, .mode = ExecMode::kFast});
  measure([&] { interpreter.run(inputs); }, options.min_seconds, result);
  result.isa = "onednn";
  if (!options.per_op) return;
  const std::vector<TensorType> types = shapes_of(graph, options.batch);
  // A node's time is that between the last value before it and its own: it includes what it costs to hand the value out in plain layout.
  std::vector<std::vector<StepProfile>> runs;
  for (int i = 0; i < kProfiledRuns; ++i) {
    std::vector<StepProfile> steps;
    auto last = Clock::now();
    interpreter.run(inputs, [&](ValueId id, const Tensor&) {
      const auto now = Clock::now();
      const NodeId producer = graph.value(id).producer;
      if (producer != kNoNode && graph.node(producer).outputs[0] == id) {
        const Node& node = graph.node(producer);
        steps.push_back({.node = node.name,
                         .op_type = node.op_type,
                         .kernel = "float:" + node.op_type,
                         .microseconds = 1000 * milliseconds(now - last),
                         .macs = macs_of(node, types)});
      }
      last = Clock::now();
    });
    runs.push_back(std::move(steps));
  }
  median_steps(std::move(runs), result.steps);
}

}  // namespace

BenchmarkResult benchmark(const Model& model, const BenchmarkOptions& options) {
  if (options.batch < 1) fail(ErrorCode::kInvalidArgument, "batch is {}, expected at least 1", options.batch);
  const std::vector<Tensor> inputs = make_inputs(model, options.batch);
  static_cast<void>(active_isa());  // a NIBBLE_FORCE_ISA that names nothing is an error for float models too
  BenchmarkResult result;
  result.threads = options.threads;
  // What was really run: a model whose batch is fixed has its own.
  result.batch = options.batch;
  if (!inputs.empty() && inputs[0].rank() > 0) result.batch = inputs[0].shape()[0];
  if (model.quantized)
    benchmark_integer(model, options, inputs, result);
  else
    benchmark_float(model, options, inputs, result);
  return result;
}

}  // namespace nibble
