#include "train_program.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "command.h"
#include "nibble/error.h"

namespace nibble::cli {

void become_train_program(char** arguments) {
  std::error_code code;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", code);
  const std::string program = (self.parent_path() / "nibble-train").string();
  if (code || ::access(program.c_str(), X_OK) != 0)
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("this build of nibble does not train: there is no {}. Training needs libtorch (Debian: libtorch-dev, libgloo-dev); "
                    "install it, and configure and build nibble again with -DNIBBLE_TRAIN=ON",
                    program));
  std::string name = "nibble-train";
  std::vector<char*> argv = {name.data()};
  while (*arguments != nullptr) argv.push_back(*arguments++);
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  throw Error(ErrorCode::kIo, fmt::format("{} cannot be started: {}", program, std::strerror(errno)));
}

// For `nibble --help`; the words after `train` are read by the other program.
void add_train(CLI::App& app, Context&) {
  app.add_subcommand("train", "Train a float model through the quantizer (quantization-aware training)");
}

}  // namespace nibble::cli
