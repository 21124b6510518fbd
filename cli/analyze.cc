// nibble analyze: what quantization costs each layer, and why.
#include "nibble/analyze.h"

#include <fmt/format.h>

#include "calibration_options.h"
#include "command.h"
#include "nibble/error.h"
#include "nibble/report.h"
#include "scheme_options.h"

namespace nibble::cli {

void add_analyze(CLI::App& app, Context&) {
  struct Options {
    std::string model, ranges, evaluation;
    DataOptions data;
    std::string method;
    SchemeOptions scheme;
    std::int64_t layer_samples = 8;
    int threads = 1;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("analyze", "Say what quantization costs each layer, name the causes and measure what fixes them");
  add_model_option(command, options->model, "MODEL", "the float model, an ONNX file")->required();
  add_data_options(command, options->data, "use at most N samples, drawn with --seed, spread over the classes [all]");
  command.get_option("--data")->required();
  command.add_option("--evaluation-data", options->evaluation, "judge on this data [part of --data]")->type_name("DATA");
  command.add_option("--ranges", options->ranges, "ranges made by nibble calibrate, to be looked into")->type_name("FILE.json");
  command.add_option("--layer-samples", options->layer_samples, "samples for the layers' figures")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  add_method_option(command, options->method, "min_max");
  add_threads_option(command, options->threads);
  add_json_option(command, options->json);
  add_scheme_options(command, options->scheme);
  command.callback([options] {
    Progress progress;
    AnalyzeOptions analyze_options;
    analyze_options.scheme = make_scheme(options->scheme);
    check_method(options->method);
    const Model model = load_model(options->model);
    if (model.quantized)
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} is quantized already; analyze needs the float model, which it quantizes itself", options->model));
    const std::shared_ptr<const Dataset> data = open_data(options->data, model.graph, options->model, progress);
    if (!options->evaluation.empty()) {
      DataOptions evaluation = options->data;
      evaluation.data = options->evaluation;
      evaluation.samples = 0;
      analyze_options.evaluation = open_data(evaluation, model.graph, options->model, progress);
    }
    if (!options->ranges.empty()) analyze_options.ranges = load_ranges(options->ranges);
    analyze_options.recipe = find_recipe(options->data.preprocess, options->model);
    analyze_options.seed = options->data.seed;
    analyze_options.threads = options->threads;
    analyze_options.sensitivity_samples = options->layer_samples;
    analyze_options.progress = &progress;
    if (options->method == kAutoMethod) {
      Graph graph = model.graph;
      canonicalize(graph);
      std::vector<MethodScore> ladder;
      if (!analyze_options.ranges)
        analyze_options.ranges = calibrate_with(kAutoMethod, graph, data, analyze_options.scheme,
                                                {.seed = options->data.seed, .threads = options->threads}, progress, ladder);
    } else {
      analyze_options.method = options->method;
    }
    const AnalyzeResult result = analyze(model.graph, data, analyze_options);
    print(options->json ? to_json(result) : to_text(result));
  });
}

}  // namespace nibble::cli
