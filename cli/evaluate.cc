#include <fmt/format.h>

#include "command.h"
#include "nibble/report.h"

namespace nibble::cli {

void add_evaluate(CLI::App& app, Context&) {
  struct Options {
    std::string model, reference;
    DataOptions data;
    int threads = 1;
    bool simulate = false;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("evaluate", "Measure a classifier's accuracy, and its agreement with a reference");
  add_model_option(command, options->model)->required();
  add_data_options(command, options->data, "evaluate at most N samples, drawn with --seed [all]");
  command.get_option("--data")->required();
  command.add_option("--reference", options->reference, "the float model: also report agreement, KL divergence and SQNR against it")
      ->type_name("FLOAT.onnx");
  command.add_flag("--simulate", options->simulate,
                   "run the quantized model in the simulation instead of the integer runtime (same bits, slower)");
  add_threads_option(command, options->threads);
  add_json_option(command, options->json);
  command.callback([options] {
    Progress progress;
    const Model model = load_model(options->model);
    std::optional<Model> reference;
    if (!options->reference.empty()) reference = load_model(options->reference);
    const auto dataset = open_data(options->data, model.graph, options->model, progress);
    progress.note(fmt::format("evaluating {} on {}", base_name(options->model), dataset->description()));
    const EvaluateResult result = evaluate(
        model, *dataset, {.threads = options->threads, .as = options->simulate ? RunAs::kSimulation : RunAs::kAuto, .progress = &progress},
        reference ? &*reference : nullptr);
    print(options->json ? to_json(result) : to_text(result));
  });
}

}  // namespace nibble::cli
