#include "train_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "nibble/error.h"

namespace nibble::cli {
namespace {

constexpr int kMostThreads = 256, kMostProcesses = 256;

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

std::int64_t whole_number(const std::string& option, const std::string& text, std::int64_t least, std::int64_t most) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
    throw UsageError(fmt::format("{}: '{}' is no whole number from {} to {}", option, text, least, most));
  return value;
}

// How many processes share this machine.
int processes_here(const TrainCommand& command) {
  const char* local = std::getenv("LOCAL_WORLD_SIZE");  // torchrun's
  const int count = local != nullptr ? std::atoi(local) : train_processes().world_size;
  return std::max({1, command.nproc, count});
}

MethodOptions parse_method_options(const std::string& text) {
  MethodOptions options;
  for (const std::string& part : split(text, ',')) {
    const std::size_t equals = part.find('=');
    const std::string name = part.substr(0, equals), value = equals == std::string::npos ? "" : part.substr(equals + 1);
    double number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (name.empty() || value.empty() || error != std::errc() || end != value.data() + value.size())
      throw UsageError(fmt::format("--method-options: '{}' is not of the form NAME=NUMBER", part));
    if (!options.emplace(name, number).second) throw UsageError(fmt::format("--method-options: '{}' stands there twice", name));
  }
  return options;
}

TrainQuantization quantization(const TrainCommand& c) {
  TrainQuantization q;
  try {
    q = quantization_of_method(c.method.empty() ? "none" : c.method);
  } catch (const Error& error) {
    throw UsageError(fmt::format("--method: {}", error.what()));
  }
  const auto known = [](const char* option, const std::string& name, bool TrainMethodInfo::*side) {
    std::vector<std::string> names = {"none"};
    for (const TrainMethodInfo& row : train_method_table()) {
      if (row.*side) names.emplace_back(row.name);
    }
    check_choice(option, name, names);
  };
  if (!c.weight_method.empty()) {
    known("--weight-method", c.weight_method, &TrainMethodInfo::has_weights);
    q.weight_method = c.weight_method;
    q.weight_bits = widest_weight_bits(q.weight_method);
  }
  if (!c.activation_method.empty()) {
    known("--activation-method", c.activation_method, &TrainMethodInfo::has_activations);
    q.activation_method = c.activation_method;
    q.activation_bits = widest_activation_bits(q.activation_method);
  }
  const bool quantized = q.weight_method != "none" || q.activation_method != "none";
  if (!quantized && c.method.empty() && c.weight_method.empty() && c.activation_method.empty())
    throw UsageError(
        "--method is required: one of nibble list train-methods, or none for float training (or --weight-method, --activation-method)");
  // What nothing would come of.
  const auto needs = [](const std::string& given, const char* option, bool has, const char* what) {
    if (!given.empty() && !has) throw UsageError(fmt::format("{}: needs {}", option, what));
  };
  needs(c.weight_bits, "--weight-bits", q.weight_method != "none", "a method for the weights (--method, --weight-method)");
  needs(c.activation_bits, "--activation-bits", q.activation_method != "none",
        "a method for the activations (--method, --activation-method)");
  needs(c.gradient_bits, "--gradient-bits", quantized, "a method (--method, --weight-method)");
  needs(c.method_options, "--method-options", quantized, "a method (--method, --weight-method)");
  if (!c.weight_bits.empty()) q.weight_bits = static_cast<int>(whole_number("--weight-bits", c.weight_bits, 1, 8));
  if (!c.activation_bits.empty()) q.activation_bits = static_cast<int>(whole_number("--activation-bits", c.activation_bits, 1, 8));
  if (!c.gradient_bits.empty()) q.gradient_bits = static_cast<int>(whole_number("--gradient-bits", c.gradient_bits, 2, 32));
  check_choice("--estimator", c.estimator, {"ste", "dsq"});
  q.estimator = c.estimator;
  check_choice("--first-last", c.first_last, {"float", "8", "same"});
  q.first_last = c.first_last == "float" ? FirstLastPolicy::kFloat : c.first_last == "8" ? FirstLastPolicy::k8Bit : FirstLastPolicy::kSame;
  q.options = parse_method_options(c.method_options);
  q.per_channel = !c.per_tensor;
  return q;
}

}  // namespace

