#include "train/trainer.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <future>
#include <numeric>

#include "base/atomic_file.h"
#include "base/fail.h"
#include "data/hasher.h"
#include "nibble/interpreter.h"
#include "nibble/onnx.h"
#include "report/scores.h"

namespace nibble::train {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double percent(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

std::string hash_of(std::string_view bytes) {
  Hasher hasher;
  hasher.add(bytes);
  return hasher.hex();
}

std::string hash_of(const Graph& graph) { return hash_of(serialize_onnx(graph)); }

// Everything that the result depends on beside the model, under the names of the command line.
std::map<std::string, std::string> options_as_text(const TrainOptions& options, const Dataset& data, const Dataset& evaluation) {
  const TrainQuantization& q = options.quantization;
  std::map<std::string, std::string> text;
  const auto put = [&](const char* name, const auto& value) { text[name] = fmt::format("{}", value); };
  put("--weight-method", q.weight_method);
  put("--activation-method", q.activation_method);
  put("--weight-bits", q.weight_bits);
  put("--activation-bits", q.activation_bits);
  put("--gradient-bits", q.gradient_bits);
  put("--estimator", q.estimator);
  std::string method_options;
  for (const auto& [name, value] : q.options) method_options += fmt::format("{}{}={}", method_options.empty() ? "" : ",", name, value);
  put("--method-options", method_options);
  put("--first-last", q.first_last == FirstLastPolicy::kSame ? "same" : q.first_last == FirstLastPolicy::kFloat ? "float" : "8");
  put("--per-tensor", q.per_channel ? "no" : "yes");
  put("--epochs", options.epochs);
  put("--batch", options.batch);
  put("--lr", options.learning_rate);
  constexpr const char* kSchedules[] = {"cosine", "step", "constant", "linear"};
  put("--schedule", kSchedules[static_cast<int>(options.schedule)]);
  put("--lr-steps", fmt::format("{}", fmt::join(options.step_epochs, ",")));
  put("--lr-factor", options.step_factor);
  put("--warmup", options.warmup_epochs);
  put("--optimizer", options.optimizer == TrainOptimizer::kSgd ? "sgd" : "adam");
  put("--momentum", options.momentum);
  put("--nesterov", options.nesterov);
  put("--betas", fmt::format("{},{},{}", options.beta1, options.beta2, options.epsilon));
  put("--weight-decay", options.weight_decay);
  put("--start-epoch", options.start_epoch);
  put("--freeze-bn", options.freeze_bn ? fmt::format("{}", *options.freeze_bn) : "");
  put("--augment", fmt::format("{}{}{}", options.crop ? "crop" : "", options.crop && options.flip ? "," : "", options.flip ? "flip" : ""));
  put("--teacher", options.teacher ? "the network " + hash_of(*options.teacher) : "");
  put("--distill-alpha", options.teacher ? options.distill_alpha : 1);
  put("--distill-temperature", options.teacher ? options.distill_temperature : 1);
  put("--seed", options.seed);
  put("--data", "the data " + data.hash());
  put("--eval-data", "the data " + evaluation.hash());
  return text;
}

void check_options(const TrainOptions& options) {
  const auto wrong = [](const char* what) { fail(ErrorCode::kInvalidArgument, "{}", what); };
  if (options.epochs < 1) wrong("--epochs: at least one epoch; to quantize a network as it is, use nibble quantize");
  if (options.batch < 1) wrong("--batch: at least one sample");
  if (!(options.learning_rate >= 0) || !std::isfinite(options.learning_rate)) wrong("--lr: a finite number that is not negative");
  if (!(options.momentum >= 0 && options.momentum < 1)) wrong("--momentum: from 0 to below 1");
  if (options.nesterov && (options.momentum == 0 || options.optimizer != TrainOptimizer::kSgd))
    wrong("--nesterov: needs --optimizer sgd and a momentum");
  if (!(options.weight_decay >= 0) || !std::isfinite(options.weight_decay)) wrong("--weight-decay: a finite number that is not negative");
  if (!(options.warmup_epochs >= 0) || options.warmup_epochs > static_cast<double>(options.epochs))
    wrong("--warmup: from 0 to the number of epochs");
  if (options.start_epoch < 0 || options.start_epoch >= options.epochs)
    wrong("--start-epoch: from 0 to the last epoch, which is one below --epochs: else nothing is ever quantized");
  if (options.freeze_bn && *options.freeze_bn < 0) wrong("--freeze-bn: an epoch, from 0 on");
  if (!(options.distill_alpha >= 0 && options.distill_alpha <= 1))
    wrong("--distill-alpha: from 0 (the teacher alone) to 1 (the labels alone)");
  if (!(options.distill_temperature > 0) || !std::isfinite(options.distill_temperature)) wrong("--distill-temperature: above 0");
  if (options.checkpoint_every < 0) wrong("--checkpoint-every: a number of steps");
  if (options.checkpoint_folder.empty() && options.resume) wrong("--resume: needs --checkpoint DIR, where the checkpoint is");
  if (options.checkpoint_folder.empty() && options.checkpoint_every > 0) wrong("--checkpoint-every: needs --checkpoint DIR");
}

void check_teacher(const Graph& teacher, const Graph& student, const Dataset& data, std::int64_t classes) {
  if (has_quantization(teacher)) fail(ErrorCode::kInvalidArgument, "--teacher: is quantized; a teacher is a float network");
  if (teacher.inputs().size() != 1 || teacher.outputs().empty())
    fail(ErrorCode::kInvalidArgument, "--teacher: has {} inputs and {} outputs; a classifier with one input is needed",
         teacher.inputs().size(), teacher.outputs().size());
  const TensorType& theirs = teacher.value(teacher.inputs()[0]).type;
  const TensorType& ours = student.value(student.inputs()[0]).type;
  const auto fits = [&] {
    if (theirs.has_rank != ours.has_rank || theirs.dims.size() != ours.dims.size()) return false;
    for (std::size_t i = 1; i < ours.dims.size(); ++i) {
      if (theirs.dims[i].known() && ours.dims[i].known() && theirs.dims[i].size != ours.dims[i].size) return false;
    }
    return true;
  };
  if (!fits())
    fail(ErrorCode::kInvalidArgument, "--teacher: takes {}, the trained network takes {}; both must take the same images",
         to_string(theirs), to_string(ours));
  const std::int64_t known = classes_of(teacher, data);
  if (known != classes)
    fail(ErrorCode::kInvalidArgument, "--teacher: knows {} classes, the trained network {}; both must know the same", known, classes);
}

// The first tensor of a list that holds a NaN or an infinity.
std::string first_not_finite(const std::vector<StateTensor>& tensors) {
  for (const StateTensor& tensor : tensors) {
    if (tensor.value.defined() && tensor.value.is_floating_point() && !torch::isfinite(tensor.value).all().item<bool>()) return tensor.name;
  }
  return "";
}

std::vector<StateTensor> as_state(const std::vector<Parameter>& parameters) {
  std::vector<StateTensor> tensors;
  for (const Parameter& parameter : parameters) tensors.push_back({parameter.name, parameter.value});
  return tensors;
}

std::vector<std::int64_t> range(std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(std::max<std::int64_t>(0, end - begin)));
  std::iota(indices.begin(), indices.end(), begin);
  return indices;
}

}  // namespace

