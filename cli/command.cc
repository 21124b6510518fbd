#include "command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <thread>

#include "nibble/error.h"

namespace nibble::cli {
namespace fs = std::filesystem;

void add_data_options(CLI::App& command, DataOptions& options, const std::string& samples_help) {
  command
      .add_option("--data", options.data,
                  "a folder of images; a folder with labels.csv (file,label); one folder a class; a folder or list (.txt) of .npy; an "
                  ".npz; MNIST IDX; "
                  "CIFAR-10 binary; an ONNX test_data_set folder; or random, random:SEED (smoke tests only)")
      ->type_name("DATA");
  command.add_option("--samples", options.samples, samples_help)->type_name("N")->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  command.add_option("--seed", options.seed, "of the draw of samples, where there are more than --samples")
      ->type_name("N")
      ->capture_default_str();
  command.add_option("--preprocess", options.preprocess, "preprocessing recipe of images (JSON) [MODEL.preprocess.json beside the model]")
      ->type_name("FILE");
}

void add_threads_option(CLI::App& command, int& threads) {
  constexpr int kMostThreads = 256;
  threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, static_cast<unsigned>(kMostThreads)));
  command.add_option("--threads", threads, "threads; results do not depend on it [one for each processor]")
      ->type_name("N")
      ->check(CLI::Range(1, kMostThreads));
}

void add_json_option(CLI::App& command, bool& json) { command.add_flag("--json", json, "one JSON object on stdout, nothing else there"); }

CLI::Option* add_model_option(CLI::App& command, std::string& model, const std::string& name, const std::string& help) {
  return command.add_option(name, model, help)->type_name("FILE");
}

std::unique_ptr<Dataset> open_data(const DataOptions& options, const Graph& graph, const std::string& model_path, Progress& progress) {
  return open_data(options, graph, find_recipe(options.preprocess, model_path), progress);
}

std::unique_ptr<Dataset> open_data(const DataOptions& options, const Graph& graph, const std::optional<PreprocessRecipe>& recipe,
                                   Progress& progress) {
  if (options.data.empty()) throw UsageError("--data is empty; it names a folder, a file, or random");
  auto dataset =
      open_dataset(options.data, {.inputs = input_specs(graph), .recipe = recipe, .max_samples = options.samples, .seed = options.seed});
  if (dataset->is_random())
    progress.warn(
        "RANDOM data (random): ranges and accuracy made from it mean nothing; use it to see whether a model runs, never to ship one");
  return dataset;
}

void check_output(const std::string& option, const std::string& path, const std::vector<std::string>& inputs) {
  if (path.empty()) throw UsageError(option + " is empty; it names the file to write");
  std::error_code code;
  const fs::file_status status = fs::symlink_status(path, code);
  if (fs::exists(status)) {
    for (const std::string& input : inputs) {
      if (!input.empty() && fs::equivalent(path, input, code))
        throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {} is the input itself; choose another name", option, path));
    }
    if (!fs::is_regular_file(status))
      throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {} exists and is no regular file; choose another name", option, path));
  }
  const fs::path folder = fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
  if (!fs::is_directory(folder, code))
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: there is no folder {} to write {} into; make it first", option, folder.string(), path));
  if (fs::path(path).filename().empty())
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {} names a folder, not a file", option, path));
}

bool same_file(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return a == b || fs::equivalent(a, b, ignored);
}

void print(const std::string& text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw Error(ErrorCode::kIo, fmt::format("cannot write to standard output: {}", std::strerror(errno)));
}

std::string base_name(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  return name.empty() ? fs::path(path).parent_path().filename().string() : name;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

void check_choice(const std::string& option, const std::string& word, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), word) == known.end())
    throw UsageError(fmt::format("{}: '{}' is unknown; known are {}", option, word, joined(known)));
}

}  // namespace nibble::cli