void add_train_options(CLI::App& app, TrainCommand& c) {
  const auto positive = CLI::Range(std::int64_t{1}, std::int64_t{1} << 40);
  TrainOptions& o = c.options;
  CLI::Option* model = add_model_option(app, c.model, "MODEL", "the float model, an ONNX classifier, trained or fresh");
  model->required(false);
  app.add_option("--arch", c.arch,
                 "instead of MODEL, begin anew: lenet5, vgg7, resnet20, mobilenet-small, for the shape and classes of the data")
      ->type_name("NAME")
      ->excludes(model);
  app.add_option("-o,--output", c.output, "where to write the trained model; its preprocessing recipe goes beside it")
      ->type_name("OUT.onnx");
  add_data_options(app, c.data, "train on at most N samples, drawn with --seed, spread over the classes [all]");
  app.add_option("--eval-data", c.eval_data, "labelled data to measure accuracy on after each epoch; nothing is chosen by it")
      ->type_name("DATA");
  app.add_option("--eval-samples", c.eval_samples, "evaluate on at most N samples [all]")->type_name("N")->check(positive);
  app.add_option("--recipe", c.recipe, "options in a file: {\"method\": \"lsq\", \"weight-bits\": 4, ...}; the command line goes first")
      ->type_name("FILE.json");

  const std::string quantization_group = "Quantization";
  app.add_option("--method", c.method, "weights and activations as one paper does it (`nibble list train-methods`); none: float training")
      ->type_name("NAME")
      ->group(quantization_group);
  app.add_option("--weight-method", c.weight_method, "of weights alone")->type_name("NAME")->group(quantization_group);
  app.add_option("--activation-method", c.activation_method, "of activations alone")->type_name("NAME")->group(quantization_group);
  app.add_option("--weight-bits", c.weight_bits, "[8, or the most that the method takes]")->type_name("N")->group(quantization_group);
  app.add_option("--activation-bits", c.activation_bits, "[8, or the most that the method takes]")
      ->type_name("N")
      ->group(quantization_group);
  app.add_option("--gradient-bits", c.gradient_bits, "[32: gradients are not quantized]")->type_name("N")->group(quantization_group);
  app.add_option("--estimator", c.estimator, "the gradient through rounding: ste, dsq")
      ->type_name("NAME")
      ->capture_default_str()
      ->group(quantization_group);
  app.add_option("--method-options", c.method_options, "of the methods, e.g. a=1,b=2 (`nibble list train-methods`)")
      ->type_name("K=V,...")
      ->group(quantization_group);
  app.add_option("--first-last", c.first_last, "the first and the last layer: float, 8 (bits), same (as all)")
      ->type_name("HOW")
      ->capture_default_str()
      ->group(quantization_group);
  app.add_flag("--per-tensor", c.per_tensor, "one scale a weight, where a method has the choice [one an output channel]")
      ->group(quantization_group);
  app.add_option("--start-epoch", o.start_epoch, "quantize from this epoch on (the first is 0); before it, ranges are observed")
      ->type_name("E")
      ->capture_default_str()
      ->group(quantization_group);
  app.add_option("--freeze-bn", c.freeze_bn, "keep batch normalization's statistics and observed ranges from this epoch on [never]")
      ->type_name("E")
      ->check(CLI::NonNegativeNumber)
      ->group(quantization_group);
  CLI::Option* teacher = app.add_option("--teacher", c.teacher, "a float network to learn from, too (distillation)")
                             ->type_name("FLOAT.onnx")
                             ->group(quantization_group);
  app.add_option("--distill-alpha", o.distill_alpha, "weight of the labels; 1 - it that of the teacher")
      ->needs(teacher)
      ->type_name("A")
      ->capture_default_str()
      ->group(quantization_group);
  app.add_option("--distill-temperature", o.distill_temperature, "of both networks' scores")
      ->needs(teacher)
      ->type_name("T")
      ->capture_default_str()
      ->group(quantization_group);

  const std::string training_group = "Training";
  app.add_option("--epochs", o.epochs, "passes over the data")->type_name("N")->capture_default_str()->group(training_group);
  app.add_option("--batch", o.batch, "samples a step, over all processes")->type_name("N")->capture_default_str()->group(training_group);
  app.add_option("--lr", o.learning_rate, "learning rate")->type_name("X")->capture_default_str()->group(training_group);
  app.add_option("--schedule", c.schedule, "of the learning rate: cosine, step, constant, linear")
      ->type_name("NAME")
      ->capture_default_str()
      ->group(training_group);
  app.add_option("--lr-steps", c.lr_steps, "epochs after which --schedule step multiplies by --lr-factor [half, three quarters]")
      ->type_name("E,E...")
      ->group(training_group);
  app.add_option("--lr-factor", o.step_factor, "of --schedule step")->type_name("X")->capture_default_str()->group(training_group);
  app.add_option("--warmup", o.warmup_epochs, "epochs over which the learning rate grows from 0")
      ->type_name("E")
      ->capture_default_str()
      ->group(training_group);
  app.add_option("--optimizer", c.optimizer, "sgd, adam")->type_name("NAME")->capture_default_str()->group(training_group);
  app.add_option("--momentum", o.momentum, "of sgd")->type_name("X")->capture_default_str()->group(training_group);
  app.add_flag("--nesterov", o.nesterov, "Nesterov's momentum")->group(training_group);
  app.add_option("--weight-decay", o.weight_decay,
                 "of weights; biases, batch normalization and quantizers have none unless their method asks")
      ->type_name("X")
      ->capture_default_str()
      ->group(training_group);
  app.add_option("--augment", c.augment, "of training images: crop (4 pixels of padding), flip (left-right), crop,flip")
      ->type_name("LIST")
      ->group(training_group);

  const std::string run_group = "Running";
  app.add_option("--checkpoint", o.checkpoint_folder, "save everything here after each epoch, and on Ctrl-C")
      ->type_name("DIR")
      ->group(run_group);
  app.add_option("--checkpoint-every", o.checkpoint_every, "and every so many steps")
      ->type_name("STEPS")
      ->check(positive)
      ->group(run_group);
  app.add_flag("--resume", o.resume, "go on from the checkpoint: equal options, the same result to the bit")->group(run_group);
  app.add_option("--log", o.log_path, "one JSON object a step and an epoch")->type_name("FILE.jsonl")->group(run_group);
  app.add_option("--save-float", c.save_float, "also write the trained parameters as a float model")
      ->type_name("FLOAT.onnx")
      ->group(run_group);
  app.add_option("--device", o.device, "cpu; nothing else yet")->type_name("NAME")->capture_default_str()->group(run_group);
  o.threads = 0;
  app.add_option("--threads", o.threads, "threads of each process [processors, shared out over the processes]")
      ->type_name("N")
      ->check(CLI::Range(1, kMostThreads))
      ->group(run_group);
  app.add_option("--nproc", c.nproc,
                 "processes on this machine; each takes its part of every batch. Elsewhere: torchrun --no-python nibble train ...")
      ->type_name("N")
      ->check(CLI::Range(1, kMostProcesses))
      ->group(run_group);
  app.add_flag("--float64", o.double_precision, "train in double precision (slow; for comparisons)")->group(run_group);
  add_json_option(app, c.json);
  app.add_flag("--list-methods", c.list_methods)->group("");
}

