// What is left of training: a canonical graph whose weights lie on their grids, and every grid pinned by the name of its value.
//
// A layer's raw weight w lies on s_c q. Folding multiplies channel c by a_c = gamma / sigma: the folded weight lies on (s_c |a_c|)
// (sign(a_c) q), so the grid survives, and only the multiplier of the requantization sees a_c. Where the method folds first, w a_c lies on
// s_c q already.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "nibble/passes.h"
#include "numeric/rounding.h"
#include "quantize/integer_form.h"
#include "quantize/weights.h"
#include "train/binarize.h"
#include "train/module_impl.h"
#include "train/torch_tensor.h"

namespace nibble::train {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

const Node* find_node(const Graph& graph, const std::string& name) {
  const auto found = std::find_if(graph.nodes().begin(), graph.nodes().end(), [&](const Node& node) { return node.name == name; });
  return found == graph.nodes().end() ? nullptr : &*found;
}

// What canonicalization multiplies each output channel of a layer by: the folded weights of a network whose weights are all 1.
class FoldedOnes {
 public:
  // `graph` still has its Sign nodes: layers go by its ids.
  FoldedOnes(Graph graph, const std::vector<LayerSite>& layers) : graph_(std::move(graph)) {
    GraphEditor editor(graph_);
    for (const LayerSite& layer : layers) {
      const ValueId weight = graph_.node(layer.node).input(1);
      Tensor ones(graph_.value(weight).constant->type(), graph_.value(weight).constant->shape());
      ones = cast(ones, DataType::kFloat32);
      for (float& x : ones.mutable_data<float>()) x = 1;
      editor.set_constant(weight, std::move(ones));
    }
    editor.finish(GraphEditor::Prune::kNo);
    graph_ = expand_signs(graph_, {});
    canonicalize(graph_);
  }
  // One factor an output channel.
  std::vector<double> of(const std::string& node_name) const {
    const Node* node = find_node(graph_, node_name);
    if (node == nullptr || !graph_.is_constant(node->input(1)))
      fail(ErrorCode::kUnsupported, "layer '{}' is no layer any more once the network is simplified; leave it in float", node_name);
    const Tensor& weight = *graph_.value(node->input(1)).constant;
    const WeightLayout layout = weight_layout(*node, weight.shape());
    const auto values = weight.data<float>();
    std::vector<double> result(static_cast<std::size_t>(layout.channels), 1.0);
    for (std::size_t i = 0; i < values.size(); ++i)
      result[static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i)))] = static_cast<double>(values[i]);
    return result;
  }

 private:
  Graph graph_;
};

// Takes `seen`, gamma / sigma in the module's precision, off the factors: the quantizer has it in its weights already. What is left is of a
// Mul behind the BatchNormalization, else 1.
void leave_what_comes_behind(std::vector<double>& factor, const torch::Tensor& seen) {
  constexpr double kRounding = 1e-5;
  const torch::Tensor values = seen.to(torch::kFloat64).contiguous();
  for (std::size_t c = 0; c < factor.size(); ++c) {
    const double ratio = factor[c] / values.data_ptr<double>()[c];
    factor[c] = factor[c] == 0 || std::abs(ratio - 1) < kRounding ? 1.0 : ratio;
  }
}

// The bits of two's complement that hold these codes, at least `least`.
int bits_of(const std::vector<double>& codes, int least) {
  int bits = least;
  for (const double q : codes) {
    while (q < -std::ldexp(1.0, bits - 1) || q > std::ldexp(1.0, bits - 1) - 1) ++bits;
  }
  return bits;
}

// One grid of a layer, folded, in the weight's own layout.
struct FoldedBase {
  std::vector<double> codes;
  std::vector<double> scale;  // by output channel, or one
  int bits = 8;
};

// Of +-scale: int8 codes +-1. A sum has one grid a part.
void pin_signs(RangeTable& ranges, const std::string& name, const std::vector<SignBase>& signs) {
  for (std::size_t i = 0; i < signs.size(); ++i) {
    QuantParams params;
    params.type = {.bit_width = 8, .is_signed = true};
    params.scale = {static_cast<float>(signs[i].scale)};
    ranges.entries[signs.size() == 1 ? name : fmt::format("{}_sign{}", name, i)].pinned = params;
    if (signs.size() > 1) ranges.entries[name].bases.push_back(params);
  }
}

}  // namespace

TrainedNetwork TrainModule::trained() const { return impl_->trained(); }

