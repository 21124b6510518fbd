// What the subcommands share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "nibble/dataset.h"
#include "nibble/graph.h"
#include "progress.h"

namespace nibble::cli {

// A wrong command line: exit code 2. Everything else that goes wrong is a nibble::Error: exit code 1.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

constexpr int kSuccess = 0, kFailure = 1, kWrongCommandLine = 2;

// What every command gets from main().
struct Context {
  std::string command_line;  // as typed, folders taken off: it goes into the files that nibble writes
};

// Adds one subcommand; `run` is called after the whole command line was read.
using Registrar = void (*)(CLI::App& app, Context& context);
void add_inspect(CLI::App& app, Context& context);
void add_quantize(CLI::App& app, Context& context);
void add_calibrate(CLI::App& app, Context& context);
void add_evaluate(CLI::App& app, Context& context);
void add_run(CLI::App& app, Context& context);
void add_compare(CLI::App& app, Context& context);
void add_analyze(CLI::App& app, Context& context);
void add_tune(CLI::App& app, Context& context);
void add_benchmark(CLI::App& app, Context& context);
void add_list(CLI::App& app, Context& context);
void add_train(CLI::App& app, Context& context);

// Options that several commands have, with the same words everywhere.
struct DataOptions {
  std::string data;
  std::int64_t samples = 0;  // 0: all
  std::uint64_t seed = 0;
  std::string preprocess;
};
void add_data_options(CLI::App& command, DataOptions& options, const std::string& samples_help);
void add_threads_option(CLI::App& command, int& threads);
void add_json_option(CLI::App& command, bool& json);
CLI::Option* add_model_option(CLI::App& command, std::string& model, const std::string& name = "MODEL",
                              const std::string& help = "the model, an ONNX file");

// Opens the data for a network; the recipe is --preprocess, or that beside `model_path`. Warns aloud where the data is random.
std::unique_ptr<Dataset> open_data(const DataOptions& options, const Graph& graph, const std::string& model_path, Progress& progress);
std::unique_ptr<Dataset> open_data(const DataOptions& options, const Graph& graph, const std::optional<PreprocessRecipe>& recipe, Progress& progress);

// Refuses, before any work is done, what could not be written at the end: a missing folder, something that is no regular file, one of
// `inputs`.
void check_output(const std::string& option, const std::string& path, const std::vector<std::string>& inputs);

// True if both names lead to one file.
bool same_file(const std::string& a, const std::string& b);

// The text goes to stdout; Error{kIo} where that fails (a full disk, a closed pipe).
void print(const std::string& text);

// "a.onnx" of "/home/x/a.onnx".
std::string base_name(const std::string& path);

// "a, b, c" and the check of a choice against them; an unknown one is a UsageError that lists the known ones.
std::string joined(const std::vector<std::string>& words);
void check_choice(const std::string& option, const std::string& word, const std::vector<std::string>& known);

}  // namespace nibble::cli