std::vector<std::string> with_recipe(const CLI::App& app, std::vector<std::string> words) {
  std::string path;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--recipe" && i + 1 < words.size()) path = words[i + 1];
    if (words[i].starts_with("--recipe=")) path = words[i].substr(std::string_view("--recipe=").size());
  }
  if (path.empty()) return words;
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  if (!file) throw Error(ErrorCode::kNotFound, fmt::format("{}: the recipe cannot be read", path));
  const auto json = nlohmann::json::parse(bytes.str(), nullptr, false);
  if (!json.is_object()) throw Error(ErrorCode::kInvalidData, fmt::format("{}: is no JSON object of options", path));
  std::vector<std::string> all;
  for (const auto& [key, value] : json.items()) {
    const std::string option = "--" + key;
    if (app.get_option_no_throw(option) == nullptr || key == "recipe")
      throw Error(ErrorCode::kInvalidData, fmt::format("{}: '{}' is no option of nibble train", path, key));
    const bool given =
        std::any_of(words.begin(), words.end(), [&](const std::string& word) { return word == option || word.starts_with(option + "="); });
    if (given || (value.is_boolean() && !value.get<bool>())) continue;
    if (value.is_boolean())
      all.push_back(option);
    else if (value.is_string() || value.is_number())
      all.push_back(option + "=" + (value.is_string() ? value.get<std::string>() : value.dump()));
    else
      throw Error(ErrorCode::kInvalidData, fmt::format("{}: '{}' is neither text, number nor true", path, key));
  }
  all.insert(all.end(), words.begin(), words.end());
  return all;
}

TrainOptions train_options(const TrainCommand& c) {
  TrainOptions o = c.options;
  o.quantization = quantization(c);
  check_choice("--schedule", c.schedule, {"cosine", "step", "constant", "linear"});
  o.schedule = c.schedule == "cosine"     ? LearningRateSchedule::kCosine
               : c.schedule == "step"     ? LearningRateSchedule::kStep
               : c.schedule == "constant" ? LearningRateSchedule::kConstant
                                          : LearningRateSchedule::kLinear;
  if (!c.lr_steps.empty() && c.schedule != "step") throw UsageError("--lr-steps: goes with --schedule step");
  for (const std::string& epoch : split(c.lr_steps, ',')) o.step_epochs.push_back(whole_number("--lr-steps", epoch, 1, o.epochs));
  check_choice("--optimizer", c.optimizer, {"sgd", "adam"});
  o.optimizer = c.optimizer == "sgd" ? TrainOptimizer::kSgd : TrainOptimizer::kAdam;
  for (const std::string& word : split(c.augment, ',')) {
    check_choice("--augment", word, {"crop", "flip"});
    (word == "crop" ? o.crop : o.flip) = true;
  }
  if (c.freeze_bn >= 0) o.freeze_bn = c.freeze_bn;
  o.seed = c.data.seed;
  if (o.threads == 0) o.threads = std::clamp(static_cast<int>(std::thread::hardware_concurrency()) / processes_here(c), 1, kMostThreads);
  return o;
}

}  // namespace nibble::cli
