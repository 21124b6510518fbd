#include "train/trainer.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <thread>

#include "nibble/error.h"
#include "train/processes.h"

namespace nibble::train {
namespace {

constexpr std::int64_t kClasses = 4, kSide = 16;

// Pictures of noise around one brightness a class: a small network learns them in some steps.
class Noise : public Dataset {
 public:
  explicit Noise(std::int64_t size, std::int64_t classes = kClasses) : size_(size), classes_(classes) {}
  std::int64_t size() const override { return size_; }
  Sample sample(std::int64_t index) const override {
    std::mt19937 random(static_cast<unsigned>(index));
    std::normal_distribution<float> normal(0, 0.3F);
    const std::int64_t label = index % classes_;
    Tensor image(DataType::kFloat32, {1, 1, kSide, kSide});
    for (float& value : image.mutable_data<float>()) value = static_cast<float>(label) / 2 + normal(random);
    return {.inputs = {image}, .label = label, .name = "row " + std::to_string(index)};
  }
  bool has_labels() const override { return true; }
  std::string description() const override { return "noise"; }
  std::string hash() const override { return "noise" + std::to_string(size_); }

 private:
  std::int64_t size_, classes_;
};

TrainOptions small_options(const std::string& method) {
  TrainOptions options;
  options.quantization = quantization_of_method(method);
  options.quantization.first_last = FirstLastPolicy::kSame;
  if (method != "none") options.quantization.activation_bits = 4;
  if (method != "none") options.quantization.weight_bits = method == "ttq" ? 2 : method == "binaryconnect" ? 1 : 4;
  options.epochs = 5;
  options.batch = 10;
  options.learning_rate = 0.02;
  options.double_precision = true;
  options.crop = options.flip = true;
  return options;
}

// Coarse grids leave some channels constant over a batch. Normalized, they are beta to the last bit; at beta 0 that bit decides whether
// their ReLU passes a gradient, and runs that add up in another order part. So no beta is 0.
Graph small_network() {
  Graph graph = make_architecture("lenet5", {1, kSide, kSide}, kClasses, 1);
  GraphEditor editor(graph);
  for (ValueId v = 0; v < static_cast<ValueId>(graph.values().size()); ++v) {
    if (!graph.is_constant(v) || !graph.value(v).name.ends_with(".beta")) continue;
    Tensor beta = *graph.value(v).constant;
    float next = 0.05F;
    for (float& value : beta.mutable_data<float>()) value = next = next < 0.2F ? next + 0.01F : 0.05F;
    editor.set_constant(v, beta);
  }
  editor.finish();
  return graph;
}

TrainReport run(const TrainOptions& options, Reducer& reducer, std::int64_t samples) {
  const Noise data(samples), evaluation(20);
  const Graph graph = small_network();
  TrainSink sink;
  return Trainer(graph, data, evaluation, options, reducer, sink).run().report;
}

// --- Several processes

struct Way {
  std::string name, method;
  int gradient_bits = 32;
  MethodOptions method_options = {};
  std::string activations = "";  // empty: the method's own
};
void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }
class Processes : public testing::TestWithParam<Way> {};

// ("ema" for weights is not among these: whether its farthest weight lies inside the grid, and gets a gradient, is decided by its last
// bit.) The same steps in one process and in two (threads here, joined by Gloo as processes are). 41 samples in batches of 10: the last
// batch has one sample, fewer than processes. Sums in another order differ by some ulps (2^-53), which 20 steps carry on: 1e-9 leaves them
// room.
TEST_P(Processes, TwoGiveTheLossesOfOne) {
  constexpr double kTolerance = 1e-9;
  const Way& way = GetParam();
  TrainOptions options = small_options(way.method);
  options.quantization.gradient_bits = way.gradient_bits;
  options.quantization.options = way.method_options;
  if (!way.activations.empty()) options.quantization.activation_method = way.activations;
  options.epochs = 4;
  const std::vector<double> one = run(options, single_process(), 41).step_losses;
  ASSERT_EQ(one.size(), 20U);

  const TrainStoreHost host;
  std::vector<std::vector<double>> losses(2);
  std::vector<std::string> errors(2);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        const auto reducer = join_processes({.rank = static_cast<int>(rank),
                                             .world_size = 2,
                                             .address = "127.0.0.1",
                                             .port = static_cast<std::uint16_t>(host.port()),
                                             .agent_store = true,
                                             .attempt = "0"});
        losses[rank] = run(options, *reducer, 41).step_losses;
      } catch (const std::exception& error) {
        errors[rank] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(errors[0], "");
  ASSERT_EQ(errors[1], "");
  EXPECT_EQ(losses[0], losses[1]);
  ASSERT_EQ(losses[0].size(), one.size());
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_LE(std::abs(losses[0][i] - one[i]), kTolerance * one[i]) << "step " << i;
}

INSTANTIATE_TEST_SUITE_P(Ways, Processes,
                         testing::Values(Way{"Float", "none"}, Way{"Lsq", "lsq"}, Way{"EmaActivations", "lsq", 32, {}, "ema"},
                                         Way{"DoReFa", "dorefa", 6}, Way{"Inq", "inq"}, Way{"Ttq", "ttq"},
                                         Way{"StochasticBinaryConnect", "binaryconnect", 32, {{"stochastic", 1}}}),
                         [](const auto& way) { return way.param.name; });

TEST(Trainer, Learns) {
  TrainOptions options = small_options("lsq");
  options.crop = false;
  const TrainReport report = run(options, single_process(), 80);
  EXPECT_LT(report.epochs.back().loss, report.epochs.front().loss);
  EXPECT_GT(report.eval_top1, 50);  // guessing: 25
  EXPECT_EQ(report.step_losses.size(), 40U);
}

// Float epochs are a float run's, whatever is quantized after them; evaluations, too.
TEST(Trainer, FloatEpochsAreThoseOfAFloatRun) {
  for (const char* method : {"binaryconnect", "lsq"}) {
    TrainOptions options = small_options(method);
    options.start_epoch = 2;
    TrainOptions plain = small_options("none");
    const TrainReport quantized = run(options, single_process(), 41), in_float = run(plain, single_process(), 41);
    for (std::size_t step = 0; step < 10; ++step) EXPECT_EQ(quantized.step_losses[step], in_float.step_losses[step]) << method << step;
    EXPECT_NE(quantized.step_losses[10], in_float.step_losses[10]) << method;
    for (std::size_t epoch = 0; epoch < 2; ++epoch)
      EXPECT_EQ(quantized.epochs[epoch].eval_top1, in_float.epochs[epoch].eval_top1) << method;
  }
}

TEST(Trainer, ResumesToTheSameLosses) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "nibble_trainer_resume";
  std::filesystem::remove_all(folder);
  // Stops at a step by saying that it was interrupted.
  class Interrupt : public TrainSink {
   public:
    explicit Interrupt(int after) : left_(after) {}
    void begin(std::string_view stage, std::int64_t) override { training_ = stage.starts_with("epoch"); }
    bool cancelled() override { return training_ && left_-- <= 0; }

