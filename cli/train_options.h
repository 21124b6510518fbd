// The command line of nibble train.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "nibble/train.h"

namespace nibble::cli {

struct TrainCommand {
  std::string command_line;
  std::string model, arch, output, save_float;
  DataOptions data;
  std::string eval_data;
  std::int64_t eval_samples = 0;
  std::string recipe;
  std::string method, weight_method, activation_method, weight_bits, activation_bits, gradient_bits, estimator = "ste", first_last = "8";
  std::string method_options;
  bool per_tensor = false;
  std::string teacher;
  std::string schedule = "cosine", lr_steps, optimizer = "sgd", augment;
  std::int64_t freeze_bn = -1;
  TrainOptions options;  // what needs no translation
  int nproc = 1;
  bool json = false, list_methods = false;
};
void add_train_options(CLI::App& app, TrainCommand& command);

// The words of a --recipe FILE.json stand before the others, those left out that the command line gives itself. Its keys are the names of
// the options without the dashes ({"method": "lsq", "weight-bits": 4}). Throws Error{kInvalidData} naming file and key.
std::vector<std::string> with_recipe(const CLI::App& app, std::vector<std::string> words);

// What the words mean; UsageError where they do not fit together.
TrainOptions train_options(const TrainCommand& command);

// After the command line was read: the whole story.
void run_train(const TrainCommand& command);

}  // namespace nibble::cli
