#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "command.h"
#include "nibble/error.h"
#include "nibble/report.h"

namespace nibble::cli {
namespace {

namespace fs = std::filesystem;

// NAME=FILE of --input, one for each input of the network.
std::vector<Tensor> read_inputs(const std::vector<std::string>& words, const Graph& graph) {
  std::vector<InputSpec> specs = input_specs(graph);
  std::vector<std::string> names;
  for (const InputSpec& spec : specs) names.push_back(spec.name);
  std::vector<std::string> files(specs.size());
  for (const std::string& word : words) {
    // A name may hold a '=': the longest known name wins.
    std::size_t best = specs.size();
    for (std::size_t i = 0; i < specs.size(); ++i) {
      if (word.starts_with(names[i] + "=") && (best == specs.size() || names[i].size() > names[best].size())) best = i;
    }
    if (best == specs.size()) {
      if (word.find('=') == std::string::npos)
        throw UsageError(fmt::format("--input: '{}' is no NAME=FILE.npy; the model's inputs are {}", word, joined(names)));
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("--input: the model has no input '{}'; its inputs are {}", word.substr(0, word.find('=')), joined(names)));
    }
    if (!files[best].empty()) throw UsageError(fmt::format("--input: '{}' is given twice", names[best]));
    files[best] = word.substr(names[best].size() + 1);
    if (files[best].empty()) throw UsageError(fmt::format("--input: '{}' names no file", word));
  }
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (files[i].empty())
      throw Error(ErrorCode::kInvalidArgument, fmt::format("input '{}' is missing: give --input {}=FILE.npy", names[i], names[i]));
    Tensor tensor = read_npy(files[i]);
    const DataType wanted = specs[i].type.dtype;
    // NumPy's default is float64: a real is a real.
    if (wanted != DataType::kUndefined && tensor.type() != wanted && is_float(wanted) && is_float(tensor.type()))
      tensor = cast(tensor, wanted);
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

// An output's name as a file name: what a file system or a shell could stumble over becomes '_'.
std::string file_name(const std::string& output, std::set<std::string>& taken) {
  std::string name;
  for (const char c : output) {
    const auto byte = static_cast<unsigned char>(c);
    name += byte < 0x21 || byte == 0x7f || std::string_view("/\\:*?\"<>|").find(c) != std::string_view::npos ? '_' : c;
  }
  constexpr std::size_t kLongest = 200;
  if (name.size() > kLongest) name.resize(kLongest);
  if (name.empty() || name[0] == '.') name = "_" + name;
  std::string unique = name;
  for (int i = 1; !taken.insert(unique).second; ++i) unique = fmt::format("{}_{}", name, i);
  return unique + ".npy";
}

void write_outputs(const std::vector<Tensor>& outputs, const Graph& graph, const fs::path& folder) {
  std::set<std::string> taken;
  std::vector<fs::path> written;
  try {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const fs::path path = folder / file_name(graph.value(graph.outputs()[i]).name, taken);
      const bool existed = fs::exists(path);
      write_npy(path.string(), outputs[i]);
      if (!existed) written.push_back(path);
    }
  } catch (...) {
    std::error_code ignored;
    for (const fs::path& path : written) fs::remove(path, ignored);
    throw;
  }
}

// Makes the folder, and takes it away again unless keep() is called.
class OutputFolder {
 public:
  explicit OutputFolder(const std::string& path) : path_(path) {
    if (path.empty()) throw UsageError("--output is empty; it names the folder for the outputs");
    std::error_code code;
    if (fs::exists(path_, code) && !fs::is_directory(path_, code))
      throw Error(ErrorCode::kInvalidArgument, fmt::format("--output: {} exists and is no folder", path));
    created_ = fs::create_directory(path_, code);
    if (code) throw Error(ErrorCode::kIo, fmt::format("--output: cannot make the folder {}: {}", path, code.message()));
  }
  ~OutputFolder() {
    std::error_code ignored;
    if (created_ && !keep_) fs::remove(path_, ignored);  // only if it is empty
  }
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;
  void keep() { keep_ = true; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  bool created_ = false;
  bool keep_ = false;
};

}  // namespace

void add_run(CLI::App& app, Context&) {
  struct Options {
    std::string model, data, output, preprocess;
    std::vector<std::string> inputs;
    int threads = 1;
    bool simulate = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("run", "Run a model once, or on each sample, and write its outputs as .npy files");
  add_model_option(command, options->model)->required();
  CLI::Option* input =
      command.add_option("--input", options->inputs, "an input; once for each")->type_name("NAME=FILE.npy")->allow_extra_args(false);
  CLI::Option* data =
      command.add_option("--data", options->data, "an ONNX test_data_set folder, or any other DATA of evaluate")->type_name("DATA");
  input->excludes(data);
  command
      .add_option("--output", options->output,
                  "folder for the outputs: one .npy each, named after it; with several samples one folder a sample")
      ->type_name("DIR")
      ->required();
  command.add_option("--preprocess", options->preprocess, "preprocessing recipe of images (JSON) [MODEL.preprocess.json beside the model]")
      ->type_name("FILE");
  command.add_flag("--simulate", options->simulate, "run a quantized model in the simulation instead of the integer runtime");
  add_threads_option(command, options->threads);
  command.callback([options] {
    if (options->inputs.empty() && options->data.empty())
      throw UsageError("give the inputs: --input NAME=FILE.npy for each, or --data DATA");
    Progress progress;
    const Model model = load_model(options->model);
    std::unique_ptr<Dataset> dataset;
    std::vector<Tensor> inputs;
    if (options->data.empty())
      inputs = read_inputs(options->inputs, model.graph);
    else
      dataset = open_data({.data = options->data, .samples = 0, .seed = 0, .preprocess = options->preprocess}, model.graph, options->model,
                          progress);
    const auto runner = make_runner(model, options->threads, options->simulate ? RunAs::kSimulation : RunAs::kAuto);
    OutputFolder folder(options->output);
    const std::int64_t samples = dataset ? dataset->size() : 1;
    for (std::int64_t i = 0; i < samples; ++i) {
      if (dataset) inputs = dataset->sample(i).inputs;
      const std::vector<Tensor> outputs = runner->run(inputs);
      if (samples == 1) {
        write_outputs(outputs, model.graph, folder.path());
      } else {
        OutputFolder inner((folder.path() / std::to_string(i)).string());
        write_outputs(outputs, model.graph, inner.path());
        inner.keep();
      }
      folder.keep();
      if (progress.cancelled()) throw Error(ErrorCode::kInterrupted, "interrupted");
    }
    print(fmt::format("{} output(s) of {} sample(s) in {}\n", model.graph.outputs().size(), samples, options->output));
  });
}

}  // namespace nibble::cli
