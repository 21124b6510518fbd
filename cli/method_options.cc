#include "method_options.h"

#include <fmt/format.h>

#include <algorithm>

#include "command.h"
#include "nibble/error.h"

namespace nibble::cli {
namespace {

// Samples that decide at most: one in four, and the ladder's differences are small.
constexpr std::int64_t kMaxDecide = 64;
constexpr std::int64_t kSyntheticSamples = 32;

}  // namespace

void add_methods_option(CLI::App& command, MethodListOptions& options) {
  std::vector<std::string> names;
  for (const MethodInfo& row : method_table()) names.emplace_back(row.name);
  command
      .add_option(
          "--methods", options.methods,
          "methods that keep accuracy, in this order, separated by commas: " + joined(names) +
              "; options of one follow a colon, separated by semicolons (`nibble list methods`). auto keeps those that help on part of the "
              "calibration data; none applies none")
      ->type_name("LIST")
      ->capture_default_str();
}

void check_methods(const MethodListOptions& options) {
  if (options.methods == kAutoMethod) return;
  try {
    parse_methods(options.methods);
  } catch (const Error& error) {
    throw UsageError(fmt::format("--methods: {} (or {})", error.what(), kAutoMethod));
  }
}

MethodsRun run_methods(const MethodListOptions& options, Graph graph, RangeTable ranges, const QuantScheme& scheme,
                       const std::shared_ptr<const Dataset>& dataset, const CalibrationSettings& settings, Progress& progress) {
  const std::string observer = ranges.method;
  MethodInputs inputs;
  inputs.seed = settings.seed;
  inputs.threads = settings.threads;
  inputs.progress = &progress;
  if (dataset != nullptr) {
    const CalibrationSplit split = split_for_choice(dataset->size(), settings.seed, kMaxDecide);
    // A list that is given needs no samples to choose it: all of them calibrate.
    inputs.calibration = options.methods == kAutoMethod ? subset(dataset, split.observe) : dataset;
    inputs.deciding = subset(dataset, split.decide);
    inputs.observe = [&](const Graph& changed) {
      std::vector<MethodScore> none;
      return calibrate_with(observer, changed, dataset, scheme, settings, progress, none);
    };
  }
  MethodsRun run{.state = method_state(std::move(graph), std::move(ranges), scheme), .methods = options.methods, .ladder = {}};
  if (options.methods == kAutoMethod) {
    MethodsChoice choice = choose_methods(run.state, inputs);
    run = {.state = std::move(choice.state), .methods = choice.methods, .ladder = std::move(choice.ladder)};
    progress.note(fmt::format("methods: {}", run.methods));
  } else {
    apply_methods(run.state, parse_methods(options.methods), inputs);
  }
  for (const std::string& note : run.state.notes) progress.note(note);
  return run;
}

MethodsRun run_methods_without_data(const MethodListOptions& options, const Graph& imported, Graph graph, const QuantScheme& scheme,
                                    const std::optional<PreprocessRecipe>& recipe, const CalibrationSettings& settings,
                                    Progress& progress) {
  // What a picture can be after preprocessing, channel by channel.
  std::vector<Range> bounds;
  if (recipe) {
    const std::size_t channels = std::max<std::size_t>({1, recipe->mean.size(), recipe->std.size()});
    for (std::size_t c = 0; c < channels; ++c) {
      const double mean = recipe->mean.empty() ? 0.0 : recipe->mean[c % recipe->mean.size()];
      const double std = recipe->std.empty() ? 1.0 : recipe->std[c % recipe->std.size()];
      const double a = (0.0 - mean) / std, b = (255.0 / recipe->divide - mean) / std;
      bounds.push_back({std::min(a, b), std::max(a, b)});
    }
  }
  std::map<std::string, ChannelNormal> normals = batch_norm_normals(imported, graph);
  const std::shared_ptr<const Dataset> synthetic = synthetic_dataset(graph, bounds, kSyntheticSamples, settings.seed);
  const auto observe = [&](const Graph& changed) {
    std::vector<MethodScore> none;
    RangeTable table = calibrate_with("min_max", changed, synthetic, scheme, settings, progress, none);
    table.warnings.clear();
    return table;
  };
  MethodState state = method_state(graph, observe(graph), scheme);
  MethodInputs inputs;
  inputs.seed = settings.seed;
  inputs.threads = settings.threads;
  inputs.progress = &progress;
  inputs.observe = observe;
  std::string methods = options.methods;
  if (normals.empty()) {
    progress.warn(fmt::format(
        "no data, and no BatchNormalization is left in the model to tell ranges: they come from {} SYNTHETIC inputs; expect to lose "
        "accuracy, and give real data (--data) if you have any",
        synthetic->size()));
    inputs.calibration = synthetic;
    if (methods == kAutoMethod) methods = "none";
  } else {
    state.normals = std::move(normals);
    state.ranges_from_normals = true;
    const std::int64_t told = overlay_ranges_of_normals(state);
    progress.note(fmt::format("no data: {} layers remember their BatchNormalization, which tells {} ranges", state.normals.size(), told));
    if (methods == kAutoMethod) methods = "analytic_bias_correction";
  }
  state.ranges.method = state.ranges_from_normals ? "batch_norm" : "synthetic";
  state.ranges.samples = 0;
  apply_methods(state, parse_methods(methods), inputs);
  for (const std::string& note : state.notes) progress.note(note);
  return {.state = std::move(state), .methods = methods, .ladder = {}};
}

}  // namespace nibble::cli
