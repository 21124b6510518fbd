// TrainModule: quantizers of edges, weights and gradients.
#include <torch/torch.h>

#include <algorithm>
#include <set>

#include "base/fail.h"
#include "train/binarize.h"
#include "train/method_options.h"
#include "train/module_impl.h"

namespace nibble::train {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// [n] -> [n, 1, 1 ...] of rank `rank`.
torch::Tensor by_channel(const torch::Tensor& x, std::int64_t rank) {
  std::vector<std::int64_t> shape(static_cast<std::size_t>(rank), 1);
  shape[0] = -1;
  return x.view(shape);
}

torch::Tensor turned(const torch::Tensor& x, bool turn) { return turn ? x.transpose(0, -1) : x; }

// To a grid of even steps: the soft staircase can stand in for its gradient (round_by(), on_grid(), on_clipped_grid()).
bool rounds_evenly(const QuantizerRow& row) {
  constexpr std::string_view kRows[] = {"ema", "lsq", "lsq_plus", "tqt", "pact", "sawb", "relu1", "relu6", "relu_clip", "dorefa", "wrpn"};
  return std::find(std::begin(kRows), std::end(kRows), row.name) != std::end(kRows);
}

void check_bits(const QuantizerRow& row, const char* side, int bits, int min, int max) {
  if (bits < min || bits > max)
    fail(ErrorCode::kInvalidArgument, "method '{}' quantizes {} to {} .. {} bits, not to {}", row.name, side, min, max, bits);
}

}  // namespace

bool TrainModule::Impl::folds(const LayerSite& layer) const {
  return layer.norm != kNoNode && layer.holder != SIZE_MAX && holders[layer.holder].row->folds_batch_norm;
}

torch::Tensor TrainModule::Impl::fold_factor(const LayerSite& layer) const {
  torch::NoGradGuard guard;
  const BatchNorm& norm = norms.at(layer.norm);
  const torch::Tensor factor = norm.gamma / (norm.var + norm.epsilon).sqrt();
  // A channel that gamma has switched off still has a direction to learn in.
  constexpr double kLeast = 1e-12;
  return torch::where(factor.abs() < kLeast, torch::full_like(factor, kLeast), factor);
}

torch::Tensor TrainModule::Impl::seen_weight(const WeightHolder& holder, const LayerSite& layer) const {
  const torch::Tensor weight = turned(constants[index(holder.weight)], holder.turned);
  return folds(layer) ? weight * by_channel(fold_factor(layer), weight.dim()) : weight;
}