std::int64_t classes_of(const Graph& graph, const Dataset& dataset) {
  if (dataset.size() == 0) fail(ErrorCode::kInvalidData, "{}: there are no samples", dataset.description());
  const Sample sample = dataset.sample(0);
  Interpreter interpreter(graph, InterpreterOptions{.threads = 1, .mode = ExecMode::kFast});
  const std::vector<Tensor> outputs = interpreter.run(sample.inputs);
  const ScoreLayout layout = outputs.empty() ? ScoreLayout{} : score_layout(outputs[0]);
  if (layout.rows != 1 || layout.classes < 2)
    fail(ErrorCode::kUnsupported, "the network's first output is no row of class scores{}; nibble train trains classifiers",
         outputs.empty() ? "" : fmt::format(" (its shape is {})", to_string(outputs[0].shape())));
  return layout.classes;
}

Trainer::Trainer(const Graph& graph, const Dataset& data, const Dataset& evaluation, const TrainOptions& options, Reducer& reducer,
                 TrainSink& sink)
    : graph_(graph),
      options_((check_options(options), options)),
      reducer_(reducer),
      sink_(sink),
      dtype_(options.double_precision ? torch::kFloat64 : torch::kFloat32),
      classes_(classes_of(graph, data)),
      train_(data, {.classes = classes_, .threads = options.threads, .progress = &sink, .stage = "read the training data"}),
      eval_(evaluation, {.classes = classes_, .threads = options.threads, .progress = &sink, .stage = "read the evaluation data"}),
      module_(graph, options.quantization, dtype_),
      optimizer_(options_),
      log_(reducer.rank() == 0 ? options.log_path : "") {
  if (options.teacher) {
    check_teacher(*options.teacher, graph, data, classes_);
    teacher_ = std::make_unique<TrainModule>(*options.teacher, TrainQuantization{}, dtype_);
  }
  if ((options.crop || options.flip) && !train_.has_pixels())
    fail(ErrorCode::kInvalidArgument, "--augment: the network's input is no image; leave it out");
  check_classes(data);
  run_.model_hash = hash_of(graph);
  run_.options = options_as_text(options, data, evaluation);

  report_.images = train_.size();
  report_.eval_images = eval_.size();
  report_.steps = options.epochs * steps_per_epoch();
  report_.processes = reducer.world_size();
  report_.notes = module_.notes();
  for (const Parameter& parameter : module_.parameters()) report_.parameters += parameter.value.numel();
}

