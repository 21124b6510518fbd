#include "command.h"
#include "nibble/report.h"

namespace nibble::cli {

void add_inspect(CLI::App& app, Context&) {
  struct Options {
    std::string model, target;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App& command =
      *app.add_subcommand("inspect", "Show a model: inputs, outputs, layers, parameters, MACs; of a quantized one the accumulator proofs");
  add_model_option(command, options->model)->required();
  command.add_option("--target", options->target, "also list what this target will not take, node by node (`nibble list targets`)")->type_name("TARGET");
  add_json_option(command, options->json);
  command.callback([options] {
    const InspectResult result = inspect(load_model(options->model), options->target);
    print(options->json ? to_json(result) : to_text(result));
  });
}

}  // namespace nibble::cli