void TrainModule::Impl::make_quantizers() {
  edge_made.assign(graph().values().size(), SIZE_MAX);
  placement = place_quantizers(expand_signs(graph(), {}), quantization);
  for (const std::string& line : placement.unquantized) notes.push_back("left in float: " + line);
  if (placement.layers.empty() && placement.edges.empty()) return;

  const bool weights = quantization.weight_method != "none", activations = quantization.activation_method != "none";
  const QuantizerRow& eight = find_quantizer("ema");  // what a method leaves alone
  const QuantizerRow* weight_row = weights ? &find_quantizer(quantization.weight_method) : &eight;
  const QuantizerRow* activation_row = activations ? &find_quantizer(quantization.activation_method) : nullptr;
  if (weight_row->make_weight == nullptr) fail(ErrorCode::kInvalidArgument, "method '{}' does not quantize weights", weight_row->name);
  if (activation_row != nullptr && activation_row->make_activation == nullptr)
    fail(ErrorCode::kInvalidArgument, "method '{}' does not quantize activations", activation_row->name);
  const QuantizerRow* const rows[] = {weight_row, activation_row};
  check_method_options(rows, quantization.options);
  MethodOptions options = quantization.options;
  const bool even = rounds_evenly(*weight_row) || (activation_row != nullptr && rounds_evenly(*activation_row));
  if (quantization.estimator == "dsq" && !even)
    fail(ErrorCode::kInvalidArgument, "--estimator dsq: nothing here rounds to even steps (weights: {}, activations: {})",
         quantization.weight_method, quantization.activation_method);
  if (quantization.estimator == "dsq") options["estimator_dsq"] = 1;
  const int weight_bits = weights ? quantization.weight_bits : 8;
  check_bits(*weight_row, "weights", weight_bits, weight_row->weight_bits_min, weight_row->weight_bits_max);
  if (activation_row != nullptr)
    check_bits(*activation_row, "activations", quantization.activation_bits, activation_row->activation_bits_min,
               activation_row->activation_bits_max);
  if (!weights) notes.emplace_back("weights have 8 bits (ema): quantized activations need integer weights");

  // Numbers of sites go on where the nodes' end: draws differ from place to place.
  std::int64_t site = static_cast<std::int64_t>(graph().nodes().size());
  for (const Placement::Edge& edge : placement.edges) {
    const bool low =
        activation_row != nullptr && edge.feeds_layer && !edge.eight_bits && (edge.nonnegative || activation_row->takes_signed);
    const QuantizerRow& row = low ? *activation_row : eight;
    const ActivationSite where{.name = edge.name,
                               .site = site++,
                               .bits = low               ? quantization.activation_bits
                                       : edge.feeds_sign ? 16
                                                         : 8,
                               .is_signed = !edge.nonnegative,
                               .after_relu = edge.nonnegative};
    edges.push_back({.name = edge.name, .quantizer = row.make_activation(where, &row == activation_row ? options : MethodOptions{})});
    if (row.activation_bits_max == 1 && edges.back().quantizer->grid().scales_by_magnitude)
      fail(ErrorCode::kUnsupported, "method '{}': layers that are scaled by the magnitude of their inputs cannot be exported yet; use k=0",
           row.name);
    for (const std::string& name : edge.made) edge_made[index(graph().find_value(name).value())] = edges.size() - 1;
  }
  const std::set<std::string> floats(placement.float_nodes.begin(), placement.float_nodes.end());
  for (const Node& node : graph().nodes()) reads_float.push_back(floats.contains(node.name));
  if (std::none_of(reads_float.begin(), reads_float.end(), [](bool b) { return b; })) reads_float.clear();

  std::map<std::string, const Placement::Layer*> placed;
  for (const Placement::Layer& layer : placement.layers) placed[layer.node] = &layer;
  std::map<std::pair<ValueId, const QuantizerRow*>, std::size_t> shared;
  for (LayerSite& layer : layers) {
    const Node& node = graph().node(layer.node);
    const auto found = placed.find(node.name);
    if (found == placed.end()) continue;
    layer.integer = found->second->integer;
    const QuantizerRow* row = found->second->eight_bits ? &eight : weight_row;
    if (quantization.gradient_bits < 32) {
      const QuantizerRow& gradients = weight_row->make_gradient != nullptr ? *weight_row : find_quantizer("dorefa");
      layer.gradient = gradients.make_gradient({.name = node.name, .site = site++, .bits = quantization.gradient_bits}, options);
    }
    const bool folded = row->folds_batch_norm && layer.norm != kNoNode;
    if (const auto known_holder = shared.find({node.input(1), row}); known_holder != shared.end() && !folded) {
      layer.holder = known_holder->second;
      continue;
    }
    WeightHolder holder;
    holder.weight = node.input(1);
    holder.row = row;
    holder.site = site++;
    const torch::Tensor& weight = constants[index(holder.weight)];
    holder.turned = node.op_type == "MatMul" || (node.op_type == "Gemm" && node.get_int("transB", 0) == 0);
    const std::int64_t channels = weight.size(holder.turned ? -1 : 0), inputs = weight.numel() / std::max<std::int64_t>(1, channels);
    const std::int64_t taps = weight.dim() > 2 && !holder.turned ? inputs / std::max<std::int64_t>(1, weight.size(1)) : 1;
    const std::int64_t groups = node.op_type == "Conv" ? std::max<std::int64_t>(1, node.get_int("group", 1)) : 1;
    const WeightSite where{.name = graph().value(holder.weight).name,
                           .site = holder.site,
                           .bits = found->second->eight_bits ? 8 : weight_bits,
                           .per_channel = quantization.per_channel && !(node.op_type == "MatMul" && weight.dim() != 2),
                           .fan_in = inputs,
                           .fan_out = channels / groups * taps};
    holder.quantizer = row->make_weight(where, row == weight_row ? options : MethodOptions{});
    layer.holder = holders.size();
    if (!folded) shared[{holder.weight, row}] = holders.size();
    holders.push_back(std::move(holder));
  }
  start_weights();
}