   private:
    int left_;
    bool training_ = false;
  };
  const Noise data(41), evaluation(20);
  const Graph graph = small_network();
  TrainOptions options = small_options("inq");
  options.optimizer = TrainOptimizer::kAdam;
  options.learning_rate = 0.002;
  const std::vector<double> whole = run(options, single_process(), 41).step_losses;
  options.checkpoint_folder = folder.string();
  for (const int stop : {0, 4, 6, 11}) {  // the first step, the last of an epoch, in the middle of others
    TrainSink quiet;
    Interrupt interrupt(stop);
    options.resume = false;
    EXPECT_THROW(Trainer(graph, data, evaluation, options, single_process(), interrupt).run(), Error);
    options.resume = true;
    const std::vector<double> rest = Trainer(graph, data, evaluation, options, single_process(), quiet).run().report.step_losses;
    ASSERT_EQ(rest.size(), whole.size() - static_cast<std::size_t>(stop) - 1);
    for (std::size_t i = 0; i < rest.size(); ++i)
      EXPECT_EQ(rest[i], whole[whole.size() - rest.size() + i]) << "stopped after " << stop << ", step " << i;
  }
  std::filesystem::remove_all(folder);
}

void expect_refused(const std::function<void()>& call, const std::string& words) {
  try {
    call();
    ADD_FAILURE() << "nothing was refused: " << words;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }
}

TEST(Trainer, RefusesTeachersThatDoNotFit) {
  const Noise data(20);
  const Graph graph = small_network();
  TrainSink sink;
  TrainOptions options = small_options("none");
  options.teacher = make_architecture("lenet5", {1, kSide, kSide}, kClasses + 1, 1);
  expect_refused([&] { Trainer(graph, data, data, options, single_process(), sink); }, "--teacher: knows 5 classes");
  options.teacher = make_architecture("lenet5", {3, kSide, kSide}, kClasses, 1);
  expect_refused([&] { Trainer(graph, data, data, options, single_process(), sink); }, "--teacher: takes");
}

TEST(Trainer, ATeacherAloneTeaches) {
  TrainOptions options = small_options("none");
  options.crop = options.flip = false;
  options.teacher = small_network();
  options.distill_alpha = 0;
  options.learning_rate = 0;
  options.epochs = 1;
  // Teacher and student are the same network, but batch normalization's statistics are of the batch in training: KL is small, not 0.
  for (const double loss : run(options, single_process(), 20).step_losses) EXPECT_GE(loss, 0);
}

