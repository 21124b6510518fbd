// TrainModule: the float side. Quantizers are in module_quantize.cc, what is left of training in export.cc.
#include "train/module.h"

#include <torch/torch.h>

#include "base/fail.h"
#include "train/module_impl.h"
#include "train/torch_tensor.h"

namespace nibble::train {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

}  // namespace

TrainModule::Impl::Impl(const Graph& given, const TrainQuantization& wanted, torch::Dtype type)
    : imported(given), quantization(wanted), dtype(type), training(make_training_graph(given, wanted, notes)) {
  known = infer_types(graph());
  home.emplace(imported, graph(), learned_values());
  if (!home->in_imported())
    notes.emplace_back("the float network is written in its simplified form: some of its initializers are no nodes' own");
  read_constants();
  find_layers();
  make_ops();
  make_quantizers();
}

std::vector<ValueId> TrainModule::Impl::learned_values() const {
  std::vector<ValueId> result;
  for (const TrainingGraph::Role& role : training.parameters) result.push_back(role.value);
  result.insert(result.end(), training.statistics.begin(), training.statistics.end());
  return result;
}

void TrainModule::Impl::read_constants() {
  constants.resize(graph().values().size());
  for (std::size_t v = 0; v < constants.size(); ++v) {
    const auto& constant = graph().values()[v].constant;
    if (constant && (constant->type() == DataType::kFloat32 || constant->type() == DataType::kFloat64))
      constants[v] = to_torch(*constant, dtype);
  }
  for (const TrainingGraph::Role& role : training.parameters) {
    constants[index(role.value)].set_requires_grad(true);
  }
}

// Layers, and the BatchNormalization behind each.
void TrainModule::Impl::find_layers() {
  const auto consumers = graph().consumers();
  for (NodeId n = 0; n < static_cast<NodeId>(graph().nodes().size()); ++n) {
    const Node& node = graph().node(n);
    if (!training.needed[index(n)] || !is_layer(graph(), node)) continue;
    LayerSite layer;
    layer.node = n;
    const ValueId output = node.output(0);
    if (consumers[index(output)].size() == 1 && !graph().is_graph_output(output)) {
      const NodeId next = consumers[index(output)][0];
      const bool channels_second = node.op_type != "MatMul";
      if (graph().node(next).op_type == "BatchNormalization" && channels_second && graph().node(next).input(0) == output) layer.norm = next;
    }
    layer_of[n] = layers.size();
    if (layer.norm != kNoNode) layer_of[layer.norm] = layers.size();
    layers.push_back(std::move(layer));
  }
}

void TrainModule::Impl::make_ops() {
  ops.resize(graph().nodes().size());
  last_use.assign(graph().values().size(), kNoNode);
  for (NodeId n = 0; n < static_cast<NodeId>(graph().nodes().size()); ++n) {
    if (!training.needed[index(n)]) continue;
    const Node& node = graph().node(n);
    for (const ValueId v : node.inputs) {
      if (v != kNoValue) last_use[index(v)] = n;
    }
    // A Relu of a Relu is there for the grid of its output alone.
    const NodeId before = node.op_type == "Relu" ? graph().value(node.input(0)).producer : kNoNode;
    if (before != kNoNode && graph().node(before).op_type == "Relu") {
      ops[index(n)] = [](const std::vector<torch::Tensor>& inputs, const StepInfo&) { return inputs[0]; };
      continue;
    }
    if (!node.domain.empty() || node.op_type != "BatchNormalization") {
      ops[index(n)] = make_torch_op({graph(), known, node, n});
      continue;
    }
    if (node.get_int("training_mode", 0) != 0 || node.get_int("spatial", 1) != 1 || node.output(1) != kNoValue)
      fail(ErrorCode::kUnsupported, "node '{}' ({}): it is not in the form of inference: export the model for inference", node.name,
           node.op_type);
    norms[n] = {.gamma = constants[index(node.input(1))],
                .beta = constants[index(node.input(2))],
                .mean = constants[index(node.input(3))],
                .var = constants[index(node.input(4))],
                .momentum = static_cast<double>(node.get_float("momentum", 0.9F)),
                .epsilon = static_cast<double>(node.get_float("epsilon", 1e-5F))};
  }
}

torch::Tensor TrainModule::Impl::run(const torch::Tensor& images, const StepInfo& step) {
  TORCH_CHECK(step.reducer != nullptr, "a step has a reducer");
  if (step.training) rounded_biases.reset();
  std::vector<torch::Tensor> values(graph().values().size());
  std::vector<torch::Tensor> exact;  // by ValueId: float forms of values that the float world makes, for the float nodes that read them
  torch::Tensor input = images.to(dtype);
  if (input.dim() == 4) input = input.contiguous(at::MemoryFormat::ChannelsLast);
  const auto keep = [&](ValueId v, const torch::Tensor& x) {
    const std::size_t edge = edge_made[index(v)];
    values[index(v)] = edge == SIZE_MAX ? x : quantize_edge(edge, x, step);
    if (watcher) watcher(graph().value(v).name, values[index(v)]);
    if (edge != SIZE_MAX && !reads_float.empty() && placement.made_in_float.contains(graph().value(v).name)) {
      exact.resize(values.size());
      exact[index(v)] = x;
    }
  };
  keep(training.input, input);
  for (NodeId n = 0; n < static_cast<NodeId>(graph().nodes().size()); ++n) {
    if (!training.needed[index(n)]) continue;
    const Node& node = graph().node(n);
    std::vector<torch::Tensor> inputs;
    for (const ValueId v : node.inputs) {
      if (v == kNoValue)
        inputs.emplace_back();
      else if (constants[index(v)].defined())
        inputs.push_back(constants[index(v)]);
      else if (!reads_float.empty() && reads_float[index(n)] && exact.size() > index(v) && exact[index(v)].defined())
        inputs.push_back(exact[index(v)]);
      else
        inputs.push_back(values[index(v)]);
    }
    const auto layer = layer_of.find(n);
    torch::Tensor y;
    if (norms.contains(n))
      y = run_norm(n, inputs[0], step);
    else if (layer != layer_of.end())
      y = run_layer(layers[layer->second], inputs, step);
    else
      y = ops[index(n)](inputs, step);
    keep(node.output(0), y);
    for (const ValueId v : node.inputs) {
      if (v != kNoValue && last_use[index(v)] == n && v != training.logits) values[index(v)].reset();
    }
  }
  const torch::Tensor& logits = values[index(training.logits)];
  return logits.dim() == 2 ? logits : logits.flatten(1);
}

TrainModule::TrainModule(const Graph& graph, const TrainQuantization& quantization, torch::Dtype dtype)
    : impl_(std::make_unique<Impl>(graph, quantization, dtype)) {}
TrainModule::~TrainModule() = default;
TrainModule::TrainModule(TrainModule&&) noexcept = default;

torch::Tensor TrainModule::forward(const torch::Tensor& images, const StepInfo& step) { return impl_->run(images, step); }

void TrainModule::watch(Watcher watcher) { impl_->watcher = std::move(watcher); }

const std::vector<std::string>& TrainModule::notes() const { return impl_->notes; }

Graph TrainModule::float_graph() const {
  std::vector<Tensor> tensors;
  for (const ValueId v : impl_->learned_values())
    tensors.push_back(from_torch(impl_->constants[index(v)], impl_->graph().value(v).constant->type()));
  return impl_->home->put_back(impl_->imported, impl_->graph(), std::move(tensors));
}

}  // namespace nibble::train