void TrainModule::Impl::start_weights() {
  torch::NoGradGuard guard;
  std::set<std::size_t> done;
  for (const LayerSite& layer : layers) {
    if (layer.holder == SIZE_MAX || !done.insert(layer.holder).second) continue;
    const WeightHolder& holder = holders[layer.holder];
    holder.quantizer->initialize(seen_weight(holder, layer).detach());
  }
}

torch::Tensor TrainModule::Impl::quantize_edge(std::size_t at, const torch::Tensor& x, const StepInfo& step) {
  EdgeQuantizer& edge = edges[at];
  if (!edge.initialized) {
    if (!step.quantize) return x;
    if (!step.training && !initializing)
      fail(ErrorCode::kInvalidArgument, "value '{}' has no grid yet: TrainModule::initialize() comes before an evaluation", edge.name);
    edge.quantizer->initialize(x.detach(), step);
    edge.initialized = true;
  }
  return edge.quantizer->forward(x, step);
}

torch::Tensor TrainModule::Impl::run_layer(LayerSite& layer, const std::vector<torch::Tensor>& given, const StepInfo& step) {
  std::vector<torch::Tensor> inputs = given;
  if (layer.holder != SIZE_MAX) {
    WeightHolder& holder = holders[layer.holder];
    torch::Tensor weight = holder.quantizer->forward(seen_weight(holder, layer), step);
    if (folds(layer)) weight = weight / by_channel(fold_factor(layer), weight.dim());
    inputs[1] = turned(weight, holder.turned);
  }
  // An evaluation has the biases of the integer layer; those of a BatchNormalization are its shift.
  if (!step.training && step.quantize && !initializing) {
    if (const torch::Tensor* bias = rounded_bias(layer)) {
      inputs.resize(std::max<std::size_t>(inputs.size(), 3));
      inputs[2] = layer.norm == kNoNode ? bias->to(dtype) : torch::Tensor();
    }
  }
  torch::Tensor y = ops[index(layer.node)](inputs, step);
  return layer.gradient ? layer.gradient->forward(y, step) : y;
}

torch::Tensor TrainModule::Impl::run_norm(NodeId n, const torch::Tensor& x, const StepInfo& step) {
  BatchNorm& norm = norms.at(n);
  const bool batch = (step.training || initializing) && !step.freeze_statistics;
  const auto layer = layer_of.find(n);
  if (!step.training && step.quantize && !initializing && layer != layer_of.end()) {
    if (const torch::Tensor* bias = rounded_bias(layers[layer->second])) {
      BatchNorm rounded = norm;
      const torch::Tensor factor = norm.gamma.to(torch::kFloat64) / (norm.var.to(torch::kFloat64) + norm.epsilon).sqrt();
      rounded.beta = (*bias + norm.mean.to(torch::kFloat64) * factor).to(dtype);
      return batch_norm(x, rounded, false, false, *step.reducer);
    }
  }
  return batch_norm(x, norm, batch, batch && !initializing, *step.reducer);
}

const torch::Tensor* TrainModule::Impl::rounded_bias(const LayerSite& layer) {
  if (layer.holder == SIZE_MAX || !layer.integer) return nullptr;
  if (!rounded_biases) rounded_biases = round_biases();
  const auto found = rounded_biases->find(layer.node);
  return found == rounded_biases->end() ? nullptr : &found->second;
}

namespace {

// "VALUE/alpha": of a quantizer's tensor.
std::string owned(const std::string& owner, const std::string& name) { return owner + "/" + name; }

}  // namespace

void TrainModule::initialize(const torch::Tensor& images, const StepInfo& step) {
  torch::NoGradGuard guard;
  StepInfo first = step;
  first.training = false;
  first.quantize = true;
  for (EdgeQuantizer& edge : impl_->edges) edge.initialized = false;
  impl_->start_weights();
  impl_->initializing = true;
  impl_->rounded_biases.reset();
  try {
    impl_->run(images, first);
  } catch (...) {
    impl_->initializing = false;
    throw;
  }
  impl_->initializing = false;
}

