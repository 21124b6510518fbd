// Scales that few elements set and all others pay for: channels of a weight, channels of an activation, single activations; and the
// opposite, ranges that cut off what flows.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "analyze/cause.h"
#include "analyze/held_samples.h"
#include "base/fail.h"
#include "nibble/interpreter.h"
#include "quantize/integer_form.h"
#include "quantize/weights.h"
#include "report/stage.h"

namespace nibble {
namespace {

constexpr double kChannelRatio = 8;     // widest channel against the median one
constexpr double kTailRatio = 3;        // min..max against what 99.99 % lie in
constexpr std::size_t kTried = 3;       // places whose fix is measured, the worst first
constexpr double kOutside = 0.002;      // share of elements beyond a range
constexpr std::int64_t kLookedAt = 16;  // samples

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// The widest, and the median of those that are not zero.
struct Widths {
  double widest = 0, median = 0;
  std::size_t where = 0;
  double ratio() const { return median > 0 ? widest / median : 1; }
};
Widths widths_of(const std::vector<double>& channels) {
  Widths result;
  std::vector<double> some;
  for (std::size_t c = 0; c < channels.size(); ++c) {
    if (channels[c] > result.widest) result = {.widest = channels[c], .median = 0, .where = c};
    if (channels[c] > 0) some.push_back(channels[c]);
  }
  if (some.empty()) return result;
  const auto middle = some.begin() + std::ssize(some) / 2;
  std::nth_element(some.begin(), middle, some.end());
  result.median = *middle;
  return result;
}

struct Place {
  double ratio = 0;
  NodeId node = kNoNode;
  ValueId value = kNoValue;
  Widths widths;
};
void worst_first(std::vector<Place>& places) {
  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.ratio > b.ratio; });
}

}  // namespace

void find_weight_channels(const CauseContext& context, std::vector<Cause>& causes, std::vector<std::string>&) {
  std::vector<Place> places;
  for (NodeId n = 0; n < static_cast<NodeId>(context.graph.nodes().size()); ++n) {
    const Node& node = context.graph.node(n);
    const Operands operands = operands_of(context.graph, node);
    if (!operands.weights) continue;
    const auto quantized = std::find_if(context.quantized.graph.nodes().begin(), context.quantized.graph.nodes().end(),
                                        [&](const Node& other) { return other.name == node.name; });
    if (quantized == context.quantized.graph.nodes().end()) continue;
    const QuantParams* params = context.quantized.params_of(quantized->input(*operands.weights));
    if (params == nullptr || !params->per_tensor()) continue;
    const Tensor& weights = *context.graph.value(node.input(*operands.weights)).constant;
    const WeightLayout layout = weight_layout(node, weights.shape());
    std::vector<double> widths(static_cast<std::size_t>(layout.channels), 0);
    const auto values = weights.data<float>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      double& w = widths[static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i)))];
      w = std::max(w, std::abs(static_cast<double>(values[i])));
    }
    const Widths found = widths_of(widths);
    if (found.ratio() >= kChannelRatio) places.push_back({.ratio = found.ratio(), .node = n, .value = kNoValue, .widths = found});
  }
  if (places.empty()) return;
  worst_first(places);
  QuantScheme scheme = context.options.scheme;
  scheme.defaults.weights.per_channel = true;
  for (NodeRule& rule : scheme.rules) {
    if (rule.weights) rule.weights->per_channel = true;
  }
  const Figures after = context.judged(context.ranges, scheme).figures;
  if (!worth_naming(context.base.figures, after)) return;
  const Place& worst = places[0];
  causes.push_back({.id = "weight_channel_ranges",
                    .where = context.graph.node(worst.node).name,
                    .evidence = fmt::format(
                        "one scale for all its weights, and output channel {} reaches {:.3g}, {:.0f} times the median channel's {:.3g}; "
                        "{} layers are like this",
                        worst.widths.where, worst.widths.widest, worst.ratio, worst.widths.median, places.size()),
                    .option = "--per-channel",
                    .measured_on = "the quantized network",
                    .before = context.base.figures,
                    .after = after,
                    .damage = gain_of(context.base.figures, after)});
}