std::map<NodeId, torch::Tensor> TrainModule::Impl::round_biases() const {
  const TrainedNetwork network = trained();
  QuantizedGraph quantized;
  try {
    quantized = quantize(network.graph, network.ranges, network.scheme);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported) throw;
    return {};  // nothing to be equal to; the export says why
  }
  std::map<NodeId, torch::Tensor> result;
  for (const LayerSite& layer : layers) {
    const Node* node = find_node(quantized.graph, graph().node(layer.node).name);
    // Behind all activations and weights: a layer of sums of bases has several of each.
    const std::int64_t place = node == nullptr ? 0 : node->get_int("activations", 1) + node->get_int("weights", 1);
    const ValueId bias = node == nullptr ? kNoValue : node->input(static_cast<std::size_t>(place));
    const QuantParams* params = quantized.params_of(bias);
    if (params == nullptr || !quantized.graph.is_constant(bias)) continue;
    const std::vector<double> codes = to_doubles(*quantized.graph.value(bias).constant);
    torch::Tensor values = torch::empty({static_cast<std::int64_t>(codes.size())}, torch::kFloat64);
    for (std::size_t c = 0; c < codes.size(); ++c)
      values.data_ptr<double>()[c] = codes[c] * static_cast<double>(params->scale[params->scale.size() == 1 ? 0 : c]);
    // Where an Add or Mul behind the layer was folded into it as well, the module still computes that by itself.
    const torch::Tensor steps = torch::tensor(std::vector<double>(params->scale.begin(), params->scale.end()), torch::kFloat64);
    const torch::Tensor own = own_bias(layer, values.numel());
    if (own.sizes() != values.sizes() || ((values - own).abs() > 0.51 * steps + 1e-6 * own.abs()).any().item<bool>()) continue;
    result[layer.node] = values;
  }
  return result;
}

torch::Tensor TrainModule::Impl::own_bias(const LayerSite& layer, std::int64_t channels) const {
  const ValueId id = graph().node(layer.node).input(2);
  torch::Tensor bias = torch::zeros({channels}, torch::kFloat64);
  if (id != kNoValue && constants[index(id)].defined()) bias = constants[index(id)].detach().to(torch::kFloat64).flatten();
  if (layer.norm == kNoNode) return bias.numel() == 1 ? bias.expand({channels}) : bias;
  const BatchNorm& norm = norms.at(layer.norm);
  const torch::Tensor factor = norm.gamma.detach().to(torch::kFloat64) / (norm.var.to(torch::kFloat64) + norm.epsilon).sqrt();
  return (bias - norm.mean.to(torch::kFloat64)) * factor + norm.beta.detach().to(torch::kFloat64);
}

