// nibble-train: what `nibble train` starts. A program of its own, so that nothing else loads libtorch.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "command.h"
#include "program.h"
#include "train_launch.h"
#include "train_options.h"

int main(int argc, char** argv) {
  using namespace nibble::cli;
  prepare_signals();
  CLI::App app("Trains a float ONNX classifier through the quantizer, and writes a model that runs in integers.", "nibble train");
  app.set_version_flag("--version", "nibble " NIBBLE_VERSION);
  app.get_formatter()->column_width(34);
  TrainCommand command;
  command.command_line = command_line("nibble train", argc, argv);
  add_train_options(app, command);
  int code = kSuccess;
  end_with_parent();
  const int failed = run_program(app, [&] {
    const std::vector<std::string> words = with_recipe(app, {argv + 1, argv + argc});
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // last word first, as CLI11 wants them
    if (command.nproc > 1 && !was_launched()) {
      if (nibble::train_processes().world_size > 1)
        throw UsageError("--nproc: these processes were started by somebody else (RANK is set); leave it out");
      code = launch_processes(command.nproc, words);
    } else {
      run_train(command);
    }
  });
  // After a failure threads of the other processes' connections may still wait for them.
  std::fflush(nullptr);
  std::_Exit(failed != kSuccess ? failed : code);
}