void find_activation_channels(const CauseContext& context, std::vector<Cause>& causes, std::vector<std::string>&) {
  const FakeQuantized fake = fake_quantized(context.graph, context.quantized);
  std::vector<Place> places;
  for (ValueId v = 0; v < static_cast<ValueId>(context.graph.values().size()); ++v) {
    const ValueStats& stats = context.stats[index(v)];
    const NodeId producer = context.graph.value(v).producer;
    if (!fake.grid[index(v)] || stats.lo.size() < 4 || producer == kNoNode || is_tied(context.graph.node(producer))) continue;
    const auto explained = [&](const Cause& cause) {
      return cause.id == "bias_overflow" && cause.where == context.graph.node(producer).name;
    };
    if (std::any_of(causes.begin(), causes.end(), explained)) continue;
    std::vector<double> widths;
    for (std::size_t c = 0; c < stats.lo.size(); ++c)
      widths.push_back(std::max(std::abs(static_cast<double>(stats.lo[c])), std::abs(static_cast<double>(stats.hi[c]))));
    const Widths found = widths_of(widths);
    if (found.ratio() >= kChannelRatio) places.push_back({.ratio = found.ratio(), .node = producer, .value = v, .widths = found});
  }
  worst_first(places);
  if (places.size() > kTried) places.resize(kTried);
  const auto consumers = context.graph.consumers();
  for (const Place& place : places) {
    // The value stays real: neither its producer nor its readers are integer nodes.
    QuantScheme scheme = context.options.scheme;
    std::string option;
    std::vector<NodeId> nodes = {place.node};
    nodes.insert(nodes.end(), consumers[index(place.value)].begin(), consumers[index(place.value)].end());
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    for (const NodeId n : nodes) {
      scheme.rules.push_back(float_rule(context.graph.node(n).name));
      option += fmt::format("{}--nodes-to-exclude '{}'", option.empty() ? "" : " ", scheme.rules.back().node_regex);
    }
    const Figures after = context.judged(context.ranges, scheme).figures;
    if (!worth_naming(context.base.figures, after)) continue;
    causes.push_back({.id = "activation_channel_ranges",
                      .where = context.graph.node(place.node).name,
                      .evidence = fmt::format(
                          "channel {} of its output reaches {:.4g}, {:.0f} times the median channel's {:.3g}, and all share one scale",
                          place.widths.where, place.widths.widest, place.ratio, place.widths.median),
                      .option = option,
                      .measured_on = "the quantized network",
                      .before = context.base.figures,
                      .after = after,
                      .damage = gain_of(context.base.figures, after)});
  }
}

void find_outlier_activations(const CauseContext& context, std::vector<Cause>& causes, std::vector<std::string>&) {
  const FakeQuantized fake = fake_quantized(context.graph, context.quantized);
  CalibrateOptions options{.methods = {"percentile:percentile=99.99", "percentile:percentile=99.9", "mse", "entropy"},
                           .target = context.ranges.target};
  options.threads = context.options.threads;
  options.keep_states = false;
  options.progress = context.options.progress;
  const std::vector<RangeTable> tables = calibrate(context.graph, *context.calibration, options);
  const auto width = [](const RangeTable& table, const std::string& name) {
    const auto it = table.entries.find(name);
    return it == table.entries.end() || !it->second.range ? 0.0 : it->second.range->hi - it->second.range->lo;
  };
  std::vector<Place> places;
  for (ValueId v = 0; v < static_cast<ValueId>(context.graph.values().size()); ++v) {
    if (!fake.grid[index(v)]) continue;
    const std::string& name = context.graph.value(v).name;
    const double all = width(context.ranges, name), most = width(tables[0], name);
    if (most > 0 && all / most >= kTailRatio)
      places.push_back({.ratio = all / most,
                        .node = context.graph.value(v).producer,
                        .value = v,
                        .widths = {.widest = all, .median = most, .where = 0}});
  }
  if (places.empty()) return;
  worst_first(places);
  std::optional<Figures> best;
  std::string method;
  for (const RangeTable& table : tables) {
    const Figures figures = context.judged(table, context.options.scheme).figures;
    if (!best || gain_of(*best, figures) > 0) {
      best = figures;
      method = table.method;
    }
  }
  if (!worth_naming(context.base.figures, *best)) return;
  const Place& worst = places[0];
  causes.push_back({.id = "outlier_activation",
                    .where = worst.node == kNoNode ? context.graph.value(worst.value).name : context.graph.node(worst.node).name,
                    .evidence = fmt::format(
                        "its range is {:.4g} wide, and 99.99 % of its elements lie in {:.4g}: {:.0f} times less; {} values are like this",
                        worst.widths.widest, worst.widths.median, worst.ratio, places.size()),
                    .option = "--calibrate-method " + method,
                    .measured_on = "the quantized network",
                    .before = context.base.figures,
                    .after = best,
                    .damage = gain_of(context.base.figures, *best)});
}

