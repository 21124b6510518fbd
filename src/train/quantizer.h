// Quantizers of training: what a method does to weights, activations and gradients in the forward and the backward pass, and the grid that
// is left when training ends. One file a method in quantizers/, one row in quantizer_table.cc.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/methods.h"
#include "nibble/quant_params.h"
#include "train/reducer.h"

namespace nibble::train {

// Where a forward or backward pass stands. Draws depend on (seed, step, site, sample id, element), never on rank or batch layout.
struct StepInfo {
  std::int64_t epoch = 0;   // from 0
  std::int64_t epochs = 1;  // of the whole run
  std::int64_t step = 0;    // optimizer steps done since the start of the run
  std::int64_t steps_per_epoch = 1;
  std::uint64_t seed = 0;
  bool training = false;           // false: evaluation; nothing is observed, drawn or updated
  bool quantize = true;            // false before --start-epoch: observers see values, nothing is rounded
  bool freeze_statistics = false;  // from --freeze-bn on: running BN statistics and ranges are used and kept
  torch::Tensor sample_ids;        // int64 [batch of this rank]: index of each sample in the epoch's order
  std::int64_t global_batch = 0;   // samples of this step over all ranks
  Reducer* reducer = nullptr;      // never null in a forward pass
};

// Uniform draws in [0, 1), float64: a counter-based generator (splitmix64 of the key and the element's index), equal on every machine.
torch::Tensor uniform_draws(std::uint64_t seed, std::int64_t step, std::int64_t site, torch::IntArrayRef shape);
// The same with one row a sample: row i depends on sample_ids[i] alone. `shape` is of the whole batch, samples first.
torch::Tensor uniform_draws_by_sample(std::uint64_t seed, std::int64_t step, std::int64_t site, const torch::Tensor& sample_ids,
                                      torch::IntArrayRef shape);

// A tensor that the optimizer moves beside weights, biases and BN.
struct LearnedTensor {
  std::string name;     // unique within its quantizer ("alpha", "step", "wp")
  torch::Tensor value;  // a leaf that requires its gradient
  double learning_rate_scale = 1;
  double weight_decay = 0;
};
// Anything else that a checkpoint has to hold (running ranges, masks, counters): updated in place.
struct StateTensor {
  std::string name;
  torch::Tensor value;
};

// Where a weight quantizer stands.
struct WeightSite {
  std::string name;       // the value's name in the graph, for messages
  std::int64_t site = 0;  // number of the site, for draws
  int bits = 8;
  bool per_channel = false;              // one scale an output channel (axis 0 of the weight as the quantizer sees it)
  std::int64_t fan_in = 1, fan_out = 1;  // Glorot's: input and output connections of one unit
};
// sum of the bases: codes * scale. One base for all but TTQ (2) and ABC-Net (M). A base of one scale is per tensor.
struct WeightBase {
  torch::Tensor codes;        // int32, the weight's shape
  std::vector<double> scale;  // one, or one an output channel (axis 0); > 0
  int bits = 8;               // two's complement width that holds the codes (2..8, 16)
};

// Weights come with output channels on axis 0 (Gemm and MatMul weights are turned by the caller). Float32 or float64.
class WeightQuantizer {
 public:
  virtual ~WeightQuantizer() = default;
  // From the trained float weights, before the first step.
  virtual void initialize(const torch::Tensor& /*weight*/) {}
  // The weight that the layer computes with; gradients flow to `weight` and to the learned tensors by the method's own estimator.
  // Values lie on the grid of bases(weight) up to float rounding when !step.training.
  virtual torch::Tensor forward(const torch::Tensor& weight, const StepInfo& step) = 0;
  // The grid and the codes that an evaluation uses and the export writes.
  virtual std::vector<WeightBase> bases(const torch::Tensor& weight) const = 0;
  virtual std::vector<LearnedTensor> learned() { return {}; }
  virtual std::vector<StateTensor> state() { return {}; }
  virtual void begin_epoch(torch::Tensor& /*weight*/, const StepInfo& /*step*/) {}     // INQ: the next part is frozen
  virtual void after_backward(torch::Tensor& /*weight*/, const StepInfo& /*step*/) {}  // INQ: no gradient for frozen weights
  virtual void after_update(torch::Tensor& /*weight*/, const StepInfo& /*step*/) {}    // BinaryConnect: clip to [-1, 1]
  virtual double learning_rate_scale() const { return 1; }                             // of the weight: BinaryConnect's 1 / Glorot
};

struct ActivationSite {
  std::string name;
  std::int64_t site = 0;
  int bits = 8;
  bool is_signed = false;   // what flows is known to be able to fall below 0
  bool after_relu = false;  // the edge follows a ReLU (PACT, DoReFa ... clip it themselves)
};
// value = scale * (x >= threshold ? +1 : -1)
struct SignBase {
  double threshold = 0, scale = 1;
};
// What is left of an activation's quantizer: a uniform grid per tensor, or a sum of signs.
struct ActivationGrid {
  std::optional<QuantParams> uniform;
  std::vector<SignBase> signs = {};
  bool scales_by_magnitude = false;  // XNOR-Net's K: the layer's outputs are multiplied by the box-filtered mean of |x|
};
class ActivationQuantizer {
 public:
  virtual ~ActivationQuantizer() = default;
  // From the float values of the first batch (all ranks' maximum, mean ... through step.reducer).
  virtual void initialize(const torch::Tensor& /*x*/, const StepInfo& /*step*/) {}
  virtual torch::Tensor forward(const torch::Tensor& x, const StepInfo& step) = 0;
  virtual ActivationGrid grid() const = 0;
  virtual std::vector<LearnedTensor> learned() { return {}; }
  virtual std::vector<StateTensor> state() { return {}; }
  virtual void after_backward(const StepInfo& /*step*/) {}
  virtual void after_update(const StepInfo& /*step*/) {}
};

// Rounds the gradient that comes back into a layer's output (DoReFa, dynamic fixed point). Forward is the identity.
struct GradientSite {
  std::string name;
  std::int64_t site = 0;
  int bits = 8;
};
class GradientQuantizer {
 public:
  virtual ~GradientQuantizer() = default;
  virtual torch::Tensor forward(const torch::Tensor& y, const StepInfo& step) = 0;
  virtual std::vector<StateTensor> state() { return {}; }
};

// One row a method. A null maker: the method has no such side.
struct QuantizerRow {
  std::string_view name;  // "lsq"
  std::string_view summary;
  std::string_view source;   // paper and equation
  std::string_view options;  // "gradient_scale=1,per_channel=0": name=default
  int weight_bits_min = 2, weight_bits_max = 8;
  int activation_bits_min = 2, activation_bits_max = 8;
  bool takes_signed = false;      // its activations may fall below 0; else only edges that cannot are its own
  bool folds_batch_norm = false;  // the weight quantizer sees weight * gamma / sigma
  std::unique_ptr<WeightQuantizer> (*make_weight)(const WeightSite&, const MethodOptions&) = nullptr;
  std::unique_ptr<ActivationQuantizer> (*make_activation)(const ActivationSite&, const MethodOptions&) = nullptr;
  std::unique_ptr<GradientQuantizer> (*make_gradient)(const GradientSite&, const MethodOptions&) = nullptr;
  std::string_view pair = {};  // the method that the paper uses for the other side, where it is another row
};
std::span<const QuantizerRow* const> quantizer_table();
// Throws Error{kInvalidArgument} that lists the methods with that side.
const QuantizerRow& find_quantizer(std::string_view name);

}  // namespace nibble::train
