// The parts of one run, in the order of their use: Trainer::run() is the whole story.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nibble/train.h"
#include "train/checkpoint.h"
#include "train/module.h"
#include "train/optimizer.h"
#include "train/run_log.h"
#include "train/samples.h"

namespace nibble::train {

class Trainer {
 public:
  // `reducer` and `sink` must outlive the trainer.
  Trainer(const Graph& graph, const Dataset& data, const Dataset& evaluation, const TrainOptions& options, Reducer& reducer,
          TrainSink& sink);
  TrainResult run();

 private:
  // What one step found, over all processes.
  struct StepResult {
    double loss = 0;  // mean over the global batch
    std::int64_t correct = 0;
    bool cancelled = false;
  };
  // The samples of one step: of the epoch's order those from `begin` on; this process computes `own` of `count`.
  struct StepSamples {
    std::int64_t begin = 0, count = 0;
    std::vector<std::int64_t> ids, positions;  // of this process: dataset index, place in the epoch's order
    bool shared = true;                        // false: every process computes the whole batch
  };

  bool writes() const { return reducer_.rank() == 0; }
  std::int64_t steps_per_epoch() const { return (train_.size() + options_.batch - 1) / options_.batch; }
  void check_classes(const Dataset& data) const;
  StepInfo step_info(bool training) const;
  StepInfo step_info(const StepSamples& samples, bool training) const;
  void initialize();
  StepSamples step_samples(std::int64_t step_in_epoch) const;
  torch::Tensor to_network(const torch::Tensor& images) const;
  torch::Tensor loss_of(const torch::Tensor& images, const torch::Tensor& logits, const torch::Tensor& labels, std::int64_t global_batch);
  void begin_epoch();
  StepResult take_step(const StepSamples& samples, const Batch& batch);
  void reduce_gradients(const std::vector<Parameter>& parameters);
  void train_epoch();
  double evaluate(bool on_grids);  // top-1 in percent; else in float, as before --start-epoch
  [[noreturn]] void fail_not_finite(const char* what, const torch::Tensor& images, const torch::Tensor& logits);

  Checkpoint here() const;
  void save() const;
  void resume();
  [[noreturn]] void stop() const;

  const Graph& graph_;
  const TrainOptions& options_;
  Reducer& reducer_;
  TrainSink& sink_;
  torch::Dtype dtype_;
  std::int64_t classes_;
  Samples train_, eval_;
  mutable TrainModule module_;
  std::unique_ptr<TrainModule> teacher_;
  Optimizer optimizer_;
  RunLog log_;
  Checkpoint run_;  // model, options, and where the run stands; its tensors stay empty
  std::vector<std::int64_t> order_;
  TrainReport report_;
};

// Of a float classifier with one input: the classes of its first output, seen on a sample. Throws Error{kUnsupported}.
std::int64_t classes_of(const Graph& graph, const Dataset& dataset);

}  // namespace nibble::train