TEST(Trainer, RefusesLabelsThatTheNetworkDoesNotKnow) {
  const Noise data(20, kClasses + 1);
  const Graph graph = small_network();
  TrainSink sink;
  expect_refused([&] { Trainer(graph, data, data, small_options("none"), single_process(), sink); }, "row 4: its label 4");
}

// --- Data

TEST(Samples, OrderIsAPermutationOfSeedAndEpoch) {
  const std::vector<std::int64_t> order = epoch_order(7, 3, 1000);
  std::vector<std::int64_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (std::int64_t i = 0; i < 1000; ++i) EXPECT_EQ(sorted[static_cast<std::size_t>(i)], i);
  EXPECT_EQ(order, epoch_order(7, 3, 1000));
  EXPECT_NE(order, epoch_order(7, 4, 1000));
  EXPECT_NE(order, epoch_order(8, 3, 1000));
}

TEST(Samples, AugmentationsCoverTheirRangeAndDependOnTheSampleAlone) {
  std::set<std::int64_t> places;
  int flips = 0;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const Augmentation a = augmentation_of(1, 2, i, true, true);
    places.insert(a.dy);
    EXPECT_LE(std::abs(a.dx), kCropPadding);
    flips += a.flip ? 1 : 0;
    EXPECT_EQ(augmentation_of(1, 2, i, true, false).dx, a.dx);
  }
  EXPECT_EQ(places.size(), 9U);
  EXPECT_NEAR(flips, 500, 80);  // five standard deviations
}

TEST(Samples, CropsMoveTheImageAndFlipsMirrorIt) {
  const Noise data(30);
  const Samples samples(data, {.classes = kClasses, .threads = 2});
  const torch::Tensor plain = samples.batch({5}).images[0][0];
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
    const Augmentation a = augmentation_of(1, epoch, 5, true, true);
    const torch::Tensor padded = torch::constant_pad_nd(a.flip ? plain.flip({1}) : plain, {4, 4, 4, 4});
    // The flip is of what was cut out: its columns are those of the window, mirrored.
    const std::int64_t dx = a.flip ? -a.dx : a.dx;
    const torch::Tensor expected = padded.slice(0, 4 + a.dy, 4 + a.dy + kSide).slice(1, 4 + dx, 4 + dx + kSide);
    const torch::Tensor found = samples.batch({5}, {.crop = true, .flip = true, .seed = 1, .epoch = epoch}).images[0][0];
    EXPECT_TRUE(torch::equal(found, expected)) << "epoch " << epoch;
  }
}

TEST(Samples, ThoseThatDoNotFitIntoMemoryAreReadAgain) {
  const Noise data(30);
  const Samples held(data, {.classes = kClasses, .threads = 1}), read(data, {.classes = kClasses, .threads = 2, .memory_limit = 100});
  EXPECT_TRUE(held.in_memory());
  EXPECT_FALSE(read.in_memory());
  const Batch a = held.batch({29, 3, 3, 0}), b = read.batch({29, 3, 3, 0});
  EXPECT_TRUE(torch::equal(a.images, b.images));
  EXPECT_TRUE(torch::equal(a.labels, b.labels));
}

// --- Optimizers

std::vector<Parameter> two_parameters() {
  return {
      {.name = "w", .kind = Parameter::Kind::kWeight, .value = torch::tensor({1.0, -2.0, 3.0}, torch::kFloat64).set_requires_grad(true)},
      {.name = "b", .kind = Parameter::Kind::kBias, .value = torch::tensor({0.5}, torch::kFloat64).set_requires_grad(true)}};
}

template <typename Torch>
void expect_equal_to(Torch&& make, const TrainOptions& options) {
  constexpr double kTolerance = 1e-13;  // some roundings of numbers near 1
  std::vector<Parameter> ours = two_parameters(), theirs = two_parameters();
  // Torch's groups: weight decay of the weight alone.
  auto other = make(std::vector<torch::Tensor>{theirs[0].value}, options.weight_decay), bias = make({theirs[1].value}, 0.0);
  Optimizer optimizer(options);
  for (int step = 0; step < 7; ++step) {
    for (auto* parameters : {&ours, &theirs}) {
      for (Parameter& p : *parameters) {
        p.value.mutable_grad().reset();
        (p.value.sin() * p.value).sum().backward();
      }
    }
    optimizer.update(ours, options.learning_rate);
    other.step();
    bias.step();
    for (std::size_t i = 0; i < ours.size(); ++i)
      EXPECT_LT((ours[i].value - theirs[i].value).abs().max().item<double>(), kTolerance) << ours[i].name << ", step " << step;
  }
}

