#include "method_options.h"

#include <fmt/format.h>

#include "command.h"
#include "nibble/error.h"

namespace nibble::cli {
namespace {

// Samples that decide at most: one in four, and the ladder's differences are small.
constexpr std::int64_t kMaxDecide = 64;

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
    inputs.calibration = subset(dataset, split.observe);
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

}  // namespace nibble::cli
