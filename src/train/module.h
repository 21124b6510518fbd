// TrainModule: a float graph as something that learns, with fake quantizers on the edges where quantize() puts its grids.
#pragma once

#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nibble/calibrate.h"
#include "nibble/graph.h"
#include "nibble/quantize.h"
#include "nibble/train.h"
#include "train/quantizer.h"

namespace nibble::train {

// One tensor that the optimizer moves.
struct Parameter {
  enum class Kind { kWeight, kBias, kBatchNorm, kQuantizer };
  std::string name;  // of the initializer; quantizers' own: "NAME/step"
  Kind kind = Kind::kWeight;
  torch::Tensor value;
  double learning_rate_scale = 1;
  double weight_decay = -1;  // below 0: the run's own
};

class TrainModule {
 public:
  // `graph`: as imported, BatchNormalization kept. Unknown operators: Error{kUnsupported} naming node and operator.
  // `dtype`: torch::kFloat32, or kFloat64 for tests.
  TrainModule(const Graph& graph, const TrainQuantization& quantization, torch::Dtype dtype = torch::kFloat32);
  ~TrainModule();
  TrainModule(TrainModule&&) noexcept;

  // Gives every quantizer its first grid, from the weights and the values of one batch (of all ranks): once before parameters(), state()
  // and the first quantized forward pass, also before a checkpoint is loaded into them; and again where quantization begins after float
  // epochs (what was observed in them stays). Nothing else changes. `step`: its reducer and sample_ids.
  void initialize(const torch::Tensor& images, const StepInfo& step);
  // images [batch, ...] -> logits [batch, classes]: the first output, flattened; a final Softmax is left out.
  torch::Tensor forward(const torch::Tensor& images, const StepInfo& step);
  // From the next pass on `watcher` sees every value as it is made, by its name, behind its quantizer; an empty one ends it. For tests, and
  // to find where values stop being finite.
  using Watcher = std::function<void(const std::string& value, const torch::Tensor& x)>;
  void watch(Watcher watcher);
  std::vector<Parameter> parameters();
  std::vector<StateTensor> state();  // BN statistics, observers, masks: all that a checkpoint needs beside parameters()

  // In this order around an optimizer step.
  void begin_epoch(const StepInfo& step);
  void after_backward(const StepInfo& step);
  void after_update(const StepInfo& step);

  // What the constructor had to change or leave alone (sign rewrites, layers left in float), one line each.
  const std::vector<std::string>& notes() const;
  // The graph with the initializers as they are now, in float32: exactly the ones it came with if nothing was trained.
  Graph float_graph() const;
  TrainedNetwork trained() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nibble::train