std::vector<Parameter> TrainModule::parameters() {
  impl_->rounded_biases.reset();  // whoever asks may write into them
  std::vector<Parameter> result;
  std::map<ValueId, double> rate;  // of weights: BinaryConnect's
  for (const WeightHolder& holder : impl_->holders) rate[holder.weight] = holder.quantizer->learning_rate_scale();
  for (const TrainingGraph::Role& role : impl_->training.parameters) {
    const auto scaled = rate.find(role.value);
    result.push_back({.name = impl_->graph().value(role.value).name,
                      .kind = role.kind,
                      .value = impl_->constants[index(role.value)],
                      .learning_rate_scale = scaled == rate.end() ? 1 : scaled->second});
  }
  const auto add = [&](const std::string& owner, std::vector<LearnedTensor> learned) {
    for (LearnedTensor& tensor : learned) {
      if (!tensor.value.defined()) continue;  // before initialize()
      result.push_back(
          {owned(owner, tensor.name), Parameter::Kind::kQuantizer, tensor.value, tensor.learning_rate_scale, tensor.weight_decay});
    }
  };
  for (const WeightHolder& holder : impl_->holders) add(impl_->graph().value(holder.weight).name, holder.quantizer->learned());
  for (const EdgeQuantizer& edge : impl_->edges) add(edge.name, edge.quantizer->learned());
  return result;
}

std::vector<StateTensor> TrainModule::state() {
  impl_->rounded_biases.reset();
  std::vector<StateTensor> result;
  for (const ValueId v : impl_->training.statistics) result.push_back({impl_->graph().value(v).name, impl_->constants[index(v)]});
  const auto add = [&](const std::string& owner, std::vector<StateTensor> state) {
    for (StateTensor& tensor : state) result.push_back({owned(owner, tensor.name), std::move(tensor.value)});
  };
  for (const WeightHolder& holder : impl_->holders) add(impl_->graph().value(holder.weight).name, holder.quantizer->state());
  for (const EdgeQuantizer& edge : impl_->edges) add(edge.name, edge.quantizer->state());
  for (const LayerSite& layer : impl_->layers) {
    if (layer.gradient) add(impl_->graph().node(layer.node).name + "/gradient", layer.gradient->state());
  }
  return result;
}

namespace {

// The leaf behind a holder, seen as its quantizer sees it: changes reach the parameter.
torch::Tensor leaf_view(const torch::Tensor& leaf, bool turn) { return turn ? leaf.transpose(0, -1) : leaf; }

}  // namespace

void TrainModule::begin_epoch(const StepInfo& step) {
  torch::NoGradGuard guard;
  for (WeightHolder& holder : impl_->holders) {
    torch::Tensor view = leaf_view(impl_->constants[index(holder.weight)], holder.turned);
    holder.quantizer->begin_epoch(view, step);
  }
}

void TrainModule::after_backward(const StepInfo& step) {
  torch::NoGradGuard guard;
  for (WeightHolder& holder : impl_->holders) {
    torch::Tensor& leaf = impl_->constants[index(holder.weight)];
    torch::Tensor view = leaf_view(leaf, holder.turned);
    // A view of a leaf has no gradient of its own.
    if (holder.turned && leaf.grad().defined()) view.mutable_grad() = leaf.grad().transpose(0, -1);
    holder.quantizer->after_backward(view, step);
  }
  for (EdgeQuantizer& edge : impl_->edges) {
    if (edge.initialized) edge.quantizer->after_backward(step);
  }
}

void TrainModule::after_update(const StepInfo& step) {
  torch::NoGradGuard guard;
  for (WeightHolder& holder : impl_->holders) {
    torch::Tensor view = leaf_view(impl_->constants[index(holder.weight)], holder.turned);
    holder.quantizer->after_update(view, step);
  }
  for (EdgeQuantizer& edge : impl_->edges) {
    if (edge.initialized) edge.quantizer->after_update(step);
  }
}

}  // namespace nibble::train
