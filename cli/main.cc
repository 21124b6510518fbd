// nibble: quantize a trained network, measure what that cost, run it in integers. This program only reads its command line and prints: all
// work is done by the library.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "command.h"
#include "program.h"
#include "train_program.h"

namespace {

using namespace nibble::cli;

constexpr std::array kCommands = {add_inspect, add_quantize, add_calibrate, add_evaluate,
                                                add_run,     add_compare, add_analyze,  add_tune, add_benchmark, add_list, add_train};

// CLI11 says of an unknown command only that there is none.
void check_first_word(const CLI::App& app, int argc, char** argv) {
  if (argc < 2) return;
  const std::string word = argv[1];
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands(nullptr)) known.push_back(command->get_name());
  if (word.starts_with("-")) {
    if (word != "-h" && word != "--help" && word != "--version")
      throw UsageError(fmt::format("unknown option '{}' (see nibble --help)", word));
  } else if (std::find(known.begin(), known.end(), word) == known.end()) {
    throw UsageError(fmt::format("there is no command '{}'; the commands are {}", word, joined(known)));
  }
}

}  // namespace

int main(int argc, char** argv) {
  prepare_signals();
  Context context{.command_line = command_line("nibble", argc, argv)};
  CLI::App app("Quantizes trained ONNX networks, shows what that cost and why, and runs the result in integers.", "nibble");
  app.set_version_flag("--version", "nibble " NIBBLE_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer("`nibble COMMAND --help` explains a command. Exit code: 0 done, 2 wrong command line, 1 anything else.");
  for (const Registrar add : kCommands) add(app, context);
  return run_program(app, [&] {
    check_first_word(app, argc, argv);
    if (argc > 1 && std::string(argv[1]) == "train") become_train_program(argv + 2);
    app.parse(argc, argv);
  });
}
