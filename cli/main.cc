// nibble: quantize a trained network, measure what that cost, run it in integers. This program only reads its command line and prints: all
// work is done by the library.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "command.h"
#include "nibble/error.h"

namespace {

using namespace nibble::cli;

constexpr std::array kCommands = {add_inspect, add_quantize, add_calibrate, add_evaluate,
                                                add_run,     add_compare, add_analyze,  add_tune, add_benchmark, add_list};

// One line, whatever the message holds.
int report(std::string message, int code) {
  while (!message.empty() && message.back() == '\n') message.pop_back();
  std::replace(message.begin(), message.end(), '\n', ' ');
  std::fputs(("error: " + message + "\n").c_str(), stderr);
  return code;
}

// The words of the command line, folders taken off paths: equal runs in different places write equal files.
std::string command_line(int argc, char** argv) {
  std::string line = "nibble";
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    const std::size_t equals = word.starts_with("-") ? word.find('=') : std::string::npos;
    const std::string head = equals == std::string::npos ? "" : word.substr(0, equals + 1);
    if (equals != std::string::npos) word = word.substr(equals + 1);
    if (word.find('/') != std::string::npos && word.find_first_of("()|*[]^$\\") == std::string::npos) word = base_name(word);
    line += " " + head + word;
  }
  return line;
}

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
  std::signal(SIGXFSZ, SIG_IGN);  // a full quota is an error of write(), not the end of the program
  std::signal(SIGPIPE, SIG_IGN);  // so is a closed pipe
  catch_interrupts();

  Context context{.command_line = command_line(argc, argv)};
  CLI::App app("Quantizes trained ONNX networks, shows what that cost and why, and runs the result in integers.", "nibble");
  app.set_version_flag("--version", "nibble " NIBBLE_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.footer("`nibble COMMAND --help` explains a command. Exit code: 0 done, 2 wrong command line, 1 anything else.");
  for (const Registrar add : kCommands) add(app, context);
  try {
    check_first_word(app, argc, argv);
    app.parse(argc, argv);
    return kSuccess;
  } catch (const CLI::Success& help) {  // --help, --version
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return report(fmt::format("{} (see nibble --help)", error.what()), kWrongCommandLine);
  } catch (const UsageError& error) {
    return report(error.what(), kWrongCommandLine);
  } catch (const nibble::Error& error) {
    return report(error.what(), kFailure);
  } catch (const std::bad_alloc&) {
    return report("out of memory", kFailure);
  } catch (const std::exception& error) {
    return report(fmt::format("unexpected: {}; please report it", error.what()), kFailure);
  }
}
