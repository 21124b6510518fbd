// What a TrainModule is made of.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/batch_norm.h"
#include "train/module.h"
#include "train/placement.h"
#include "train/torch_ops.h"
#include "train/training_graph.h"

namespace nibble::train {

// The fake quantizer of a set of edges that share one grid.
struct EdgeQuantizer {
  std::string name;
  std::unique_ptr<ActivationQuantizer> quantizer;
  bool initialized = false;
};

// The quantizer of a layer's weights. Layers that read one initializer share it, unless each sees it through its own BatchNormalization.
struct WeightHolder {
  ValueId weight = kNoValue;
  bool turned = false;  // output channels lie on the last axis: the quantizer sees the transpose
  const QuantizerRow* row = nullptr;
  std::unique_ptr<WeightQuantizer> quantizer;
  std::int64_t site = 0;
};

struct LayerSite {
  NodeId node = kNoNode;
  NodeId norm = kNoNode;          // the BatchNormalization that follows and will be folded
  std::size_t holder = SIZE_MAX;  // of its weight quantizer
  std::unique_ptr<GradientQuantizer> gradient;
  bool integer = false;
};

struct TrainModule::Impl {
  Impl(const Graph& graph, const TrainQuantization& wanted, torch::Dtype type);

  std::vector<std::string> notes;
  Graph imported;
  TrainQuantization quantization;
  torch::Dtype dtype;
  TrainingGraph training;
  Placement placement;
  InferredGraph known;

  std::vector<TorchOp> ops;              // by NodeId; empty: BatchNormalization, or not needed
  std::vector<torch::Tensor> constants;  // by ValueId: parameters (leaves), statistics and other real constants
  std::map<NodeId, BatchNorm> norms;
  std::vector<LayerSite> layers;
  std::map<NodeId, std::size_t> layer_of;  // by the layer's node, and by its BatchNormalization's
  std::vector<WeightHolder> holders;
  std::vector<EdgeQuantizer> edges;    // as placement.edges
  std::vector<std::size_t> edge_made;  // by ValueId: the edge whose grid it is rounded to; SIZE_MAX: none
  std::vector<bool> reads_float;       // by NodeId: reads what the float world made, not its rounded copy
  std::vector<NodeId> last_use;        // by ValueId: it may go after this node
  std::optional<InitializerHome> home;
  bool initializing = false;
  // By the layer's node: its biases, folded, as quantize() rounds them. For evaluation; empty as soon as anything may have changed.
  std::optional<std::map<NodeId, torch::Tensor>> rounded_biases;
  Watcher watcher;

  const Graph& graph() const { return training.graph; }
  std::vector<ValueId> learned_values() const;  // parameters, then statistics

  // module.cc
  void read_constants();
  void find_layers();
  void make_ops();
  torch::Tensor run(const torch::Tensor& images, const StepInfo& step);

  // module_quantize.cc
  void make_quantizers();
  void start_weights();  // their first grids, from the weights as they are
  torch::Tensor quantize_edge(std::size_t edge, const torch::Tensor& x, const StepInfo& step);
  torch::Tensor run_layer(LayerSite& layer, const std::vector<torch::Tensor>& inputs, const StepInfo& step);
  torch::Tensor run_norm(NodeId node, const torch::Tensor& x, const StepInfo& step);
  // As the quantizer sees it: output channels on axis 0, times gamma / sigma where the method folds.
  torch::Tensor seen_weight(const WeightHolder& holder, const LayerSite& layer) const;
  torch::Tensor fold_factor(const LayerSite& layer) const;  // gamma / sigma of the running statistics, by output channel
  bool folds(const LayerSite& layer) const;
  // nullptr: the layer is not an integer one, or has no bias.
  const torch::Tensor* rounded_bias(const LayerSite& layer);

  // export.cc
  TrainedNetwork trained() const;
  std::map<NodeId, torch::Tensor> round_biases() const;
  torch::Tensor own_bias(const LayerSite& layer, std::int64_t channels) const;  // the layer's and its BatchNormalization's, folded; float64
};

}  // namespace nibble::train
