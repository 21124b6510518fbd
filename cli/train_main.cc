// nibble-train: what `nibble train` starts. A program of its own, so that nothing else loads libtorch.
#include "command.h"
#include "program.h"
#include "train_options.h"

int main(int argc, char** argv) {
  using namespace nibble::cli;
  prepare_signals();
  CLI::App app("Trains a float ONNX classifier through the quantizer, and writes a model that runs in integers.", "nibble train");
  app.set_version_flag("--version", "nibble " NIBBLE_VERSION);
  app.get_formatter()->column_width(34);
  TrainCommand command{.command_line = command_line("nibble train", argc, argv)};
  add_train_options(app, command);
  return run_program(app, [&] {
    std::vector<std::string> words(argv + 1, argv + argc);
    words = with_recipe(app, std::move(words));
    std::reverse(words.begin(), words.end());  // as CLI11 wants them
    app.parse(words);
    run_train(app, command);
  });
}
