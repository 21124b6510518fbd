#include "command.h"
#include "nibble/report.h"

namespace nibble::cli {

void add_inspect(CLI::App& app, Context&) {
  struct Options {
    std::string model;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App& command =
      *app.add_subcommand("inspect", "Show a model: inputs, outputs, layers, parameters, MACs; of a quantized one the accumulator proofs");
  add_model_option(command, options->model)->required();
  add_json_option(command, options->json);
  command.callback([options] {
    const InspectResult result = inspect(load_model(options->model));
    print(options->json ? to_json(result) : to_text(result));
  });
}

}  // namespace nibble::cli
