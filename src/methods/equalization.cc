// Cross-layer equalization (Nagel et al. 2019, "Data-free quantization", section 4.1).
//
// Where layers are joined by a function with f(s x) = s f(x), the channels of what lies between them can be scaled freely: output channel c
// of the layers before is divided by s_c, input channel c of the layers after is multiplied by it, and the network stays the same. With
// r1_c, r2_c the largest |weight| of channel c before and behind,
//     s_c = sqrt(r1_c / r2_c)                       (Eq. 10: s = sqrt(r1 r2) / r2)
// makes both equal, which is where the precision of both layers together is best when a layer has one scale. A depthwise layer has one on
// either side (the "triples" of the paper), so all scales are iterated to a fixed point.
//
// What one s_c belongs to is found on the values: all values that share their channels' scales form a *bundle*: the output of a layer, what
// pools and activations make of it, and all that is added to it. So residual streams are equalized too, which the paper leaves alone. A
// bundle is frozen where one of its values goes in or out of the network or touches anything that is neither linear nor such a function.
//
// What lies between has one scale, too: channels that are scaled up against their bounds push all others towards 0. So the bounds stand on
// the left side beside the weights, each relative to the channel that reaches furthest:
//     s_c = sqrt(max(r1_c / max r1, k_c / max k) max r1 / r2_c)
// Without the bounds' term MobileNetV2 with one scale a tensor ends far below where it started: its weights are even then, and its
// activations are not.
//
// Channels with almost no weight on one side are left alone: s would be tiny or huge, and b / s_c would explode.
//
// A Clip (ReLU6) is no such function, but min(s x, s k) = s min(x, k): it becomes max(x, 0) where the deciding samples do not tell the
// difference, else max(x, 0) and a minimum with a bound for each channel, k_c = 6 / s_c, which the runtime has as an integer node. Bounds
// that are there already are scaled along.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/fail.h"
#include "methods/layers.h"
#include "methods/method_list.h"
#include "methods/normals.h"
#include "ops/op.h"
#include "quantize/integer_form.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// Below this share of the layer's largest weight a channel has "almost no weight".
constexpr double kAlmostNone = 1e-4;
// A fixed point is reached when no scale moves by more.
constexpr double kSettled = 1e-4;
// What replacing clips may cost on the deciding samples, in the judge's loss (nats, or noise / signal).
constexpr double kClipLoss = 2e-3;

