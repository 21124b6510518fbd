#include "train/training_graph.h"

#include <algorithm>
#include <set>

#include "base/fail.h"
#include "nibble/passes.h"
#include "train/binarize.h"

namespace nibble::train {
namespace {

// Those passes of the pipeline that leave BatchNormalization, Dropout and activations where they are: everything that a classifier's shape
// arithmetic needs, and the forms of Gemm, Clip and pools that the rest knows.
constexpr const char* kPasses[] = {"fold_constants", "cancel_transposes",   "normalize_clip",
                                   "normalize_gemm", "reduce_mean_to_pool", "fold_pad"};

bool is(const Node& node, std::string_view op) { return node.domain.empty() && node.op_type == op; }

bool is_real_constant(const Graph& graph, ValueId id) {
  if (!graph.is_constant(id)) return false;
  const DataType type = graph.value(id).constant->type();
  return type == DataType::kFloat32 || type == DataType::kFloat64;
}

// What the final Softmax reads, looked for through nodes that only change the shape; the output itself where there is none.
ValueId logits_of(const Graph& graph, ValueId output) {
  ValueId v = output;
  while (graph.value(v).producer != kNoNode) {
    const Node& node = graph.node(graph.value(v).producer);
    if (is(node, "Softmax") || is(node, "LogSoftmax")) return node.input(0);
    if (!is(node, "Identity") && !is(node, "Flatten") && !is(node, "Reshape") && !is(node, "Squeeze")) break;
    v = node.input(0);
  }
  return output;
}

}  // namespace

bool is_layer(const Graph& graph, const Node& node) {
  if (!is(node, "Conv") && !is(node, "Gemm") && !is(node, "MatMul")) return false;
  return is_real_constant(graph, node.input(1)) && graph.value(node.input(1)).constant->rank() >= 2;
}

namespace {

// A value that layers and other nodes read (the sum of a residual block) keeps 8 bits; layers read a narrow copy, made by a Relu that
// changes nothing else. Without it the shortcuts, which pass through every block, would be as coarse as the layers' inputs.
void narrow_copies(Graph& graph, std::vector<std::string>& notes) {
  const auto consumers = graph.consumers();
  GraphEditor editor(graph);
  const auto count = static_cast<ValueId>(graph.values().size());
  for (ValueId v = 0; v < count; ++v) {
    const NodeId producer = graph.value(v).producer;
    if (producer == kNoNode || !is(graph.node(producer), "Relu")) continue;
    std::vector<NodeId> layers;
    for (const NodeId n : consumers[static_cast<std::size_t>(v)]) {
      if (is_layer(graph, graph.node(n))) layers.push_back(n);
    }
    if (layers.empty() || layers.size() == consumers[static_cast<std::size_t>(v)].size()) continue;
    const std::string name = graph.value(v).name;
    const ValueId narrow = editor.add_value(editor.fresh_value_name(name + "_narrow"), graph.value(v).type);
    Node relu;
    relu.name = editor.fresh_node_name(name + "_narrow_Relu");
    relu.op_type = "Relu";
    relu.inputs = {v};
    relu.outputs = {narrow};
    editor.add_node(std::move(relu));
    for (const NodeId n : layers) editor.set_input(n, 0, narrow);
    notes.push_back(fmt::format("'{}' keeps 8 bits; layers read a narrow copy", name));
  }
  editor.finish();
}

}  // namespace

TrainingGraph make_training_graph(const Graph& imported, const TrainQuantization& quantization, std::vector<std::string>& notes) {
  TrainingGraph result;
  result.graph = imported;
  for (const char* pass : kPasses) run_pass(pass, result.graph);
  const Graph& graph = result.graph;
  if (graph.inputs().size() != 1 || graph.outputs().size() != 1)
    fail(ErrorCode::kUnsupported, "the network has {} inputs and {} outputs; training takes classifiers of one input and one output",
         graph.inputs().size(), graph.outputs().size());
  if (quantization.activation_method != "none") {
    if (find_quantizer(quantization.activation_method).activation_bits_max == 1)
      binarize_graph(result.graph, quantization.first_last, notes);
    else if (quantization.activation_bits < 8)
      narrow_copies(result.graph, notes);
  }
  result.input = graph.inputs()[0];
  result.logits = logits_of(graph, graph.outputs()[0]);

  result.needed.assign(graph.nodes().size(), false);
  std::vector<ValueId> open = {result.logits};
  while (!open.empty()) {
    const ValueId v = open.back();
    open.pop_back();
    const NodeId producer = v == kNoValue ? kNoNode : graph.value(v).producer;
    if (producer == kNoNode || result.needed[static_cast<std::size_t>(producer)]) continue;
    result.needed[static_cast<std::size_t>(producer)] = true;
    const std::vector<ValueId>& inputs = graph.node(producer).inputs;
    open.insert(open.end(), inputs.begin(), inputs.end());
  }

  std::set<ValueId> seen;
  const auto add = [&](ValueId v, Parameter::Kind kind) {
    if (is_real_constant(graph, v) && seen.insert(v).second) result.parameters.push_back({v, kind});
  };
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    if (!result.needed[static_cast<std::size_t>(n)]) continue;
    const Node& node = graph.node(n);
    if (is_layer(graph, node)) {
      add(node.input(1), Parameter::Kind::kWeight);
      add(node.input(2), Parameter::Kind::kBias);
    } else if (is(node, "BatchNormalization")) {
      for (std::size_t i = 1; i < 5; ++i) {
        if (!is_real_constant(graph, node.input(i)))
          fail(ErrorCode::kUnsupported, "node '{}' ({}): its parameters are computed at run time; training needs initializers", node.name,
               node.op_type);
      }
      add(node.input(1), Parameter::Kind::kBatchNorm);
      add(node.input(2), Parameter::Kind::kBatchNorm);
      for (std::size_t i = 3; i < 5; ++i) {
        if (seen.insert(node.input(i)).second) result.statistics.push_back(node.input(i));
      }
    } else if (is(node, "Add")) {
      // A bias that stands beside its layer.
      for (std::size_t i = 0; i < 2; ++i) {
        const NodeId before = graph.value(node.input(1 - i)).producer;
        if (before != kNoNode && is_layer(graph, graph.node(before))) add(node.input(i), Parameter::Kind::kBias);
      }
    }
  }
  if (result.parameters.empty()) fail(ErrorCode::kUnsupported, "the network has no weights that could be trained");
  return result;
}

