// nibble tune: the cheapest network that loses no more than it may.
#include "nibble/tune.h"

#include <fmt/format.h>

#include <charconv>

#include "calibration_options.h"
#include "command.h"
#include "nibble/error.h"
#include "nibble/report.h"
#include "scheme_options.h"

namespace nibble::cli {
namespace {

// "1", "1%".
double parse_drop(std::string text) {
  if (!text.empty() && text.back() == '%') text.pop_back();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value < 1e9))
    throw UsageError(fmt::format(
        "--max-drop: '{}' is no loss; expected a number that is not negative, e.g. 1% (points of accuracy) or 0.05 (nats)", text));
  return value;
}

}  // namespace

void add_tune(CLI::App& app, Context&) {
  struct Options {
    std::string model, metric, drop, method;
    DataOptions data;
    SchemeOptions scheme;
    std::int64_t max_size = 0;
    double max_minutes = 0;
    bool json = false;
    TuneOptions tune;
  };
  const auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("tune", "Search the smallest network that loses no more accuracy than it may");
  add_model_option(command, options->model, "MODEL", "the float model, an ONNX file")->required();
  add_data_options(command, options->data, "use at most N samples, drawn with --seed, spread over the classes [all]");
  command.get_option("--data")->required();
  command
      .add_option("--max-drop", options->drop,
                  "what may be lost: points of top1 or agreement (1%), nats (kl), dB below uniform quantization (sqnr)")
      ->type_name("LOSS")
      ->required();
  command
      .add_option(
          "--metric", options->metric,
          "top1, agreement, kl, sqnr, or command:CMD, a program that gets a folder of output .npy and prints one number, higher is better "
          "[top1 with labels, else kl, else sqnr]")
      ->type_name("METRIC");
  command.add_option("--command-seconds", options->tune.command_seconds, "until command:CMD is stopped")
      ->type_name("S")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str();
  command.add_option("--max-size", options->max_size, "done as soon as the file has no more bytes")
      ->type_name("BYTES")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 50));
  command.add_option("--max-trials", options->tune.max_trials, "networks that are tried")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  command.add_option("--max-minutes", options->max_minutes, "no new trial after so long")->type_name("N")->check(CLI::Range(0.0, 1e6));
  command.add_option("--state", options->tune.state, "folder for every trial: the same command goes on from there")
      ->type_name("DIR")
      ->required();
  command
      .add_option("-o,--output", options->tune.output,
                  "the best so far, always: OUT.onnx is the quantized model, its recipe beside it; OUT.json the recipe alone")
      ->type_name("OUT")
      ->required();
  command.add_option("--layer-samples", options->tune.sensitivity_samples, "samples for the layers' prices")
      ->type_name("N")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  add_method_option(command, options->method, "min_max");
  add_threads_option(command, options->tune.threads);
  add_json_option(command, options->json);
  add_scheme_options(command, options->scheme);
  command.callback([options] {
    Progress progress;
    TuneOptions& tune_options = options->tune;
    tune_options.max_drop = parse_drop(options->drop);
    if (!options->metric.empty()) {
      try {
        tune_options.metric = parse_metric(options->metric, tune_options.command);
      } catch (const Error& error) {
        throw UsageError(fmt::format("--metric: {}", error.what()));
      }
    }
    if (options->method == kAutoMethod)
      throw UsageError("--calibrate-method: tune takes one method, not auto; `nibble calibrate` says which is best");
    check_method(options->method);
    if (tune_options.state.empty()) throw UsageError("--state is empty; it names a folder");
    check_output("-o", tune_options.output, {options->model});
    tune_options.scheme = make_scheme(options->scheme);
    tune_options.method = options->method;
    if (options->max_size > 0) tune_options.max_size = options->max_size;
    if (options->max_minutes > 0) tune_options.max_minutes = options->max_minutes;
    tune_options.seed = options->data.seed;
    tune_options.metadata = {{"version", NIBBLE_VERSION}};
    tune_options.progress = &progress;
    const Model model = load_model(options->model);
    if (model.quantized)
      throw Error(ErrorCode::kInvalidArgument, fmt::format("{} is quantized already; tune needs the float model", options->model));
    const std::shared_ptr<const Dataset> data = open_data(options->data, model.graph, options->model, progress);
    const TuneResult result = tune(model.graph, data, tune_options);
    const auto recipe = find_recipe(options->data.preprocess, options->model);
    if (result.best > 0 && recipe && tune_options.output.ends_with(".onnx") &&
        !same_file(recipe_path_for(tune_options.output), recipe_path_for(options->model)))
      write_text_file(recipe_path_for(tune_options.output), to_json(*recipe));
    write_text_file((std::filesystem::path(tune_options.state) / "result.json").string(), to_json(result));
    print(options->json ? to_json(result) : to_text(result) + (result.best > 0 ? fmt::format("wrote {}\n", tune_options.output) : ""));
    if (result.best == 0)
      throw Error(ErrorCode::kInvalidData, fmt::format("no network lost at most {}; nothing was written", options->drop));
  });
}

}  // namespace nibble::cli
