// nibble train: a float model and labelled data in, a model that runs in integers out. run_train() below is the whole story.
#include <fmt/format.h>

#include <regex>

#include "companions.h"
#include "nibble/error.h"
#include "nibble/onnx.h"
#include "nibble/passes.h"
#include "train_fresh.h"

namespace nibble::cli {
namespace {

class TrainProgress final : public TrainSink {
 public:
  explicit TrainProgress(Progress::Verbosity verbosity) : progress_(verbosity) {}
  void begin(std::string_view stage, std::int64_t total) override { progress_.begin(stage, total); }
  void advance(std::int64_t done) override { progress_.advance(done); }
  void end() override { progress_.end(); }
  void warn(const std::string& message) override { progress_.warn(message); }
  bool cancelled() override { return progress_.cancelled(); }
  void note(const std::string& message) override { progress_.note(message); }
  void epoch_done(const EpochReport& epoch) override {
    progress_.note(
        fmt::format("epoch {}: loss {:.4f}, training top-1 {:.2f} %, evaluation top-1 {:.2f} %, learning rate {:.3g}, {:.0f} images/s",
                    epoch.epoch + 1, epoch.loss, epoch.train_top1, epoch.eval_top1, epoch.learning_rate, epoch.images_per_second));
  }
  Progress& progress() { return progress_; }

 private:
  Progress progress_;
};

std::string list_train_methods() {
  std::string out = fmt::format("{:<22} float training\n", "none");
  for (const TrainMethodInfo& row : train_method_table()) {
    std::string sides;
    for (const auto& [has, side] :
         {std::pair{row.has_weights, "weights"}, {row.has_activations, "activations"}, {row.has_gradients, "gradients"}}) {
      if (has) sides += (sides.empty() ? "" : ", ") + std::string(side);
    }
    out += fmt::format("{:<22} {}: {} ({})\n", row.name, sides, row.summary, row.source);
    if (!row.options.empty()) out += fmt::format("{:<22}   options: {}\n", "", row.options);
  }
  return out;
}

// The command as it stands in the metadata: without what cannot change a bit of the model.
std::string command_of_metadata(const std::string& command_line) {
  static const std::regex kWithoutEffect(
      R"( (-o|--output|--log|--checkpoint|--checkpoint-every|--save-float)[ =]\S+| -o\S+| --(resume|json)\b)");
  return std::regex_replace(command_line, kWithoutEffect, "");
}

std::string with_thousands(std::int64_t number) {
  std::string text = std::to_string(number);
  for (auto i = static_cast<std::ptrdiff_t>(text.size()) - 3; i > 0; i -= 3) text.insert(static_cast<std::size_t>(i), ",");
  return text;
}

}  // namespace

void run_train(const TrainCommand& command) {
  if (command.list_methods) {
    print(list_train_methods());
    return;
  }
  const TrainOptions given = train_options(command);
  const bool quantized = given.quantization.weight_method != "none" || given.quantization.activation_method != "none";
  if (command.model.empty() && command.arch.empty())
    throw UsageError("MODEL is required: a float ONNX classifier; or --arch NAME, to begin anew");
  if (command.data.data.empty()) throw UsageError("--data is required: labelled images or arrays to train on");
  if (command.eval_data.empty()) throw UsageError("--eval-data is required: labelled images or arrays to measure accuracy on");
  if (command.output.empty()) throw UsageError("-o is required: where to write the trained model");
  if (given.epochs < 1) throw UsageError("--epochs: at least 1; to quantize a network without training it, use nibble quantize");
  check_output("-o", command.output, {command.model, command.teacher});
  if (!command.save_float.empty()) check_output("--save-float", command.save_float, {command.model, command.teacher, command.output});
  if (!given.log_path.empty()) check_output("--log", given.log_path, {command.model, command.teacher, command.output, command.save_float});

  // Load.
  const bool writes = train_processes().rank == 0;
  TrainProgress sink(writes ? Progress::Verbosity::kNormal : Progress::Verbosity::kQuiet);
  const StartingPoint start = starting_point(command);
  TrainOptions options = given;
  if (!command.teacher.empty()) options.teacher = import_onnx(command.teacher);
  const auto data = open_data(command.data, start.graph, start.recipe, sink.progress());
  DataOptions eval_options = command.data;
  eval_options.data = command.eval_data;
  eval_options.samples = command.eval_samples;
  const auto evaluation = open_data(eval_options, start.graph, start.recipe, sink.progress());
  if (writes) {
    const std::int64_t steps = (data->size() + options.batch - 1) / options.batch;
    const TrainQuantization& q = options.quantization;
    sink.note(fmt::format("training {} on {}, evaluating on {}", start.name, data->description(), evaluation->description()));
    sink.note(fmt::format("{} epochs of {} steps of {} images: {} steps in all", options.epochs, steps, options.batch,
                          with_thousands(options.epochs * steps)));
    sink.note(quantized ? fmt::format("weights: {}, {} bits; activations: {}, {} bits; first and last layer: {}", q.weight_method,
                                      q.weight_bits, q.activation_method, q.activation_bits, command.first_last)
                        : "in float: nothing is quantized");
  }

  TrainResult result = train_network(start.graph, *data, *evaluation, options, &sink);
  if (!writes) return;

  // Beyond this point files appear. The small ones first: if the model cannot be written, they are taken back.
  Companions companions;
  if (start.recipe) {
    for (const std::string& path : {command.output, command.save_float}) {
      if (!path.empty() && !same_file(recipe_path_for(path), recipe_path_for(command.model)))
        companions.write(recipe_path_for(path), to_json(*start.recipe));
    }
  }
  if (!command.save_float.empty()) companions.write(command.save_float, serialize_onnx(result.float_graph));
  if (result.network) {
    const QuantizedGraph network = quantize(result.network->graph, result.network->ranges, result.network->scheme);
    for (const std::string& warning : network.warnings) sink.warn(warning);
    const std::map<std::string, std::string> metadata = {{"version", NIBBLE_VERSION},
                                                         {"command", command_of_metadata(command.command_line)},
                                                         {"law", to_string(network.law)},
                                                         {"scheme", to_json(result.network->scheme)}};
    export_onnx(network, command.output, {.metadata = metadata}, command.model);
  } else {
    write_text_file(command.output, serialize_onnx(result.float_graph));
  }
  companions.keep();

  const Model written = load_model(command.output);
  const RuntimeCheck check = check_in_runtime(written, *evaluation, result.report.eval_predictions, options.threads, &sink);
  print(command.json ? to_json(result.report, check) : to_text(result.report, check) + fmt::format("wrote {}\n", command.output));
}

}  // namespace nibble::cli