class Equalizer {
 public:
  enum class Clips { kScale, kFreeze };
  // kFreeze: bundles that pass through a clip are left alone.
  Equalizer(const Graph& graph, Clips clips)
      : graph_(graph), clips_policy_(clips), parent_(graph.values().size()), frozen_(graph.values().size(), false) {
    std::iota(parent_.begin(), parent_.end(), 0);
    types_ = infer_types(graph).types;
    for (const ValueId v : graph.inputs()) frozen_[index(v)] = true;
    for (const ValueId v : graph.outputs()) frozen_[index(v)] = true;
    for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) visit(n);
    gather();
  }

  // Iterates; returns the rounds that were needed.
  int run(int rounds) {
    int round = 0;
    double moved = std::numeric_limits<double>::infinity();
    while (round < rounds && moved > kSettled) {
      moved = 0;
      for (Bundle& bundle : bundles_) moved = std::max(moved, update(bundle));
      ++round;
    }
    return round;
  }

  std::size_t bundle_count() const { return bundles_.size(); }
  // The scaled constants, by node.
  std::map<NodeId, LayerEdit> edits() const {
    std::vector<std::vector<double>> out(graph_.nodes().size()), in(graph_.nodes().size());
    for (const Bundle& bundle : bundles_) {
      for (const std::size_t l : bundle.producers) out[index(layers_[l].node)] = bundle.scale;
      for (const std::size_t l : bundle.consumers) in[index(layers_[l].node)] = bundle.scale;
    }
    std::map<NodeId, LayerEdit> edits;
    for (const LayerView& layer : layers_) {
      const auto& s_out = out[index(layer.node)];
      const auto& s_in = in[index(layer.node)];
      if (s_out.empty() && s_in.empty()) continue;
      Tensor weights = *graph_.value(layer.weights).constant;
      const auto w = weights.mutable_data<float>();
      for (std::int64_t o = 0; o < layer.outputs(); ++o) {
        const double so = s_out.empty() ? 1.0 : s_out[static_cast<std::size_t>(o)];
        for (std::int64_t i = 0; i < layer.group_in; ++i) {
          const double si = s_in.empty() ? 1.0 : s_in[static_cast<std::size_t>(o / layer.group_out * layer.group_in + i)];
          for (std::int64_t t = 0; t < layer.taps; ++t) {
            float& x = w[static_cast<std::size_t>(layer.place(o, i, t))];
            x = static_cast<float>(static_cast<double>(x) / so * si);
          }
        }
      }
      LayerEdit edit;
      edit.weights = std::move(weights);
      if (layer.bias != kNoValue && !s_out.empty()) {
        const std::vector<double> bias = bias_of(graph_, layer);
        edit.bias.emplace();
        for (std::size_t o = 0; o < bias.size(); ++o) edit.bias->push_back(static_cast<float>(bias[o] / s_out[o]));
      }
      edits.emplace(layer.node, std::move(edit));
    }
    return edits;
  }

  // The scaled bounds, by the node of their Min or Max: [1, C, 1 ...].
  std::map<NodeId, Tensor> bounds() const {
    std::map<NodeId, Tensor> result;
    for (const Bundle& bundle : bundles_) {
      for (const NodeId n : bundle.bounds) {
        const Node& node = graph_.node(n);
        const std::size_t at = *bound_operand(graph_, node);
        const std::vector<double> old = to_doubles(*graph_.value(node.inputs[at]).constant);
        Shape shape(types_[index(node.outputs[0])].dims.size(), 1);
        shape[1] = std::ssize(bundle.scale);
        Tensor scaled(DataType::kFloat32, shape);
        const auto k = scaled.mutable_data<float>();
        for (std::size_t c = 0; c < k.size(); ++c) k[c] = static_cast<float>(old[old.size() == 1 ? 0 : c] / bundle.scale[c]);
        result.emplace(n, std::move(scaled));
      }
    }
    return result;
  }

  // What BatchNormalization remembers of the producers' outputs, scaled as they are.
  void scale_normals(std::map<std::string, ChannelNormal>& normals) const {
    for (const Bundle& bundle : bundles_) {
      for (const std::size_t l : bundle.producers) {
        const auto it = normals.find(names_[l]);
        if (it == normals.end()) continue;
        for (std::size_t c = 0; c < bundle.scale.size(); ++c) {
          it->second.mean[c] /= bundle.scale[c];
          it->second.deviation[c] /= bundle.scale[c];
        }
      }
    }
  }

  // Nodes whose clip must go for the bundles to be scaled.
  std::vector<NodeId> clips() const {
    std::vector<NodeId> nodes;
    for (const Bundle& bundle : bundles_) nodes.insert(nodes.end(), bundle.clipped.begin(), bundle.clipped.end());
    return nodes;
  }

 private:
  struct Bundle {
    std::vector<std::size_t> producers, consumers;  // of layers_
    std::vector<NodeId> clipped, bounds;
    std::vector<double> scale;
  };

  std::size_t find(std::size_t v) {
    while (parent_[v] != v) v = parent_[v] = parent_[parent_[v]];
    return v;
  }
  void join(ValueId a, ValueId b) {
    const std::size_t x = find(index(a)), y = find(index(b));
    parent_[std::max(x, y)] = std::min(x, y);
  }
  void freeze(const Node& node) {
    for (const auto& ids : {node.inputs, node.outputs}) {
      for (const ValueId v : ids) {
        if (v != kNoValue) frozen_[index(v)] = true;
      }
    }
  }

  // Channels on axis 1, everything behind it of size 1 where `flat`.
  bool channels_kept(ValueId from, ValueId to) const {
    const TensorType& a = types_[index(from)];
    const TensorType& b = types_[index(to)];
    if (!a.has_rank || !b.has_rank || a.dims.size() < 2 || b.dims.size() < 2) return false;
    if (!a.dims[1].known() || !b.dims[1].known() || a.dims[1].size != b.dims[1].size) return false;
    const auto ones = [](const TensorType& t) {
      return std::all_of(t.dims.begin() + 2, t.dims.end(), [](const Dim& d) { return d.known() && d.size == 1; });
    };
    return ones(a) && ones(b);
  }

  static bool homogeneous(const Node& node) {
    const Activation activation = activation_of(node);
    return !activation.present || (activation.lo == 0 && std::isinf(activation.hi));
  }

  // A Min or Max with one constant for all, or one a channel.
  bool bounds_channels(const Node& node) const {
    const auto at = bound_operand(graph_, node);
    if (!at) return false;
    const TensorType& y = types_[index(node.outputs[0])];
    const TensorType& x = types_[index(node.inputs[1 - *at])];
    const Tensor& k = *graph_.value(node.inputs[*at]).constant;
    if (!y.has_rank || !x.has_rank || x.dims.size() < 2 || x.dims.size() != y.dims.size() || !x.dims[1].known()) return false;
    if (k.type() != DataType::kFloat32) return false;
    for (std::size_t i = k.shape().size(), axis = x.dims.size(); i-- > 0;) {
      if (axis == 0) return false;
      --axis;
      if (k.shape()[i] != 1 && (axis != 1 || k.shape()[i] != x.dims[1].size)) return false;
    }
    return true;
  }

  void visit(NodeId n) {
    const Node& node = graph_.node(n);
    if (const auto layer = layer_view(graph_, n); layer && layer->channel_axis == 1) {
      const Activation activation = activation_of(node);
      if (!homogeneous(node) && activation.lo != 0) frozen_[index(layer->output)] = true;
      if (node.op_type == "Gemm" && layer->group_in == 0) freeze(node);
      layers_.push_back(*layer);
      names_.push_back(node.name);
      return;
    }
    const std::string& op = node.op_type;
    if (!node.domain.empty() || node.outputs.size() != 1) return freeze(node);
    if (op == "MaxPool" || op == "AveragePool" || op == "GlobalAveragePool" || op == "GlobalMaxPool" || op == "Relu" || op == "Identity") {
      return join(node.inputs[0], node.outputs[0]);
    }
    if ((op == "Flatten" || op == "Reshape" || op == "Squeeze" || op == "Unsqueeze") && channels_kept(node.inputs[0], node.outputs[0]))
      return join(node.inputs[0], node.outputs[0]);
    if (bounds_channels(node)) {
      bounded_.push_back(n);
      return join(node.inputs[1 - *bound_operand(graph_, node)], node.outputs[0]);
    }
    if (op == "Add" && homogeneous(node) && !graph_.is_constant(node.inputs[0]) && !graph_.is_constant(node.inputs[1]) &&
        same_channels(node)) {
      join(node.inputs[0], node.outputs[0]);
      return join(node.inputs[1], node.outputs[0]);
    }
    freeze(node);
  }

  bool same_channels(const Node& node) const {
    const TensorType& a = types_[index(node.inputs[0])];
    const TensorType& b = types_[index(node.inputs[1])];
    return a.has_rank && b.has_rank && a.dims.size() == b.dims.size() && a.dims.size() >= 2 && a.dims[1].known() && b.dims[1].known() &&
           a.dims[1].size == b.dims[1].size;
  }

  void gather() {
    std::map<std::size_t, Bundle> found;
    std::vector<bool> frozen_root(parent_.size(), false);
    for (std::size_t v = 0; v < parent_.size(); ++v) {
      if (frozen_[v]) frozen_root[find(v)] = true;
    }
    // A layer whose weights another reads as well cannot be scaled for itself alone: both would have to agree.
    std::map<ValueId, int> readers;
    for (const Node& node : graph_.nodes()) {
      for (const ValueId v : node.inputs) ++readers[v];
    }
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      if (readers[layers_[l].weights] > 1) frozen_root[find(index(layers_[l].input))] = frozen_root[find(index(layers_[l].output))] = true;
    }
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      found[find(index(layers_[l].output))].producers.push_back(l);
      found[find(index(layers_[l].input))].consumers.push_back(l);
      if (!homogeneous(graph_.node(layers_[l].node))) found[find(index(layers_[l].output))].clipped.push_back(layers_[l].node);
    }
    for (const NodeId n : bounded_) found[find(index(graph_.node(n).outputs[0]))].bounds.push_back(n);
    for (auto& [root, bundle] : found) {
      if (frozen_root[root] || bundle.producers.empty() || bundle.consumers.empty()) continue;
      const std::int64_t channels = layers_[bundle.producers[0]].outputs();
      const bool fits =
          std::all_of(bundle.producers.begin(), bundle.producers.end(), [&](std::size_t l) { return layers_[l].outputs() == channels; }) &&
          std::all_of(bundle.consumers.begin(), bundle.consumers.end(), [&](std::size_t l) { return layers_[l].inputs() == channels; });
      if (!fits || (clips_policy_ == Clips::kFreeze && !bundle.clipped.empty())) continue;
      bundle.scale.assign(static_cast<std::size_t>(channels), 1.0);
      for (const std::size_t l : bundle.producers) out_scale_of_[l] = bundles_.size();
      for (const std::size_t l : bundle.consumers) in_scale_of_[l] = bundles_.size();
      bundles_.push_back(std::move(bundle));
    }
  }

  double scale_at(const std::map<std::size_t, std::size_t>& of, std::size_t layer, std::int64_t channel) const {
    const auto it = of.find(layer);
    return it == of.end() ? 1.0 : bundles_[it->second].scale[static_cast<std::size_t>(channel)];
  }

  // Largest |scaled weight| of each output channel (or input channel) of a layer.
  std::vector<double> ranges(std::size_t l, bool of_outputs) const {
    const LayerView& layer = layers_[l];
    const auto w = graph_.value(layer.weights).constant->data<float>();
    std::vector<double> result(static_cast<std::size_t>(of_outputs ? layer.outputs() : layer.inputs()), 0.0);
    for (std::int64_t o = 0; o < layer.outputs(); ++o) {
      const double so = scale_at(out_scale_of_, l, o);
      for (std::int64_t i = 0; i < layer.group_in; ++i) {
        const std::int64_t channel = o / layer.group_out * layer.group_in + i;
        float largest = 0;
        for (std::int64_t t = 0; t < layer.taps; ++t)
          largest = std::max(largest, std::abs(w[static_cast<std::size_t>(layer.place(o, i, t))]));
        double& r = result[static_cast<std::size_t>(of_outputs ? o : channel)];
        r = std::max(r, static_cast<double>(largest) / so * scale_at(in_scale_of_, l, channel));
      }
    }
    return result;
  }

  // Of several layers the relative precision counts: r_c / max r, brought back to the layers' mean range, so that one layer gives its r_c.
  std::vector<double> joint_ranges(const std::vector<std::size_t>& layers, bool of_outputs) const {
    std::vector<double> result;
    double mean_log = 0;
    for (const std::size_t l : layers) {
      std::vector<double> r = ranges(l, of_outputs);
      const double most = *std::max_element(r.begin(), r.end());
      if (most <= 0) return {};
      mean_log += std::log(most) / static_cast<double>(layers.size());
      if (result.empty()) result.assign(r.size(), 0.0);
      for (std::size_t c = 0; c < r.size(); ++c) result[c] = std::max(result[c], r[c] / most);
    }
    for (double& r : result) r *= std::exp(mean_log);
    return result;
  }

  // How far the bounds let each channel go; empty where there are none.
  std::vector<double> reach(const Bundle& bundle) const {
    std::vector<double> result;
    for (const NodeId n : bundle.bounds) {
      const Node& node = graph_.node(n);
      if (node.op_type != "Min") continue;
      const std::vector<double> k = to_doubles(*graph_.value(node.inputs[*bound_operand(graph_, node)]).constant);
      result.resize(bundle.scale.size());
      for (std::size_t c = 0; c < result.size(); ++c) result[c] = std::max(result[c], k[k.size() == 1 ? 0 : c] / bundle.scale[c]);
    }
    const bool finite = std::ranges::all_of(result, [](double r) { return std::isfinite(r); });
    return finite ? result : std::vector<double>();
  }

  // The larger share of the largest, channel by channel.
  static std::vector<double> relative(const std::vector<std::vector<double>>& parts) {
    std::vector<double> result;
    for (const std::vector<double>& part : parts) {
      const double most = part.empty() ? 0.0 : *std::max_element(part.begin(), part.end());
      if (!(most > 0)) continue;
      result.resize(part.size());
      for (std::size_t c = 0; c < part.size(); ++c) result[c] = std::max(result[c], part[c] / most);
    }
    return result;
  }

  double update(Bundle& bundle) const {
    const std::vector<double> r1 = joint_ranges(bundle.producers, true), r2 = joint_ranges(bundle.consumers, false);
    if (r1.empty() || r2.empty()) return 0;
    const double most1 = *std::max_element(r1.begin(), r1.end()), most2 = *std::max_element(r2.begin(), r2.end());
    const std::vector<double> left = relative({r1, reach(bundle)});
    double moved = 0;
    for (std::size_t c = 0; c < left.size(); ++c) {
      if (left[c] < kAlmostNone || r2[c] < kAlmostNone * most2) continue;
      const double s = std::sqrt(left[c] * most1 / r2[c]);
      moved = std::max(moved, std::abs(std::log(s)));
      bundle.scale[c] *= s;
    }
    return moved;
  }

  const Graph& graph_;
  Clips clips_policy_;
  std::vector<std::size_t> parent_;
  std::vector<bool> frozen_;
  std::vector<TensorType> types_;
  std::vector<LayerView> layers_;
  std::vector<std::string> names_;  // of their nodes
  std::vector<NodeId> bounded_;     // Min and Max nodes that bound channels
  std::vector<Bundle> bundles_;
  std::map<std::size_t, std::size_t> out_scale_of_, in_scale_of_;  // layer -> bundle
};