// Classes that nothing is known of: a mistake where the data itself names its classes, else worth a word.
void Trainer::check_classes(const Dataset& data) const {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(classes_));
  for (const std::int64_t label : train_.labels()) ++counts[static_cast<std::size_t>(label)];
  std::vector<std::size_t> empty;
  for (std::size_t c = 0; c < counts.size(); ++c) {
    if (counts[c] == 0) empty.push_back(c);
  }
  if (empty.empty()) return;
  if (data.class_count() == classes_ && train_.size() >= classes_)
    fail(ErrorCode::kInvalidData, "{}: class {} has no samples to train on{}; is its folder empty?", data.description(), empty[0],
         empty.size() > 1 ? fmt::format(", nor have {} others", empty.size() - 1) : "");
  if (writes()) sink_.warn(fmt::format("{} of {} classes have no samples to train on, the first is {}", empty.size(), classes_, empty[0]));
}

StepInfo Trainer::step_info(const StepSamples& samples, bool training) const {
  StepInfo info = step_info(training);
  info.sample_ids = torch::tensor(samples.positions, torch::kInt64);
  info.global_batch = samples.count;
  if (!samples.shared) info.reducer = &single_process();
  return info;
}

StepInfo Trainer::step_info(bool training) const {
  return {.epoch = run_.epoch,
          .epochs = options_.epochs,
          .step = run_.step,
          .steps_per_epoch = steps_per_epoch(),
          .seed = options_.seed,
          .training = training,
          .quantize = run_.epoch >= options_.start_epoch,
          .freeze_statistics = options_.freeze_bn && run_.epoch >= *options_.freeze_bn,
          .sample_ids = {},
          .global_batch = 0,
          .reducer = &reducer_};
}

// Each process gets a contiguous part; sizes differ by one at most. A last batch with fewer samples than processes is computed by all of
// them alike, so that none is ever empty.
Trainer::StepSamples Trainer::step_samples(std::int64_t step_in_epoch) const {
  StepSamples samples;
  samples.begin = step_in_epoch * options_.batch;
  samples.count = std::min(options_.batch, train_.size() - samples.begin);
  const std::int64_t world = reducer_.world_size(), rank = reducer_.rank();
  samples.shared = samples.count >= world;
  const std::int64_t from = samples.shared ? samples.count * rank / world : 0;
  const std::int64_t to = samples.shared ? samples.count * (rank + 1) / world : samples.count;
  samples.positions = range(samples.begin + from, samples.begin + to);
  for (const std::int64_t position : samples.positions) samples.ids.push_back(order_[static_cast<std::size_t>(position)]);
  return samples;
}

torch::Tensor Trainer::to_network(const torch::Tensor& images) const { return images.to(dtype_); }

