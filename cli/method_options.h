// --methods of `quantize`: what is done to the network between calibration and quantization.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calibration_options.h"
#include "nibble/methods.h"
#include "progress.h"

namespace nibble::cli {

struct MethodListOptions {
  std::string methods = "none";  // a list, "auto" or "none"
};
void add_methods_option(CLI::App& command, MethodListOptions& options);
// UsageError where the list is wrong: unknown names or options, an order that makes no sense.
void check_methods(const MethodListOptions& options);

struct MethodsRun {
  MethodState state;
  std::string methods;
  std::vector<LadderRung> ladder;  // of "auto"
};
// `graph` is canonical, `ranges` were made by the observer `calibrate_method` on `dataset`.
MethodsRun run_methods(const MethodListOptions& options, Graph graph, RangeTable ranges, const QuantScheme& scheme,
                       const std::shared_ptr<const Dataset>& dataset, const CalibrationSettings& settings, Progress& progress);

// Without data: BatchNormalization tells the ranges; where a network has none left, synthetic inputs do, which is said aloud.
// `imported` is the network as its file has it.
MethodsRun run_methods_without_data(const MethodListOptions& options, const Graph& imported, Graph graph, const QuantScheme& scheme,
                                    const std::optional<PreprocessRecipe>& recipe, const CalibrationSettings& settings, Progress& progress);

}  // namespace nibble::cli
