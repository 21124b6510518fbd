#include "calibration_options.h"

#include <fmt/format.h>

#include <filesystem>

#include "command.h"
#include "nibble/error.h"
#include "nibble/report.h"

namespace nibble::cli {

void add_method_option(CLI::App& command, std::string& method, const std::string& default_name) {
  std::vector<std::string> names = {kAutoMethod};
  for (const ObserverInfo& row : observer_table()) names.emplace_back(row.name);
  method = default_name;
  command
      .add_option(
          "--calibrate-method", method,
          joined(names) +
              "; options follow a colon, e.g. percentile:percentile=99.99 (`nibble list observers`). auto tries several on part of the "
              "calibration data and takes the one whose outputs stay closest to the float network's")
      ->type_name("METHOD")
      ->capture_default_str();
}

void check_method(const std::string& method) {
  if (method == kAutoMethod) return;
  try {
    make_observer(method);
  } catch (const Error& error) {
    throw UsageError(fmt::format("--calibrate-method: {} (or {})", error.what(), kAutoMethod));
  }
}

RangeTable calibrate_with(const std::string& method, const Graph& graph, const std::shared_ptr<const Dataset>& dataset,
                          const QuantScheme& scheme, const CalibrationSettings& settings, Progress& progress,
                          std::vector<MethodScore>& ladder) {
  CalibrateOptions options;
  options.target = {.type = scheme.defaults.activations.type, .symmetric = scheme.defaults.activations.symmetric};
  options.threads = settings.threads;
  options.keep_states = settings.keep_states;
  options.progress = &progress;
  if (method != kAutoMethod) {
    options.methods = {method};
    std::vector<RangeTable> tables = calibrate(graph, *dataset, options);
    return std::move(tables.at(0));
  }
  QuantizationLoss loss(graph, scheme, {.threads = settings.threads, .as = RunAs::kAuto, .progress = &progress});
  ChooseOptions choose;
  choose.seed = settings.seed;
  choose.calibrate = options;
  MethodChoice choice =
      choose_method(graph, dataset, choose, [&](const RangeTable& ranges, const Dataset& decide) { return loss(ranges, decide); });
  ladder = std::move(choice.ladder);
  progress.note(fmt::format("calibration method: {} (it kept the outputs closest to the float network's)", choice.method));
  return std::move(choice.ranges);
}

}  // namespace nibble::cli