torch::Tensor Trainer::loss_of(const torch::Tensor& images, const torch::Tensor& logits, const torch::Tensor& labels,
                               std::int64_t global_batch) {
  const torch::Tensor log_p = torch::log_softmax(logits, 1);
  const auto count = static_cast<double>(global_batch);
  const torch::Tensor cross_entropy = -log_p.gather(1, labels.unsqueeze(1)).sum() / count;
  if (teacher_ == nullptr) return cross_entropy;
  const double alpha = options_.distill_alpha, temperature = options_.distill_temperature;
  torch::Tensor teacher_log_p;
  {
    torch::NoGradGuard guard;
    StepInfo info = step_info(false);
    info.reducer = &single_process();
    teacher_log_p = torch::log_softmax(teacher_->forward(images, info) / temperature, 1);
  }
  const torch::Tensor student_log_p = torch::log_softmax(logits / temperature, 1);
  const torch::Tensor kl = (teacher_log_p.exp() * (teacher_log_p - student_log_p)).sum() / count;
  return alpha * cross_entropy + (1 - alpha) * temperature * temperature * kl;
}

// One flat buffer for all gradients: one collective a step.
void Trainer::reduce_gradients(const std::vector<Parameter>& parameters) {
  if (reducer_.world_size() == 1) return;
  torch::NoGradGuard guard;
  std::vector<torch::Tensor> flat;
  for (const Parameter& parameter : parameters) {
    const torch::Tensor& gradient = parameter.value.grad();
    flat.push_back((gradient.defined() ? gradient : torch::zeros_like(parameter.value)).reshape({-1}).to(dtype_));
  }
  if (flat.empty()) return;
  torch::Tensor all = torch::cat(flat);
  reducer_.sum(all);
  std::int64_t at = 0;
  for (const Parameter& parameter : parameters) {
    const std::int64_t count = parameter.value.numel();
    torch::Tensor gradient = parameter.value.grad();
    if (gradient.defined()) gradient.copy_(all.slice(0, at, at + count).view(gradient.sizes()));
    at += count;
  }
}

void Trainer::fail_not_finite(const char* what, const torch::Tensor& images, const torch::Tensor& logits) {
  std::string name;
  if (!torch::isfinite(images).all().item<bool>()) name = "the images of the batch";
  if (name.empty()) name = first_not_finite(as_state(module_.parameters()));
  if (name.empty()) name = first_not_finite(module_.state());
  if (name.empty()) {
    std::vector<StateTensor> gradients;
    for (const Parameter& parameter : module_.parameters())
      gradients.push_back({"the gradient of " + parameter.name, parameter.value.grad()});
    name = first_not_finite(gradients);
  }
  if (name.empty() && logits.defined() && !torch::isfinite(logits).all().item<bool>()) name = "the network's output (its values overflow)";
  if (name.empty()) name = "none in this process";
  fail(ErrorCode::kInvalidData,
       "{} is not finite in epoch {}, step {}; the first bad tensor: {}; a lower --lr, or --warmup, is the usual cure{}", what,
       run_.epoch + 1, run_.step, name, options_.checkpoint_folder.empty() ? "" : "; the last checkpoint is from before");
}

Trainer::StepResult Trainer::take_step(const StepSamples& samples, const Batch& batch) {
  const StepInfo info = step_info(samples, true);
  const torch::Tensor images = to_network(batch.images);
  const torch::Tensor logits = module_.forward(images, info);
  const torch::Tensor loss = loss_of(images, logits, batch.labels, samples.count);
  const std::vector<Parameter> parameters = module_.parameters();
  for (const Parameter& parameter : parameters) parameter.value.mutable_grad().reset();
  loss.backward();

  torch::Tensor sums =
      torch::tensor({loss.item<double>(), logits.detach().argmax(1).eq(batch.labels).sum().item<double>(), 0.0}, torch::kFloat64);
  if (!samples.shared && !writes()) sums.zero_();  // all computed the same: it counts once
  sums[2] = sink_.cancelled() ? 1.0 : 0.0;
  reducer_.sum(sums);
  StepResult result{.loss = sums[0].item<double>(),
                    .correct = static_cast<std::int64_t>(sums[1].item<double>()),
                    .cancelled = sums[2].item<double>() > 0};
  if (!std::isfinite(result.loss)) fail_not_finite("the loss", images, logits);
  if (samples.shared) reduce_gradients(parameters);

  module_.after_backward(info);
  optimizer_.update(parameters, learning_rate_at(options_, run_.step, steps_per_epoch()));
  module_.after_update(info);
  return result;
}