Graph with_relus(const Graph& graph, const std::vector<NodeId>& nodes) {
  Graph result = graph;
  GraphEditor editor(result);
  for (const NodeId n : nodes) {
    editor.set_attribute(n, "activation", std::string("Relu"));
    for (const char* name : {"activation_min", "activation_max"}) editor.remove_attribute(n, name);
  }
  editor.finish();
  return result;
}

// Clip(x, 0, k) fused into a layer as ReLU fused into it, and Min(., k) behind. The value behind keeps its name.
Graph with_bounds(const Graph& graph, const std::vector<NodeId>& nodes) {
  Graph result = with_relus(graph, nodes);
  GraphEditor editor(result);
  for (const NodeId n : nodes) {
    const LayerView layer = *layer_view(graph, n);
    const Value& value = graph.value(layer.output);
    Shape shape(graph.value(layer.weights).constant->shape().size(), 1);
    shape[1] = layer.outputs();
    Tensor bounds(DataType::kFloat32, shape);
    std::ranges::fill(bounds.mutable_data<float>(), static_cast<float>(activation_of(graph.node(n)).hi));
    const ValueId unbounded = editor.add_value(value.name + "_unbounded", value.type);
    editor.set_outputs(n, {unbounded});
    Node node;
    node.op_type = "Min";
    node.name = editor.fresh_node_name(graph.node(n).name + "_bound");
    node.inputs = {unbounded, editor.add_constant(value.name + "_bounds", std::move(bounds))};
    node.outputs = {layer.output};
    editor.add_node(std::move(node));
  }
  editor.finish();
  return result;
}