void find_clipped_ranges(const CauseContext& context, std::vector<Cause>& causes, std::vector<std::string>&) {
  const FakeQuantized fake = fake_quantized(context.graph, context.quantized);
  const Dataset& judging = context.judge.samples();
  std::vector<std::int64_t> outside(fake.grid.size(), 0), seen(fake.grid.size(), 0);
  std::vector<Range> found(fake.grid.size());
  Interpreter interpreter(context.graph, {.threads = context.options.threads, .mode = ExecMode::kFast});
  const auto indices = spread_indices(judging.size(), kLookedAt);
  {
    Stage stage(context.options.progress, "ranges", std::ssize(indices));
    std::int64_t done = 0;
    for (const std::int64_t i : indices) {
      interpreter.run(judging.sample(i).inputs, [&](ValueId v, const Tensor& tensor) {
        if (!fake.grid[index(v)] || tensor.type() != DataType::kFloat32) return;
        const QuantParams& p = *fake.grid[index(v)];
        const float step = p.scale[0];
        const float lo = static_cast<float>(p.qmin() - p.zero_point[0] - 1) * step,
                    hi = static_cast<float>(p.qmax() - p.zero_point[0] + 1) * step;
        for (const float x : tensor.data<float>()) {
          outside[index(v)] += x < lo || x > hi ? 1 : 0;
          found[index(v)].lo = std::min(found[index(v)].lo, static_cast<double>(x));
          found[index(v)].hi = std::max(found[index(v)].hi, static_cast<double>(x));
        }
        seen[index(v)] += tensor.size();
      });
      stage.advance(++done);
    }
  }
  std::vector<Place> places;
  for (ValueId v = 0; v < static_cast<ValueId>(outside.size()); ++v) {
    const double share = seen[index(v)] > 0 ? static_cast<double>(outside[index(v)]) / static_cast<double>(seen[index(v)]) : 0;
    if (share >= kOutside) places.push_back({.ratio = share, .node = context.graph.value(v).producer, .value = v, .widths = {}});
  }
  if (places.empty()) return;
  worst_first(places);
  CalibrateOptions options{.methods = {"min_max"}, .target = context.ranges.target};
  options.threads = context.options.threads;
  options.keep_states = false;
  const RangeTable wide = std::move(calibrate(context.graph, *context.calibration, options).at(0));
  const Figures after = context.judged(wide, context.options.scheme).figures;
  if (!worth_naming(context.base.figures, after)) return;
  const Place& worst = places[0];
  const std::string& name = context.graph.value(worst.value).name;
  const QuantParams& p = *fake.grid[index(worst.value)];
  causes.push_back(
      {.id = "clipped_range",
       .where = worst.node == kNoNode ? name : context.graph.node(worst.node).name,
       .evidence =
           fmt::format("{:.1f} % of '{}' lie beyond its range [{:.4g}, {:.4g}]: it reaches from {:.4g} to {:.4g}; {} values are like this",
                       100 * worst.ratio, name, static_cast<double>(p.qmin() - p.zero_point[0]) * static_cast<double>(p.scale[0]),
                       static_cast<double>(p.qmax() - p.zero_point[0]) * static_cast<double>(p.scale[0]), found[index(worst.value)].lo,
                       found[index(worst.value)].hi, places.size()),
       .option = context.options.ranges ? "ranges made anew: nibble calibrate --calibrate-method min_max" : "--calibrate-method min_max",
       .measured_on = "the quantized network",
       .before = context.base.figures,
       .after = after,
       .damage = gain_of(context.base.figures, after)});
}

}  // namespace nibble
