// Optimizers as plain arithmetic on tensors: all of their state has a name, goes into a checkpoint and comes back to the bit.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

#include "nibble/train.h"
#include "train/module.h"

namespace nibble::train {

// The learning rate of optimizer step `step` (from 0) of a run: the schedule, times min(1, (step + 1) / warm-up steps).
double learning_rate_at(const TrainOptions& options, std::int64_t step, std::int64_t steps_per_epoch);

class Optimizer {
 public:
  explicit Optimizer(const TrainOptions& options) : options_(options) {}
  // One step down the gradients of `parameters`; those without a gradient stay as they are.
  //   SGD:  d = g + wd w;  m = momentum m + d;  w -= lr m, with Nesterov w -= lr (d + momentum m)
  //   Adam: Kingma & Ba 2015, algorithm 1, on d = g + wd w
  void update(const std::vector<Parameter>& parameters, double learning_rate);
  // "NAME/momentum"; "NAME/mean", "NAME/square", "NAME/steps".
  std::vector<StateTensor> state() const;
  // Takes the tensors as its state, replacing what it had.
  void load(const std::vector<StateTensor>& state);

 private:
  torch::Tensor& slot(const std::string& name, const torch::Tensor& like);
  const TrainOptions& options_;
  std::map<std::string, torch::Tensor> slots_;
};

}  // namespace nibble::train