TrainedNetwork TrainModule::Impl::trained() const {
  const Impl& impl = *this;
  torch::NoGradGuard guard;
  TrainedNetwork result;
  result.scheme = scheme_of(impl.quantization);
  result.notes = impl.notes;

  // The simplified graph with what was learned; its node names are the ones that layers go by.
  Graph graph = impl.graph();
  {
    GraphEditor editor(graph);
    for (const ValueId v : impl.learned_values())
      editor.set_constant(v, from_torch(impl.constants[index(v)], impl.graph().value(v).constant->type()));
    editor.finish(GraphEditor::Prune::kNo);
  }
  const FoldedOnes ones(graph, impl.layers);
  std::map<std::string, std::vector<SignBase>> signs;

  for (std::size_t e = 0; e < impl.edges.size(); ++e) {
    const EdgeQuantizer& edge = impl.edges[e];
    if (!edge.initialized)
      fail(ErrorCode::kInvalidArgument, "value '{}' has no grid yet: TrainModule::initialize() comes before trained()", edge.name);
    const ActivationGrid grid = edge.quantizer->grid();
    if (!grid.signs.empty()) {
      pin_signs(result.ranges, edge.name, grid.signs);
      signs[edge.name] = grid.signs;
      continue;
    }
    for (const auto& [name, at] : impl.placement.edge_of) {
      if (at == e) result.ranges.entries[name].pinned = *grid.uniform;
    }
  }

  result.graph = expand_signs(graph, signs);
  canonicalize(result.graph);

  GraphEditor editor(result.graph);
  for (const LayerSite& layer : impl.layers) {
    if (layer.holder == SIZE_MAX) continue;
    const WeightHolder& holder = impl.holders[layer.holder];
    const std::string& name = impl.graph().node(layer.node).name;
    const Node* found = find_node(result.graph, name);
    if (found == nullptr) fail(ErrorCode::kUnsupported, "layer '{}' is gone once the network is simplified; leave it in float", name);
    const Node node = *found;
    const ValueId weight = node.input(1);
    const Shape shape = result.graph.value(weight).constant->shape();
    const WeightLayout layout = weight_layout(node, shape);
    const auto channels = static_cast<std::size_t>(layout.channels);
    std::vector<double> factor = ones.of(name);
    if (impl.folds(layer)) leave_what_comes_behind(factor, impl.fold_factor(layer));

    // Codes may not grow where a bias would leave 32 bits: the channel's scale is raised instead.
    std::vector<double> least(channels, 0.0);
    if (layer.integer && node.input(2) != kNoValue) {
      const auto entry = result.ranges.entries.find(result.graph.value(node.input(0)).name);
      if (entry != result.ranges.entries.end() && entry->second.pinned) {
        const std::vector<double> bias = to_doubles(*result.graph.value(node.input(2)).constant);
        for (std::size_t c = 0; c < channels; ++c)
          least[c] = std::abs(bias[bias.size() == 1 ? 0 : c]) / (static_cast<double>(entry->second.pinned->scale[0]) * 0x1p30);
      }
    }

    std::vector<FoldedBase> folded;
    for (const WeightBase& base : holder.quantizer->bases(impl.seen_weight(holder, layer).detach())) {
      const torch::Tensor turned = holder.turned ? base.codes.transpose(0, -1) : base.codes;
      const torch::Tensor codes = turned.to(torch::kFloat64).contiguous();
      FoldedBase f;
      f.codes.assign(codes.data_ptr<double>(), codes.data_ptr<double>() + codes.numel());
      const bool one_factor = std::all_of(factor.begin(), factor.end(), [&](double a) { return a == factor[0]; });
      const bool per_channel = base.scale.size() > 1 || !one_factor || factor[0] == 0;
      f.scale.resize(per_channel ? channels : 1);
      for (std::size_t c = 0; c < f.scale.size(); ++c) {
        const double own = base.scale[base.scale.size() == 1 ? 0 : c];
        f.scale[c] = std::abs(factor[c]) * own;
        if (static_cast<float>(f.scale[c]) < std::numeric_limits<float>::min())
          f.scale[c] = std::max(own, 1e-30);  // all of its weights are 0
      }
      for (std::size_t i = 0; i < f.codes.size(); ++i) {
        const auto c = static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i)));
        const double own = base.scale[base.scale.size() == 1 ? 0 : c];
        const bool gone = static_cast<float>(std::abs(factor[c]) * own) < std::numeric_limits<float>::min();
        f.codes[i] *= gone ? 0.0 : factor[c] < 0 ? -1.0 : 1.0;
      }
      for (std::size_t c = 0; c < channels; ++c) {
        if (!per_channel || f.scale[c] >= least[c]) continue;
        const double ratio = f.scale[c] / least[c];
        for (std::size_t i = 0; i < f.codes.size(); ++i) {
          if (layout.channel_of(static_cast<std::int64_t>(i)) == static_cast<std::int64_t>(c)) f.codes[i] = rne(f.codes[i] * ratio);
        }
        f.scale[c] = least[c];
        result.notes.push_back(fmt::format("layer '{}': the weights of channel {} vanish beside its bias", name, c));
      }
      f.bits = bits_of(f.codes, base.bits);
      if (base.bits == 8 && f.bits == 9) {  // -128 of a channel whose sign was flipped: 127 is as good
        for (double& q : f.codes) q = std::min(q, 127.0);
        f.bits = 8;
      }
      folded.push_back(std::move(f));
    }

    Tensor values = Tensor::zeros(DataType::kFloat32, shape);
    const auto out = values.mutable_data<float>();
    std::vector<double> sums(out.size(), 0.0);
    RangeEntry& entry = result.ranges.entries[result.graph.value(weight).name];
    entry.bases.clear();  // of another layer with the same weights
    for (const FoldedBase& f : folded) {
      QuantParams params;
      // Of parts of a sum -1, 0 and 1 are enough: 0 is there for channels that are all 0.
      params.type = {.bit_width = f.bits, .is_signed = true, .narrow_range = f.bits == 2 && folded.size() > 1};
      if (f.scale.size() > 1 || channels == 1) {
        const auto axis = weight_channel_axis(node, shape);
        if (axis && f.scale.size() == channels) params.granularity = PerChannel{*axis};
      }
      params.scale.clear();
      for (const double s : f.scale) params.scale.push_back(static_cast<float>(s));
      params.zero_point.assign(params.scale.size(), 0);
      for (std::size_t i = 0; i < sums.size(); ++i) {
        const auto c = params.scale.size() == 1 ? 0 : static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i)));
        sums[i] += f.codes[i] * static_cast<double>(params.scale[c]);
      }
      if (folded.size() == 1)
        entry.pinned = params;
      else
        entry.bases.push_back(params);
    }
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(sums[i]);
    editor.set_constant(weight, std::move(values));
  }
  editor.finish();

  // Layers that BatchNormalizations became: one weight a channel, exact on a grid of its own.
  for (const Node& node : result.graph.nodes()) {
    if (node.op_type != "Conv" || !result.graph.is_constant(node.input(1)) || impl.edges.empty()) continue;
    const Tensor& weight = *result.graph.value(node.input(1)).constant;
    if (weight.type() != DataType::kFloat32 || weight.size() != weight.shape()[0]) continue;
    RangeEntry& entry = result.ranges.entries[result.graph.value(node.input(1)).name];
    if (entry.pinned || !entry.bases.empty()) continue;
    QuantParams params;
    params.type = {.bit_width = 8, .is_signed = true, .narrow_range = true};
    params.granularity = PerChannel{0};
    params.scale.clear();
    for (const float w : weight.data<float>())
      params.scale.push_back(w == 0 ? 1.0F : std::max(std::abs(w) / 127, std::numeric_limits<float>::min()));
    params.zero_point.assign(params.scale.size(), 0);
    entry.pinned = params;
  }
  return result;
}

}  // namespace nibble::train