void Trainer::begin_epoch() {
  order_ = epoch_order(options_.seed, run_.epoch, train_.size());
  if (run_.epoch > 0 && run_.epoch == options_.start_epoch) initialize();  // for the network that the float epochs have made
  run_.epoch_loss = run_.epoch_seconds = 0;
  run_.epoch_correct = run_.epoch_samples = 0;
  module_.begin_epoch(step_info(true));
}

void Trainer::train_epoch() {
  const std::int64_t steps = steps_per_epoch();
  const AugmentOptions augment{.crop = options_.crop, .flip = options_.flip, .seed = options_.seed, .epoch = run_.epoch};
  // The next batch is cut while the network computes.
  const auto prepare = [this, augment](std::int64_t step) {
    return std::async(std::launch::async, [this, augment, ids = step_samples(step).ids] { return train_.batch(ids, augment); });
  };
  Clock::time_point start = Clock::now();
  std::future<Batch> next;
  if (run_.step_in_epoch < steps) next = prepare(run_.step_in_epoch);  // else it was stopped between the last step and the evaluation
  while (run_.step_in_epoch < steps) {
    const StepSamples samples = step_samples(run_.step_in_epoch);
    const Batch batch = next.get();
    if (run_.step_in_epoch + 1 < steps) next = prepare(run_.step_in_epoch + 1);
    const StepResult result = take_step(samples, batch);
    report_.step_losses.push_back(result.loss);
    log_.step(run_.epoch, run_.step, result.loss, learning_rate_at(options_, run_.step, steps));
    run_.epoch_loss += result.loss * static_cast<double>(samples.count);
    run_.epoch_correct += result.correct;
    run_.epoch_samples += samples.count;
    ++run_.step;
    ++run_.step_in_epoch;
    if (writes()) sink_.advance(run_.epoch_samples);
    const bool last = run_.step_in_epoch == steps;
    run_.epoch_seconds += seconds_since(start);
    start = Clock::now();
    if (result.cancelled) stop();
    if (!last && options_.checkpoint_every > 0 && run_.step % options_.checkpoint_every == 0) {
      save();
      start = Clock::now();
    }
  }
}

double Trainer::evaluate(bool on_grids) {
  torch::NoGradGuard guard;
  constexpr std::int64_t kBatch = 250;
  torch::Tensor found = torch::zeros({eval_.size()}, torch::kInt64);
  StepInfo info = step_info(false);
  info.quantize = on_grids;
  info.reducer = &single_process();
  for (std::int64_t begin = 0, batch_index = 0; begin < eval_.size(); begin += kBatch, ++batch_index) {
    if (batch_index % reducer_.world_size() != reducer_.rank()) continue;
    const std::int64_t end = std::min(begin + kBatch, eval_.size());
    const Batch batch = eval_.batch(range(begin, end));
    info.sample_ids = torch::arange(begin, end, torch::kInt64);
    info.global_batch = end - begin;
    found.slice(0, begin, end).copy_(module_.forward(to_network(batch.images), info).argmax(1));
  }
  reducer_.sum(found);
  run_.eval_predictions.assign(found.data_ptr<std::int64_t>(), found.data_ptr<std::int64_t>() + found.numel());
  std::int64_t right = 0;
  for (std::size_t i = 0; i < run_.eval_predictions.size(); ++i) right += run_.eval_predictions[i] == eval_.labels()[i] ? 1 : 0;
  return percent(right, eval_.size());
}

Checkpoint Trainer::here() const {
  Checkpoint checkpoint = run_;
  checkpoint.parameters = as_state(module_.parameters());
  checkpoint.state = module_.state();
  checkpoint.optimizer = optimizer_.state();
  return checkpoint;
}

void Trainer::save() const {
  if (options_.checkpoint_folder.empty() || !writes()) return;
  Checkpoint checkpoint = here();
  checkpoint.log_bytes = const_cast<RunLog&>(log_).flush();
  write_file(checkpoint_path(options_.checkpoint_folder), serialize(checkpoint));
}

void Trainer::stop() const {
  save();
  if (options_.checkpoint_folder.empty())
    fail(ErrorCode::kInterrupted, "interrupted in epoch {}, step {}; nothing was saved, since there is no --checkpoint DIR", run_.epoch + 1,
         run_.step);
  fail(ErrorCode::kInterrupted, "interrupted in epoch {}, step {}; {} holds everything: the same command with --resume goes on",
       run_.epoch + 1, run_.step, checkpoint_path(options_.checkpoint_folder));
}

