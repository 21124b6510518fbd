#include <fmt/format.h>

#include "calibration_options.h"
#include "command.h"
#include "nibble/error.h"
#include "nibble/passes.h"
#include "nibble/report.h"
#include "scheme_options.h"

namespace nibble::cli {
namespace {

struct Options {
  std::string model, output, shard, target = "ort-cpu";
  std::vector<std::string> merge;
  DataOptions data;
  std::string method;
  int threads = 1;
};

void run_merge(const Options& options) {
  if (!options.model.empty()) throw UsageError(fmt::format("--merge takes range files only, not the model {}", options.model));
  check_output("-o", options.output, {});
  std::vector<RangeTable> tables;
  for (const std::string& path : options.merge) tables.push_back(load_ranges(path));
  const RangeTable merged = merge_ranges(tables);
  save_ranges(merged, options.output);
  print(fmt::format("merged {} tables: {} samples, {} values, method {}\nwrote {}\n", tables.size(), merged.samples, merged.entries.size(),
                    merged.method, options.output));
}

void run_calibrate(const Options& options) {
  if (!options.merge.empty()) return run_merge(options);
  if (options.model.empty()) throw UsageError("MODEL is required (or --merge with range files)");
  if (options.data.data.empty()) throw UsageError("--data is required: the images or arrays to calibrate on");
  check_method(options.method);
  std::optional<Shard> shard;
  if (!options.shard.empty()) {
    try {
      shard = parse_shard(options.shard);
    } catch (const Error& error) {
      throw UsageError(fmt::format("--shard: {}", error.what()));
    }
    if (options.method == kAutoMethod)
      throw UsageError("--shard needs a --calibrate-method: auto compares methods on all of the data, which no shard has");
  }
  Progress progress;
  check_choice("--target", options.target, [] {
    std::vector<std::string> names;
    for (const TargetInfo& row : list_targets()) names.push_back(row.name);
    return names;
  }());
  const QuantScheme scheme = scheme_for_target(options.target);
  check_output("-o", options.output, {options.model});
  const Model model = load_model(options.model);
  if (model.quantized)
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{} is quantized already; calibrate needs the float model", options.model));
  Graph graph = model.graph;
  canonicalize(graph);
  std::shared_ptr<const Dataset> dataset = open_data(options.data, model.graph, options.model, progress);
  if (shard) dataset = subset(dataset, shard_indices(dataset->size(), *shard));
  progress.note(fmt::format("calibrating {} with {} on {}{}", base_name(options.model), options.method, dataset->description(),
                            shard ? fmt::format(" (shard {} of {}: {} samples)", shard->index, shard->count, dataset->size()) : ""));
  std::vector<MethodScore> ladder;
  const RangeTable ranges = calibrate_with(options.method, graph, dataset, scheme,
                                           {.seed = options.data.seed, .threads = options.threads, .keep_states = true}, progress, ladder);
  for (const std::string& warning : ranges.warnings) progress.warn(warning);
  save_ranges(ranges, options.output);
  print(fmt::format("{} samples, {} values, method {}\nwrote {}\n", ranges.samples, ranges.entries.size(), ranges.method, options.output));
}

}  // namespace

void add_calibrate(CLI::App& app, Context&) {
  const auto options = std::make_shared<Options>();
  CLI::App& command =
      *app.add_subcommand("calibrate", "Observe the ranges of a float model on data, for quantize --ranges; or merge shards");
  add_model_option(command, options->model, "MODEL", "the float model, an ONNX file");
  command.add_option("-o,--output", options->output, "where to write the ranges")->type_name("RANGES.json")->required();
  add_data_options(command, options->data, "calibrate on at most N samples, drawn with --seed, spread over the classes [all]");
  command
      .add_option("--shard", options->shard, "only the i-th of n contiguous parts of the samples, i from 1 to n; merge the parts in order")
      ->type_name("i/n");
  command.add_option("--merge", options->merge, "range files of all shards, in order")->type_name("FILE.json ...");
  command.add_option("--target", options->target, "preset whose activation grid the methods aim at")
      ->type_name("TARGET")
      ->capture_default_str();
  add_method_option(command, options->method, kAutoMethod);
  add_threads_option(command, options->threads);
  command.callback([options] { run_calibrate(*options); });
}

}  // namespace nibble::cli