void write_bounds(Graph& graph, std::map<NodeId, Tensor> bounds) {
  const auto consumers = graph.consumers();
  GraphEditor editor(graph);
  for (auto& [n, tensor] : bounds) {
    const std::size_t at = *bound_operand(graph, graph.node(n));
    const ValueId old = graph.node(n).inputs[at];
    if (consumers[index(old)].size() == 1 && !graph.is_graph_output(old)) {
      editor.set_type(old, make_type(tensor.type(), tensor.shape()));
      editor.set_constant(old, std::move(tensor));
    } else {
      editor.set_input(n, at, editor.add_constant(graph.value(old).name + "_" + graph.node(n).name, std::move(tensor)));
    }
  }
  editor.finish();
}

}  // namespace

void equalize_layers(MethodState& state, const MethodInputs& inputs, const MethodOptions& options) {
  const int rounds = static_cast<int>(options.at("rounds"));
  Graph graph = state.graph;
  auto policy = Equalizer::Clips::kScale;
  const double wish = options.at("clips");
  if (wish != 0 && wish != 1)
    fail(ErrorCode::kInvalidArgument, "equalization: clips={} is none of 0 (their layers are left alone) and 1 (a clip for each channel)",
         wish);
  if (const std::vector<NodeId> clips = Equalizer(graph, policy).clips(); !clips.empty()) {
    Graph relus = with_relus(graph, clips);
    std::optional<double> loss;
    if (inputs.deciding != nullptr && inputs.deciding->size() > 0) {
      const MethodJudge judge(graph, inputs.deciding, inputs.threads, inputs.progress);
      loss = judge.of_float(relus).loss;
    }
    if (loss && *loss <= kClipLoss) {
      graph = std::move(relus);
      state.notes.push_back(
          fmt::format("equalization: {} clips became ReLU: on the deciding samples that costs {:.2g}", clips.size(), *loss));
    } else {
      const std::string why = loss ? fmt::format(" (as ReLU they would cost {:.2g})", *loss) : "";
      if (wish == 0) {
        policy = Equalizer::Clips::kFreeze;
        state.notes.push_back(fmt::format("equalization: {} clips stay{}: the layers around them are left alone", clips.size(), why));
      } else {
        graph = with_bounds(graph, clips);
        state.notes.push_back(fmt::format("equalization: {} clips became bounds, one a channel{}", clips.size(), why));
      }
    }
  }
  Equalizer equalizer(graph, policy);
  const int needed = equalizer.run(rounds);
  const auto edits = equalizer.edits();
  std::map<NodeId, Tensor> bounds = equalizer.bounds();  // the equalizer sees the graph as it was
  equalizer.scale_normals(state.normals);
  const std::size_t bundles = equalizer.bundle_count();
  write_constants(graph, edits, nullptr);
  write_bounds(graph, std::move(bounds));
  state.notes.push_back(fmt::format("equalization: {} layers in {} bundles, {} rounds", edits.size(), bundles, needed));
  state.graph = graph;
  state.reference = std::move(graph);
  observe_again(state, inputs);
}

}  // namespace nibble
