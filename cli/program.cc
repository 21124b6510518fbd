#include "program.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "command.h"
#include "nibble/error.h"

namespace nibble::cli {
namespace {

// One line, whatever the message holds.
int report(const std::string& prefix, std::string message, int code) {
  while (!message.empty() && message.back() == '\n') message.pop_back();
  std::replace(message.begin(), message.end(), '\n', ' ');
  std::fputs(("error: " + prefix + message + "\n").c_str(), stderr);
  return code;
}

}  // namespace

std::string command_line(const std::string& program, int argc, char** argv) {
  std::string line = program;
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

void prepare_signals() {
  std::signal(SIGXFSZ, SIG_IGN);  // a full quota is an error of write(), not the end of the program
  std::signal(SIGPIPE, SIG_IGN);  // so is a closed pipe
  catch_interrupts();
}

int run_program(CLI::App& app, const std::function<void()>& body, const std::string& prefix) {
  const std::string name = app.get_name();
  try {
    body();
    return kSuccess;
  } catch (const CLI::Success& help) {  // --help, --version
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return report(prefix, fmt::format("{} (see {} --help)", error.what(), name), kWrongCommandLine);
  } catch (const UsageError& error) {
    return report(prefix, error.what(), kWrongCommandLine);
  } catch (const nibble::Error& error) {
    return report(prefix, error.what(), kFailure);
  } catch (const std::bad_alloc&) {
    return report(prefix, "out of memory", kFailure);
  } catch (const std::exception& error) {
    return report(prefix, fmt::format("unexpected: {}; please report it", error.what()), kFailure);
  }
}

}  // namespace nibble::cli