TEST(Optimizer, SgdIsTorchs) {
  TrainOptions options;
  options.learning_rate = 0.1;
  options.weight_decay = 0.01;
  for (const bool nesterov : {false, true}) {
    options.nesterov = nesterov;
    expect_equal_to(
        [&](std::vector<torch::Tensor> tensors, double decay) {
          return torch::optim::SGD(std::move(tensors), torch::optim::SGDOptions(0.1).momentum(0.9).nesterov(nesterov).weight_decay(decay));
        },
        options);
  }
}

TEST(Optimizer, AdamIsTorchs) {
  TrainOptions options;
  options.optimizer = TrainOptimizer::kAdam;
  options.learning_rate = 0.1;
  options.weight_decay = 0.01;
  expect_equal_to([](std::vector<torch::Tensor> tensors,
                     double decay) { return torch::optim::Adam(std::move(tensors), torch::optim::AdamOptions(0.1).weight_decay(decay)); },
                  options);
}

TEST(Optimizer, SchedulesAtTheirEnds) {
  TrainOptions options;
  options.epochs = 10;
  options.learning_rate = 2;
  const std::int64_t per_epoch = 100;
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 0, per_epoch), 2);
  EXPECT_NEAR(learning_rate_at(options, 500, per_epoch), 1, 1e-12);
  options.schedule = LearningRateSchedule::kLinear;
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 750, per_epoch), 0.5);
  options.schedule = LearningRateSchedule::kStep;
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 499, per_epoch), 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 500, per_epoch), 0.2);
  EXPECT_NEAR(learning_rate_at(options, 700, per_epoch), 0.02, 1e-15);
  for (const std::int64_t epochs : {1, 2, 3}) {  // short runs start with the whole rate and fall once at a time
    options.epochs = epochs;
    EXPECT_DOUBLE_EQ(learning_rate_at(options, 0, per_epoch), 2);
    EXPECT_DOUBLE_EQ(learning_rate_at(options, epochs * per_epoch - 1, per_epoch), epochs == 1 ? 2 : epochs == 2 ? 0.2 : 2 * 0.1 * 0.1);
  }
  options.epochs = 10;
  options.schedule = LearningRateSchedule::kConstant;
  options.warmup_epochs = 2;
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 0, per_epoch), 0.01);
  EXPECT_DOUBLE_EQ(learning_rate_at(options, 199, per_epoch), 2);
}

// --- Checkpoints

Checkpoint some_checkpoint() {
  Checkpoint checkpoint;
  checkpoint.model_hash = "abc";
  checkpoint.options = {{"--lr", "0.1"}, {"--seed", "3"}};
  checkpoint.epoch = 2;
  checkpoint.step = 17;
  checkpoint.epoch_loss = 0.1;
  checkpoint.epochs = {{.epoch = 1, .loss = 1.0 / 3}};
  checkpoint.parameters = {{"w", torch::randn({2, 3}, torch::kFloat32)}};
  checkpoint.state = {{"mask", torch::tensor({true, false})}, {"steps", torch::tensor({5}, torch::kInt64)}};
  checkpoint.optimizer = {{"w/momentum", torch::randn({2, 3}, torch::kFloat64)}};
  return checkpoint;
}

TEST(Checkpoint, ComesBackToTheBit) {
  const Checkpoint before = some_checkpoint();
  const std::string bytes = serialize(before);
  const Checkpoint after = parse_checkpoint(bytes, "test");
  EXPECT_EQ(serialize(after), bytes);
  EXPECT_TRUE(torch::equal(after.parameters[0].value, before.parameters[0].value));
  EXPECT_EQ(after.epochs[0].loss, 1.0 / 3);
}

TEST(Checkpoint, EveryCutAndEveryFlippedByteIsRefused) {
  const std::string bytes = serialize(some_checkpoint());
  for (std::size_t size = 0; size < bytes.size(); size += 7)
    EXPECT_THROW(parse_checkpoint(std::string_view(bytes).substr(0, size), "test"), Error) << size;
  for (std::size_t i = 0; i < bytes.size(); i += 5) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_THROW(parse_checkpoint(damaged, "test"), Error) << i;
  }
}

TEST(Checkpoint, OfAnotherRunIsRefusedByName) {
  const Checkpoint found = some_checkpoint();
  Checkpoint expected = some_checkpoint();
  expected.options["--lr"] = "0.2";
  expect_refused([&] { check_same_run(found, expected, "test"); }, "was made with --lr 0.1, not 0.2");
  expected.model_hash = "other";
  expect_refused([&] { check_same_run(found, expected, "test"); }, "another model");
  expect_refused([&] { restore(found.parameters, {{"v", torch::zeros({2, 3})}}, "test"); }, "no fitting tensor v");
  expect_refused([&] { restore(found.parameters, {{"w", torch::zeros({3, 2})}}, "test"); }, "no fitting tensor w");
}

}  // namespace
}  // namespace nibble::train
