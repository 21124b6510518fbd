#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <random>

#include "base/fail.h"
#include "kernels/peak/peak.h"
#include "nibble/error.h"
#include "nibble/interpreter.h"
#include "nibble/passes.h"
#include "nibble/report.h"
#include "report/float_twin.h"
#include "report/macs.h"
#include "report/per_op.h"

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

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return percentile(values, 0.5);
}

constexpr int kProfiledRuns = 15;

// Median of each step over some runs.
std::vector<StepProfile> median_steps(const std::vector<std::vector<StepProfile>>& runs) {
  std::vector<StepProfile> steps = runs[0];
  for (std::size_t s = 0; s < steps.size(); ++s) {
    std::vector<double> times;
    for (const auto& run : runs) {
      if (s < run.size()) times.push_back(run[s].microseconds);
    }
    steps[s].microseconds = median(std::move(times));
  }
  return steps;
}

// The float network of the same nodes, prepared; nullptr where there is none.
struct Twin {
  Graph graph;
  std::vector<Tensor> inputs;
  std::unique_ptr<Interpreter> interpreter;
};
std::unique_ptr<Twin> make_twin(const Model& model, const BenchmarkOptions& options) {
  for (const Node& node : model.quantized->graph.nodes()) {
    if (node.op_type == "DynamicQuantizeLinear" || node.op_type == "ConvInteger" || node.op_type == "MatMulInteger") return nullptr;
  }
  try {
    auto twin =
        std::make_unique<Twin>(Twin{.graph = float_twin(*model.quantized, TwinConstants::kDequantized), .inputs = {}, .interpreter = {}});
    const Model as_float{.path = model.path, .graph = twin->graph, .quantized = std::nullopt};
    twin->inputs = make_inputs(as_float, options.batch);
    twin->interpreter = std::make_unique<Interpreter>(twin->graph, InterpreterOptions{.threads = options.threads, .mode = ExecMode::kFast});
    twin->interpreter->run(twin->inputs);
    return twin;
  } catch (const Error&) {
    return nullptr;  // what else a file computes with integers of its own
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
  return std::max(0.0, median(std::move(times)) - run_ms);
}

// Median times of a float network's nodes.
std::vector<double> node_times(Interpreter& interpreter, const std::vector<Tensor>& inputs) {
  std::vector<std::vector<double>> runs;
  for (int i = 0; i < kProfiledRuns; ++i) interpreter.run_timed(inputs, runs.emplace_back());
  std::vector<double> result;
  for (std::size_t n = 0; n < runs[0].size(); ++n) {
    std::vector<double> times;
    for (const auto& run : runs) times.push_back(run[n]);
    result.push_back(median(std::move(times)));
  }
  return result;
}

void profile_integer(const Model& model, const BenchmarkOptions& options, const std::vector<Tensor>& inputs, Session& session,
                     BenchmarkResult& result) {
  std::map<std::string, double> float_us;
  if (const std::unique_ptr<Twin> twin = make_twin(model, options)) {
    std::vector<double> float_ms, speedup;
    for (int i = 0; i < 2 * kProfiledRuns; ++i) {
      const auto start = Clock::now();
      session.run(inputs);
      const auto middle = Clock::now();
      twin->interpreter->run(twin->inputs);
      const auto end = Clock::now();
      float_ms.push_back(milliseconds(end - middle));
      speedup.push_back(float_ms.back() / milliseconds(middle - start));
    }
    result.beside = FloatBeside{.median_ms = median(float_ms), .speedup = median(speedup)};
    const std::vector<double> times = node_times(*twin->interpreter, twin->inputs);
    for (std::size_t n = 0; n < times.size(); ++n) float_us[twin->graph.nodes()[n].name] = times[n];
  }
  session.set_profiling(true);
  std::vector<std::vector<StepProfile>> runs;
  for (int i = 0; i < kProfiledRuns; ++i) {
    session.run(inputs);
    runs.push_back(session.profile());
  }
  for (const kernels::Isa isa : kernels::available_isas()) {
    if (isa > kernels::best_isa()) continue;
    if (const double peak = kernels::measured_peak(isa); peak > 0)
      result.peaks[std::string(kernels::to_string(isa))] = peak * options.threads;
  }
  result.steps = explain_steps(*model.quantized, median_steps(runs), float_us, result.peaks);
}

void benchmark_integer(const Model& model, const BenchmarkOptions& options, const std::vector<Tensor>& inputs, BenchmarkResult& result) {
  const Program program = lower(*model.quantized);
  Session session(program, {.threads = options.threads});
  measure([&] { session.run(inputs); }, options.min_seconds, result);
  result.isa = active_isa();
  result.arena_bytes = session.arena_bytes();
  result.weight_bytes = session.weight_bytes();
  result.start_ms = start_time(model, options, inputs, result.median_ms);
  if (options.per_op) profile_integer(model, options, inputs, session, result);
}

void benchmark_float(const Model& model, const BenchmarkOptions& options, const std::vector<Tensor>& inputs, BenchmarkResult& result) {
  Graph graph = model.graph;
  canonicalize(graph);
  Interpreter interpreter(graph, {.threads = options.threads, .mode = ExecMode::kFast});
  measure([&] { interpreter.run(inputs); }, options.min_seconds, result);
  result.isa = "onednn";
  if (!options.per_op) return;
  const std::vector<TensorType> types = shapes_of(graph, options.batch);
  const std::vector<double> times = node_times(interpreter, inputs);
  for (std::size_t n = 0; n < times.size(); ++n) {
    const Node& node = graph.nodes()[n];
    BenchmarkStep step{{.node = node.name,
                        .op_type = node.op_type,
                        .kernel = "float:" + node.op_type,
                        .microseconds = times[n],
                        .macs = macs_of(node, types)}};
    step.kind = times[n] > 0 ? StepKind::kFloat : StepKind::kConstant;
    step.gops = gops_of(step);
    result.steps.push_back(std::move(step));
  }
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
