#include <fmt/format.h>

#include "command.h"
#include "nibble/report.h"

namespace nibble::cli {

void add_compare(CLI::App& app, Context&) {
  struct Options {
    std::string float_model, quantized_model;
    DataOptions data;
    int threads = 1;
    bool simulate = false;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("compare", "Show value by value how far a quantized model is from its float model");
  add_model_option(command, options->float_model, "FLOAT", "the float model, an ONNX file")->required();
  add_model_option(command, options->quantized_model, "QUANTIZED", "the quantized model")->required();
  add_data_options(command, options->data, "compare on at most N samples, drawn with --seed [all]");
  command.get_option("--data")->required();
  command.add_flag("--simulate", options->simulate, "run the quantized model in the simulation instead of the integer runtime");
  add_threads_option(command, options->threads);
  add_json_option(command, options->json);
  command.callback([options] {
    Progress progress;
    const Model float_model = load_model(options->float_model);
    const Model quantized_model = load_model(options->quantized_model);
    const auto dataset = open_data(options->data, float_model.graph, options->float_model, progress);
    progress.note(fmt::format("comparing on {}", dataset->description()));
    const CompareResult result =
        compare(float_model, quantized_model, *dataset,
                {.threads = options->threads, .as = options->simulate ? RunAs::kSimulation : RunAs::kAuto, .progress = &progress});
    print(options->json ? to_json(result) : to_text(result));
  });
}

}  // namespace nibble::cli
