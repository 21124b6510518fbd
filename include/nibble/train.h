// Training through the quantizer: a float classifier (ONNX) and labelled data in, a network on grids out. Needs a build with libtorch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/calibrate.h"
#include "nibble/dataset.h"
#include "nibble/graph.h"
#include "nibble/methods.h"
#include "nibble/progress.h"
#include "nibble/quantize.h"
#include "nibble/report.h"

namespace nibble {

// What is quantized in training, and by which methods (`nibble list train-methods`).
struct TrainQuantization {
  std::string weight_method = "none";  // "none": float
  std::string activation_method = "none";
  int weight_bits = 8;
  int activation_bits = 8;
  int gradient_bits = 32;         // below 32: by the weight method's gradient side, or DoReFa's
  std::string estimator = "ste";  // or "dsq", for methods that round evenly
  MethodOptions options;
  FirstLastPolicy first_last = FirstLastPolicy::k8Bit;
  bool per_channel = true;  // weights, where the method has a choice
};

// One row for each method; documents and `nibble list` read it.
struct TrainMethodInfo {
  std::string_view name, summary, source, options;
  bool has_weights = false, has_activations = false, has_gradients = false;
};
std::vector<TrainMethodInfo> train_method_table();
// The quantization that --method NAME stands for: the row's own sides; where it has one side only its paper's partner, or else `ema` in 8
// bits, so that the result runs in integers. Bits are the widest that both take, 8 at most. Throws Error{kInvalidArgument} listing the
// methods.
TrainQuantization quantization_of_method(std::string_view name);
int widest_weight_bits(std::string_view method);  // "none": 8
int widest_activation_bits(std::string_view method);

// What training leaves for quantize(): a canonical graph whose weights lie on grids, every grid pinned in `ranges`.
struct TrainedNetwork {
  Graph graph;
  RangeTable ranges;
  QuantScheme scheme;
  std::vector<std::string> notes;
};

// A network to start from nothing: "lenet5", "vgg7", "resnet20", "mobilenet-small", with batch normalization; weights by He's
// initialization from `seed`. `sample`: [channels, height, width]. Error{kInvalidArgument} lists the architectures.
Graph make_architecture(std::string_view name, const Shape& sample, std::int64_t classes, std::uint64_t seed);

// The learning rate over the run, per optimizer step, after a linear warm-up from 0.
enum class LearningRateSchedule {
  kCosine,  // lr (1 + cos(pi t)) / 2, t from 0 to 1
  kStep,    // times `step_factor` at each of `step_epochs`
  kConstant,
  kLinear,  // lr (1 - t)
};
enum class TrainOptimizer { kSgd, kAdam };

struct TrainOptions {
  TrainQuantization quantization;
  std::int64_t epochs = 10;
  std::int64_t batch = 128;  // over all processes
  double learning_rate = 0.01;
  LearningRateSchedule schedule = LearningRateSchedule::kCosine;
  std::vector<std::int64_t> step_epochs;  // kStep; empty: after one half and three quarters of the epochs
  double step_factor = 0.1;
  double warmup_epochs = 0;
  TrainOptimizer optimizer = TrainOptimizer::kSgd;
  double momentum = 0.9;
  bool nesterov = false;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  // kAdam
  double weight_decay = 1e-4;                         // of weights alone, unless a quantizer asks for its own
  std::int64_t start_epoch = 0;                       // quantize from this epoch on
  std::optional<std::int64_t> freeze_bn;              // from this epoch on running statistics and ranges are kept
  bool crop = false, flip = false;  // 4 pixels of zeros around, then a crop of the old size; left-right with probability 1/2

  std::optional<Graph> teacher;  // a float network with the same inputs and classes
  double distill_alpha = 0.5;    // alpha CE + (1 - alpha) T^2 KL(teacher_T || student_T)
  double distill_temperature = 4;

  std::string checkpoint_folder;      // empty: none
  std::int64_t checkpoint_every = 0;  // steps; there is always one at the end of an epoch
  bool resume = false;
  std::string log_path;  // JSON lines: one a step and one an epoch; empty: none

  int threads = 1;  // of this process. Results of floating-point sums depend on it
  std::uint64_t seed = 0;
  bool double_precision = false;  // for tests: parameters and data in float64
  std::string device = "cpu";     // nothing else yet
};

struct EpochReport {
  std::int64_t epoch = 0;    // from 0
  double loss = 0;           // mean over the epoch's samples
  double train_top1 = 0;     // percent, of the training passes
  double eval_top1 = 0;      // percent, after the epoch
  double learning_rate = 0;  // of the last step
  double seconds = 0;
  double images_per_second = 0;  // of training alone, all processes
};

// Beside progress: what a person wants to read while training runs. Called on the thread that called train_network(), on rank 0 alone.
class TrainSink : public ProgressSink {
 public:
  virtual void note(const std::string& /*message*/) {}
  virtual void epoch_done(const EpochReport& /*report*/) {}
};

struct TrainReport {
  std::vector<EpochReport> epochs;             // of this run and of the one that it resumes
  std::vector<double> step_losses;             // of this run
  double initial_top1 = 0;                     // percent, before the first step, on the grids that training starts with
  std::vector<std::int64_t> eval_predictions;  // of the last epoch: class of each evaluation sample
  double eval_top1 = 0;
  std::int64_t images = 0, eval_images = 0, steps = 0, parameters = 0;
  int processes = 1;
  std::vector<std::string> notes;
};
struct TrainResult {
  TrainReport report;
  Graph float_graph;                      // the graph that came in with its trained float parameters
  std::optional<TrainedNetwork> network;  // unset for method "none"
};

// The processes of one run: rank 0 reports and writes. One process where the environment names no others.
struct TrainProcesses {
  int rank = 0, world_size = 1;
};
TrainProcesses train_processes();  // from RANK and WORLD_SIZE; throws Error{kInvalidArgument} where they make no sense

// Where the processes of one machine meet: a store at a free port of 127.0.0.1, as torchrun hosts one. The processes get MASTER_ADDR,
// MASTER_PORT and TORCHELASTIC_USE_AGENT_STORE=True. Throws Error{kUnsupported} in a build without Gloo.
class TrainStoreHost {
 public:
  TrainStoreHost();
  ~TrainStoreHost();
  TrainStoreHost(const TrainStoreHost&) = delete;
  TrainStoreHost& operator=(const TrainStoreHost&) = delete;
  int port() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Trains `graph` (as imported, BatchNormalization kept) on `data`, evaluates on `evaluation` after each epoch; the last epoch counts. Under
// RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT the batch is shared out over the processes, which all get the same result. Equal options,
// data, threads and processes give equal bits. Throws Error: labels out of range, a loss that is not finite (epoch, step, tensor), a
// checkpoint that does not fit, a process that is gone (kIo), kInterrupted after saving.
TrainResult train_network(const Graph& graph, const Dataset& data, const Dataset& evaluation, const TrainOptions& options,
                          TrainSink* sink = nullptr);

// The trained model as its file has it, in the integer runtime, against what the trainer saw.
struct RuntimeCheck {
  std::int64_t samples = 0;
  double top1 = 0;       // percent, of the runtime
  double agreement = 0;  // percent of samples with the trainer's class
};
RuntimeCheck check_in_runtime(const Model& model, const Dataset& evaluation, const std::vector<std::int64_t>& predictions, int threads,
                              ProgressSink* progress = nullptr);

// One JSON object; lines for a person.
std::string to_json(const TrainReport& report, const std::optional<RuntimeCheck>& runtime);
std::string to_text(const TrainReport& report, const std::optional<RuntimeCheck>& runtime);

}  // namespace nibble
