// nibble quantize: a float model in, an integer model out. run_quantize() below is the whole story.
#include <fmt/format.h>

#include <regex>

#include "calibration_options.h"
#include "command.h"
#include "companions.h"
#include "method_options.h"
#include "nibble/error.h"
#include "nibble/onnx.h"
#include "nibble/passes.h"
#include "nibble/report.h"
#include "scheme_options.h"

namespace nibble::cli {
namespace {

struct Options {
  std::string model, output, ranges, report;
  DataOptions data;
  std::string method = kAutoMethod;
  SchemeOptions scheme;
  MethodListOptions methods;
  int threads = 1;
};

// The command as it stands in the metadata: without what cannot change a bit of the model (where it is written, the report, the threads).
std::string command_of_metadata(const std::string& command_line) {
  static const std::regex kWithoutEffect(R"( (-o|--output|--report|--threads)[ =]\S+| -o\S+)");
  return std::regex_replace(command_line, kWithoutEffect, "");
}

void warn_if_nothing_matches(const Graph& graph, const SchemeOptions& options, Progress& progress) {
  for (const std::string& text : options.nodes_to_exclude) {
    const std::regex regex(text);
    bool found = false;
    for (const Node& node : graph.nodes()) found = found || std::regex_match(node.name, regex);
    if (!found) progress.warn(fmt::format("--nodes-to-exclude '{}' matches no node; `nibble inspect` shows the names", text));
  }
}

void run_quantize(const Options& options, const std::string& command_line) {
  Progress progress;
  const QuantScheme scheme = make_scheme(options.scheme);
  const QuantFormat format = make_format(options.scheme);
  check_method(options.method);
  check_methods(options.methods);
  const bool calibrated = needs_ranges(scheme) || options.methods.methods != "none";  // methods look at activations
  const bool without_data = calibrated && options.ranges.empty() && options.data.data == "none";
  if (calibrated && options.data.data.empty() && options.ranges.empty())
    throw UsageError("--data is required: the images or arrays to calibrate on (or --ranges FILE)");
  check_output("-o", options.output, {options.model});
  if (!options.report.empty()) check_output("--report", options.report, {options.model, options.output, options.ranges});

  // Load; what is quantized already is refused: its float values are gone.
  const Model model = load_model(options.model);
  if (model.quantized)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} is quantized already; quantize needs the float model it was made from", options.model));

  // Beyond this point the graph is canonical: batch normalizations are folded, activations fused. Ranges are those of its values.
  Graph graph = model.graph;
  const std::vector<PassReport> passes = canonicalize(graph);
  warn_if_nothing_matches(graph, options.scheme, progress);

  QuantizeReport report{.input = base_name(options.model),
                        .output = base_name(options.output),
                        .method = {},
                        .ladder = {},
                        .scheme = scheme,
                        .format = options.scheme.format,
                        .data = {},
                        .data_hash = {},
                        .samples = 0,
                        .passes = passes,
                        .float_bytes = model.file_bytes,
                        .quantized_bytes = 0,
                        .metadata = {}};
  const std::optional<PreprocessRecipe> recipe = find_recipe(options.data.preprocess, options.model);
  RangeTable ranges;
  std::shared_ptr<const Dataset> dataset;
  if (!options.ranges.empty()) {
    ranges = load_ranges(options.ranges);
    report.data = "ranges of " + base_name(options.ranges);
    progress.note(fmt::format("quantizing {} with the ranges of {}", base_name(options.model), options.ranges));
  } else if (!calibrated) {
    report.data = "no data: activations have no fixed scales";
    progress.note(fmt::format("quantizing {} without data: activations have no fixed scales", base_name(options.model)));
    if (!options.data.data.empty()) progress.warn("--data is not used: in this format activations have no fixed scales");
  } else if (without_data) {
    report.data = "no data";
    progress.note(fmt::format("quantizing {} without data", base_name(options.model)));
  } else {
    dataset = open_data(options.data, model.graph, options.model, progress);
    report.data = dataset->description();
    progress.note(
        fmt::format("quantizing {}: calibrating with {} on {}", base_name(options.model), options.method, dataset->description()));
    ranges = calibrate_with(options.method, graph, dataset, scheme, {.seed = options.data.seed, .threads = options.threads}, progress,
                            report.ladder);
  }
  for (const std::string& warning : ranges.warnings) progress.warn(warning);
  report.method = ranges.method;
  report.data_hash = ranges.data_hash;
  report.samples = ranges.samples;

  // Methods rewrite weights, biases and grids; without any, graph and ranges stay what they are.
  const CalibrationSettings settings{.seed = options.data.seed, .threads = options.threads};
  MethodsRun methods = without_data ? run_methods_without_data(options.methods, model.graph, std::move(graph), scheme, recipe, settings, progress)
                                    : run_methods(options.methods, std::move(graph), std::move(ranges), scheme, dataset, settings, progress);
  if (without_data) report.method = methods.state.ranges.method;
  report.scheme = methods.state.scheme;  // auto may have given the weights zero points

  // Beyond this point every scale is known and no data is needed: the network is integers and the edges to the float world.
  const QuantizedGraph quantized = quantize(methods.state.graph, methods.state.ranges, methods.state.scheme);
  for (const std::string& warning : quantized.warnings) progress.warn(warning);
  if (progress.cancelled()) throw Error(ErrorCode::kInterrupted, "interrupted; nothing was written");

  report.metadata = {{"version", NIBBLE_VERSION},           {"command", command_of_metadata(command_line)},
                     {"law", to_string(quantized.law)},     {"scheme", to_json(report.scheme)},
                     {"calibration_method", report.method}, {"calibration_samples", std::to_string(report.samples)},
                     {"data_hash", report.data_hash},        {"methods", methods.methods}};
  const ExportOptions export_options{.format = format, .metadata = report.metadata, .weights = make_storage(options.scheme, report.scheme)};
  report.quantized_bytes = static_cast<std::int64_t>(serialize_onnx(export_graph(quantized, export_options)).size());

  // Beyond this point files appear. The small ones first: if the model cannot be written, they are taken back.
  Companions companions;
  if (recipe && !same_file(recipe_path_for(options.output), recipe_path_for(options.model)))
    companions.write(recipe_path_for(options.output), to_json(*recipe));
  if (!options.report.empty()) companions.write(options.report, to_json(report, quantized, methods.state.ranges));
  export_onnx(quantized, options.output, export_options, options.model);
  companions.keep();
  print(to_text(methods.ladder) + to_text(report, quantized) + fmt::format("wrote {}\n", options.output));
}

}  // namespace

void add_quantize(CLI::App& app, Context& context) {
  const auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("quantize", "Turn a float model into an int8 model that runs here and in ONNX Runtime");
  add_model_option(command, options->model, "MODEL", "the float model, an ONNX file")->required();
  command.add_option("-o,--output", options->output, "where to write the quantized model; its preprocessing recipe goes beside it")
      ->type_name("OUT.onnx")
      ->required();
  add_data_options(command, options->data, "calibrate on at most N samples, drawn with --seed, spread over the classes [all]");
  command.add_option("--ranges", options->ranges, "ranges made by nibble calibrate, instead of --data")->type_name("FILE.json");
  add_method_option(command, options->method, kAutoMethod);
  add_methods_option(command, options->methods);
  add_threads_option(command, options->threads);
  command.add_option("--report", options->report, "everything that was decided, layer by layer (JSON)")->type_name("FILE.json");
  add_scheme_options(command, options->scheme);
  command.callback([options, &context] { run_quantize(*options, context.command_line); });
}

}  // namespace nibble::cli
