// Calibration as `quantize` and `calibrate` do it.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "nibble/calibrate.h"
#include "nibble/quantize.h"
#include "progress.h"

namespace nibble::cli {

// The method that tries several and takes the one that holds accuracy best on the calibration data.
inline constexpr const char* kAutoMethod = "auto";

void add_method_option(CLI::App& command, std::string& method, const std::string& default_name);
// UsageError naming the known methods and their options.
void check_method(const std::string& method);

struct CalibrationSettings {
  std::uint64_t seed = 0;
  int threads = 1;
  bool keep_states = false;  // so that the table can be merged
};
// `graph` is canonical. `ladder` gets what each method scored, if the method is kAutoMethod.
RangeTable calibrate_with(const std::string& method, const Graph& graph, const std::shared_ptr<const Dataset>& dataset,
                          const QuantScheme& scheme, const CalibrationSettings& settings, Progress& progress,
                          std::vector<MethodScore>& ladder);

}  // namespace nibble::cli