InitializerHome::InitializerHome(const Graph& imported, const Graph& simplified, const std::vector<ValueId>& initializers)
    : initializers_(initializers) {
  // Who reads a constant, by node name and position: if the two graphs differ there, folding has made something else of it.
  const auto readers = [](const Graph& graph, ValueId id) {
    std::set<std::string> result;
    for (const Node& node : graph.nodes()) {
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        if (node.inputs[i] == id) result.insert(node.name + "/" + std::to_string(i));
      }
    }
    return result;
  };
  for (const ValueId id : initializers_) {
    names_.push_back(simplified.value(id).name);
    const auto there = imported.find_value(names_.back());
    in_imported_ = in_imported_ && there && imported.is_constant(*there) &&
                   bit_equal(*imported.value(*there).constant, *simplified.value(id).constant) &&
                   readers(imported, *there) == readers(simplified, id);
  }
}

Graph InitializerHome::put_back(const Graph& imported, const Graph& simplified, std::vector<Tensor> tensors) const {
  Graph result = in_imported_ ? imported : simplified;
  GraphEditor editor(result);
  for (std::size_t i = 0; i < initializers_.size(); ++i) {
    const ValueId id = in_imported_ ? imported.find_value(names_[i]).value() : initializers_[i];
    editor.set_constant(id, std::move(tensors[i]));
  }
  editor.finish();
  return result;
}

}  // namespace nibble::train
