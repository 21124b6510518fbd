// High-bias absorption (Nagel et al. 2019, section 4.1.3): where a channel behind a ReLU is almost always above c, c can be taken off it
// and given to the biases of the layers behind,
//     c = max(0, beta - 3 gamma),   b1 -= c,   b2 += W2 c,
// so that the channel's range shrinks. beta and gamma are those of BatchNormalization where it left them, else mean and deviation of what
// the calibration samples show behind the ReLU.
//
// Where a layer behind pads with zeros its border would see -c instead of 0: such layers decline, by name.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "methods/columns.h"
#include "methods/layers.h"
#include "methods/method_list.h"
#include "methods/normals.h"
#include "nibble/interpreter.h"
#include "report/stage.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

bool pads(const Node& node) {
  if (node.op_type != "Conv") return false;
  if (node.get_string("auto_pad", "NOTSET").starts_with("SAME")) return true;
  const auto list = node.get_ints("pads").value_or(std::vector<std::int64_t>{});
  return std::any_of(list.begin(), list.end(), [](std::int64_t p) { return p != 0; });
}

struct Candidate {
  LayerView head;
  std::vector<LayerView> tails;
};

// Mean and deviation of each candidate's outputs on the calibration samples, by the head's node.
std::map<NodeId, ChannelNormal> measure(const Graph& graph, const std::vector<Candidate>& candidates, const MethodInputs& inputs) {
  std::map<ValueId, NodeId> wanted;
  for (const Candidate& c : candidates) wanted[c.head.output] = c.head.node;
  std::map<NodeId, ChannelNormal> sums;
  std::map<NodeId, double> counts;
  Interpreter interpreter(graph, {.threads = inputs.threads, .mode = ExecMode::kFast});
  Stage stage(inputs.progress, "absorption", inputs.calibration->size());
  for (std::int64_t s = 0; s < inputs.calibration->size(); ++s) {
    interpreter.run(inputs.calibration->sample(s).inputs, [&](ValueId id, const Tensor& y) {
      const auto it = wanted.find(id);
      if (it == wanted.end() || y.rank() < 2) return;
      ChannelNormal& sum = sums[it->second];
      const auto channels = static_cast<std::size_t>(y.shape()[1]);
      sum.mean.resize(channels);
      sum.deviation.resize(channels);
      const auto values = y.data<float>();
      const std::size_t inner = values.size() / channels / static_cast<std::size_t>(y.shape()[0]);
      for (std::size_t k = 0; k < values.size(); ++k) {
        const auto v = static_cast<double>(values[k]);
        sum.mean[k / inner % channels] += v;
        sum.deviation[k / inner % channels] += v * v;
      }
      counts[it->second] += static_cast<double>(values.size() / channels);
    });
    stage.advance(s + 1);
  }
  for (auto& [node, normal] : sums) {
    for (std::size_t c = 0; c < normal.mean.size(); ++c) {
      normal.mean[c] /= counts[node];
      normal.deviation[c] = std::sqrt(std::max(0.0, normal.deviation[c] / counts[node] - normal.mean[c] * normal.mean[c]));
    }
  }
  return sums;
}

}  // namespace

void absorb_biases(MethodState& state, const MethodInputs& inputs, const MethodOptions& options) {
  const double deviations = options.at("deviations");
  Graph graph = state.graph;
  const auto consumers = graph.consumers();
  std::vector<Candidate> candidates;
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    const auto head = layer_view(graph, n);
    if (!head || !head->has_bias_input || head->channel_axis != 1 || graph.is_graph_output(head->output)) continue;
    const Activation activation = activation_of(graph.node(n));
    if (!activation.present || activation.lo != 0) continue;
    Candidate candidate{.head = *head, .tails = {}};
    std::string why = std::isinf(activation.hi) ? "" : "its activation has an upper end, which would have to move for each channel";
    for (const NodeId reader : consumers[index(head->output)]) {
      const auto tail = layer_view(graph, reader);
      if (!tail || !tail->has_bias_input || tail->inputs() != head->outputs() || !has_columns(graph.node(reader))) {
        why = fmt::format("'{}' ({}) reads it and cannot take a bias in", graph.node(reader).name, graph.node(reader).op_type);
      } else if (pads(graph.node(reader))) {
        why = fmt::format("'{}' pads with zeros, which would no longer mean 0", graph.node(reader).name);
      } else {
        candidate.tails.push_back(*tail);
      }
    }
    if (!why.empty())
      state.notes.push_back(fmt::format("absorption: '{}' declines: {}", graph.node(n).name, why));
    else if (!candidate.tails.empty())
      candidates.push_back(std::move(candidate));
  }
  std::map<NodeId, ChannelNormal> measured;
  const bool all_known = std::all_of(candidates.begin(), candidates.end(),
                                     [&](const Candidate& c) { return state.normals.contains(graph.node(c.head.node).name); });
  if (!all_known && inputs.calibration != nullptr && !candidates.empty()) measured = measure(graph, candidates, inputs);

  std::map<NodeId, std::vector<double>> biases;
  const auto bias_at = [&](const LayerView& layer) -> std::vector<double>& {
    const auto [it, fresh] = biases.try_emplace(layer.node);
    if (fresh) it->second = bias_of(graph, layer);
    return it->second;
  };
  std::int64_t moved = 0;
  for (const Candidate& candidate : candidates) {
    const std::string& name = graph.node(candidate.head.node).name;
    const auto known = state.normals.find(name);
    const ChannelNormal* normal = known != state.normals.end() ? &known->second : nullptr;
    if (normal == nullptr && measured.contains(candidate.head.node)) normal = &measured.at(candidate.head.node);
    if (normal == nullptr || std::ssize(normal->mean) != candidate.head.outputs()) {
      state.notes.push_back(fmt::format("absorption: '{}' declines: neither BatchNormalization nor data tells its outputs", name));
      continue;
    }
    std::vector<double> c(normal->mean.size());
    for (std::size_t i = 0; i < c.size(); ++i) {
      c[i] = std::max(0.0, normal->mean[i] - deviations * normal->deviation[i]);
      moved += c[i] > 0 ? 1 : 0;
      bias_at(candidate.head)[i] -= c[i];
      if (known != state.normals.end()) known->second.mean[i] -= c[i];
    }
    for (const LayerView& tail : candidate.tails) {
      std::vector<double>& bias = bias_at(tail);
      const auto w = graph.value(tail.weights).constant->data<float>();
      for (std::int64_t o = 0; o < tail.outputs(); ++o) {
        for (std::int64_t i = 0; i < tail.group_in; ++i) {
          for (std::int64_t t = 0; t < tail.taps; ++t)
            bias[static_cast<std::size_t>(o)] += static_cast<double>(w[static_cast<std::size_t>(tail.place(o, i, t))]) *
                                                 c[static_cast<std::size_t>(o / tail.group_out * tail.group_in + i)];
        }
      }
    }
  }
  state.notes.push_back(fmt::format("absorption: {} channels of {} layers", moved, candidates.size()));
  if (moved == 0) return;
  std::map<NodeId, LayerEdit> edits;
  for (const auto& [node, bias] : biases) edits[node].bias.emplace(bias.begin(), bias.end());
  write_constants(graph, edits, nullptr);
  state.graph = graph;
  state.reference = std::move(graph);
  observe_again(state, inputs);
}

}  // namespace nibble
