// The story: calibrate and quantize as `nibble quantize` does, measure each layer, then ask each detector whether its evidence is there and
// what its fix wins.
#include "nibble/analyze.h"

#include <algorithm>
#include <cmath>

#include "analyze/cause.h"
#include "analyze/fake_quantized.h"
#include "analyze/held_samples.h"
#include "analyze/judge.h"
#include "analyze/sensitivity.h"
#include "base/fail.h"
#include "nibble/interpreter.h"
#include "nibble/onnx.h"
#include "nibble/passes.h"
#include "ops/fused_activation.h"
#include "report/for_each_sample.h"

namespace nibble {
namespace {

constexpr std::int64_t kStatsSamples = 32;
constexpr std::int64_t kFloatSamples = 256;  // that tell which of two float networks is right

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

void merge(ValueStats& into, const ValueStats& one) {
  if (into.lo.empty()) {
    into = one;
    return;
  }
  if (into.lo.size() != one.lo.size()) return;  // the channels' number changes from sample to sample: no channels
  for (std::size_t c = 0; c < into.lo.size(); ++c) {
    into.lo[c] = std::min(into.lo[c], one.lo[c]);
    into.hi[c] = std::max(into.hi[c], one.hi[c]);
    into.sum_squares[c] += one.sum_squares[c];
  }
  into.per_channel += one.per_channel;
  into.at_low += one.at_low;
  into.at_high += one.at_high;
}

ValueStats stats_of(const Tensor& tensor, const FusedActivation& activation) {
  ValueStats stats;
  const Shape& shape = tensor.shape();
  const auto values = tensor.data<float>();
  const std::size_t channels = shape.size() >= 2 && shape[1] > 0 ? static_cast<std::size_t>(shape[1]) : 1;
  if (values.empty()) return stats;
  stats.lo.assign(channels, INFINITY);
  stats.hi.assign(channels, -INFINITY);
  stats.sum_squares.assign(channels, 0);
  const std::size_t batch = shape.size() >= 2 ? static_cast<std::size_t>(shape[0]) : 1;
  const std::size_t inner = values.size() / (batch * channels);
  for (std::size_t r = 0; r < batch * channels; ++r) {
    const std::size_t c = r % channels;
    float lo = stats.lo[c], hi = stats.hi[c];
    double squares = 0;
    for (std::size_t i = r * inner; i < (r + 1) * inner; ++i) {
      const float v = values[i];
      lo = std::min(lo, v);
      hi = std::max(hi, v);
      squares += static_cast<double>(v) * static_cast<double>(v);
      if (activation.present) {
        stats.at_low += v <= activation.low ? 1 : 0;
        stats.at_high += v >= activation.high ? 1 : 0;
      }
    }
    stats.lo[c] = lo;
    stats.hi[c] = hi;
    stats.sum_squares[c] += squares;
  }
  stats.per_channel = static_cast<std::int64_t>(batch * inner);
  return stats;
}

// Statistics of every float value, and the class that each calibration sample belongs to.
struct Observed {
  std::vector<ValueStats> stats;
  std::vector<std::int64_t> classes;
};
Observed observe(const Graph& graph, const Dataset& calibration, int threads, ProgressSink* progress) {
  const auto samples = hold_samples(calibration, spread_indices(calibration.size(), kStatsSamples), threads, progress);
  std::vector<std::vector<ValueStats>> each(static_cast<std::size_t>(samples->size()));
  std::vector<std::int64_t> classes(each.size(), -1);
  std::vector<FusedActivation> activation(graph.values().size());
  for (const Node& node : graph.nodes()) {
    if (node.output(0) != kNoValue && node.has("activation")) activation[index(node.output(0))] = fused_activation(node);
  }
  Stage stage(progress, "statistics", samples->size());
  for_each_sample(*samples, threads, stage, [&]() -> SampleWorker {
    const auto interpreter = std::make_shared<Interpreter>(graph);
    return [&, interpreter](std::int64_t i, const Sample& sample) {
      auto& mine = each[static_cast<std::size_t>(i)];
      mine.resize(graph.values().size());
      const auto outputs = interpreter->run(sample.inputs, [&](ValueId v, const Tensor& tensor) {
        if (tensor.type() == DataType::kFloat32) mine[index(v)] = stats_of(tensor, activation[index(v)]);
      });
      if (sample.label) {
        classes[static_cast<std::size_t>(i)] = *sample.label;
      } else if (!outputs.empty() && score_layout(outputs[0]).rows == 1 && score_layout(outputs[0]).classes > 1) {
        classes[static_cast<std::size_t>(i)] = predictions(outputs[0])[0];
      }
    };
  });
  Observed result{.stats = std::vector<ValueStats>(graph.values().size()), .classes = std::move(classes)};
  for (const auto& one : each) {
    for (std::size_t v = 0; v < one.size(); ++v) {
      if (!one[v].lo.empty()) merge(result.stats[v], one[v]);
    }
  }
  return result;
}

}  // namespace

Judgement CauseContext::judged(const RangeTable& with_ranges, const QuantScheme& with_scheme) const {
  return judge(quantize(graph, with_ranges, with_scheme));
}

bool worth_naming(const Figures& before, const Figures& after) {
  constexpr double kPoints = 3, kNats = 0.05, kPoorDb = 15, kDb = 6;
  const double two_samples = before.samples > 0 ? 200.0 / static_cast<double>(before.samples) : 100;
  const auto points = [&](const std::optional<double>& a, const std::optional<double>& b) { return a && b ? *b - *a : 0.0; };
  const double won = std::max(points(before.top1, after.top1), points(before.agreement, after.agreement));
  if (won >= std::max(kPoints, two_samples) - 1e-9) return true;
  if (before.kl && after.kl) return *before.kl - *after.kl >= kNats;
  return before.sqnr_db < kPoorDb && after.sqnr_db - before.sqnr_db >= kDb;
}

std::string exactly(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

NodeRule float_rule(const std::string& name) {
  NodeRule rule;
  rule.node_regex = exactly(name);
  rule.quantized = false;
  return rule;
}

AnalyzeResult analyze(const Graph& original, const std::shared_ptr<const Dataset>& data, const AnalyzeOptions& options) {
  if (has_quantization(original))
    fail(ErrorCode::kInvalidArgument, "the model is quantized already; analyze needs the float model, which it quantizes itself");
  if (data->size() == 0) fail(ErrorCode::kInvalidData, "{}: no samples", data->description());
  Graph graph = original;
  canonicalize(graph);

  // Samples that judge are not those that calibrate, where there are enough.
  std::shared_ptr<const Dataset> calibration = data;
  std::shared_ptr<const Dataset> judging;
  if (options.evaluation) {
    judging = hold_samples(*options.evaluation, spread_indices(options.evaluation->size(), options.judging_samples), options.threads,
                           options.progress);
  } else {
    const CalibrationSplit split = split_for_choice(data->size(), options.seed, options.judging_samples);
    judging = hold_samples(*data, split.decide, options.threads, options.progress);
    calibration = subset(data, split.observe);
  }
  if (judging->size() == 0) fail(ErrorCode::kInvalidData, "{}: no samples to judge on", options.evaluation->description());

  RangeTable ranges;
  if (options.ranges) {
    ranges = *options.ranges;
  } else {
    CalibrateOptions calibrate_options;
    calibrate_options.methods = {options.method};
    calibrate_options.target = {.type = options.scheme.defaults.activations.type,
                                .symmetric = options.scheme.defaults.activations.symmetric};
    calibrate_options.threads = options.threads;
    calibrate_options.keep_states = false;
    calibrate_options.progress = options.progress;
    ranges = std::move(calibrate(graph, *calibration, calibrate_options).at(0));
  }
  const QuantizedGraph quantized = quantize(graph, ranges, options.scheme);

  AnalyzeResult result;
  result.data = data->description();
  result.judged_on = judging->description();
  result.method = ranges.method;
  const Judge judge(graph, judging, options.threads, options.progress);
  const Judgement base = judge(quantized);
  result.float_top1 = judge.truth().figures.top1;
  result.quantized = base.figures;

  const auto some = hold_samples(*judging, spread_indices(judging->size(), options.sensitivity_samples), options.threads, nullptr);
  result.sensitivity_samples = some->size();
  const FakeQuantized fake = fake_quantized(graph, quantized);
  result.layers = layer_sensitivities(graph, fake, *some, options.threads, options.progress);

  for (const LayerInfo& layer : quantized.layers) {
    if (!layer.integer) result.observations.push_back(fmt::format("{} ({}) stays float: {}", layer.name, layer.op_type, layer.reason));
  }
  if (!options.causes) return result;
  const std::int64_t more = std::max<std::int64_t>(kFloatSamples - judging->size(), 0);
  const Judge wide(
      graph,
      join_samples(*judging, *hold_samples(*calibration, spread_indices(calibration->size(), more), options.threads, options.progress)),
      options.threads, options.progress);
  const Observed observed = observe(graph, *calibration, options.threads, options.progress);
  const CauseContext context{.graph = graph,
                             .options = options,
                             .calibration = calibration,
                             .ranges = ranges,
                             .quantized = quantized,
                             .judge = judge,
                             .wide = wide,
                             .base = base,
                             .stats = observed.stats,
                             .calibration_classes = observed.classes};
  for (const CauseTier tier : {CauseTier::kFloat, CauseTier::kQuantization}) {
    std::vector<Cause> causes;
    for (const CauseRow& row : cause_rows()) {
      if (row.tier == tier) row.find(context, causes, result.observations);
    }
    std::stable_sort(causes.begin(), causes.end(), [](const Cause& a, const Cause& b) { return a.damage > b.damage; });
    for (Cause& cause : causes) result.causes.push_back(std::move(cause));
  }
  return result;
}

}  // namespace nibble