void Trainer::resume() {
  const std::string path = checkpoint_path(options_.checkpoint_folder);
  Checkpoint found = parse_checkpoint(read_file(path, "the checkpoint"), path);
  check_same_run(found, run_, path);
  const std::vector<StateTensor> parameters = std::move(found.parameters), state = std::move(found.state),
                                 optimizer = std::move(found.optimizer);
  run_ = std::move(found);
  run_.parameters.clear();
  run_.state.clear();
  run_.optimizer.clear();
  if (run_.epoch < 0 || run_.epoch > options_.epochs || run_.step_in_epoch < 0 || run_.step_in_epoch > steps_per_epoch())
    fail(ErrorCode::kInvalidData, "{}: stands in epoch {}, step {}, which this run does not have", path, run_.epoch + 1,
         run_.step_in_epoch);

  restore(parameters, as_state(module_.parameters()), path);
  restore(state, module_.state(), path);
  optimizer_.load(optimizer);
  if (writes())
    sink_.note(run_.epoch == options_.epochs ? "resuming: the training is done already"
                                             : fmt::format("resuming in epoch {}, step {}", run_.epoch + 1, run_.step));
}

// The first grids, from the first batch of the epoch; a checkpoint's take their place.
void Trainer::initialize() {
  order_ = epoch_order(options_.seed, run_.epoch, train_.size());
  const StepSamples samples = step_samples(0);
  module_.initialize(to_network(train_.batch(samples.ids).images), step_info(samples, true));
}

TrainResult Trainer::run() {
  if (!options_.checkpoint_folder.empty() && writes()) {
    std::error_code code;
    std::filesystem::create_directories(options_.checkpoint_folder, code);
    if (code) fail(ErrorCode::kIo, "--checkpoint: the folder {} cannot be made: {}", options_.checkpoint_folder, code.message());
  }
  if (writes()) {
    for (const std::string& note : report_.notes) sink_.note(note);
  }
  initialize();
  if (options_.resume)
    resume();
  else
    run_.initial_top1 = evaluate(true);
  log_.open(run_.log_bytes);
  if (!options_.resume) save();  // the folder can be written, and whatever happens there is something to go on from

  while (run_.epoch < options_.epochs) {
    if (writes()) sink_.begin(fmt::format("epoch {} of {}, images", run_.epoch + 1, options_.epochs), train_.size());
    if (run_.step_in_epoch == 0)
      begin_epoch();
    else
      order_ = epoch_order(options_.seed, run_.epoch, train_.size());
    train_epoch();
    if (writes()) sink_.end();
    const double eval_top1 = evaluate(run_.epoch >= options_.start_epoch);
    const EpochReport report{
        .epoch = run_.epoch,
        .loss = run_.epoch_loss / static_cast<double>(run_.epoch_samples),
        .train_top1 = percent(run_.epoch_correct, run_.epoch_samples),
        .eval_top1 = eval_top1,
        .learning_rate = learning_rate_at(options_, run_.step - 1, steps_per_epoch()),
        .seconds = run_.epoch_seconds,
        .images_per_second = run_.epoch_seconds > 0 ? static_cast<double>(run_.epoch_samples) / run_.epoch_seconds : 0};
    run_.epochs.push_back(report);
    log_.epoch(report);
    if (writes()) sink_.epoch_done(report);
    ++run_.epoch;
    run_.step_in_epoch = 0;
    save();
  }
  log_.flush();

  report_.initial_top1 = run_.initial_top1;
  report_.epochs = run_.epochs;
  report_.eval_predictions = run_.eval_predictions;
  report_.eval_top1 = run_.epochs.back().eval_top1;
  TrainResult result{.report = report_, .float_graph = module_.float_graph(), .network = std::nullopt};
  const TrainQuantization& q = options_.quantization;
  if (q.weight_method != "none" || q.activation_method != "none") {
    result.network = module_.trained();
    for (std::size_t i = report_.notes.size(); writes() && i < result.network->notes.size(); ++i) sink_.note(result.network->notes[i]);
    result.report.notes = result.network->notes;
  }
  return result;
}

}  // namespace nibble::train
