#include "methods/normals.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "base/fail.h"
#include "methods/layers.h"
#include "ops/op.h"
#include "quantize/integer_form.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

constexpr double kDeviations = 6;  // Nagel et al. 2019, section 5.1

double density(double x) { return std::isinf(x) ? 0.0 : std::exp(-0.5 * x * x) / std::sqrt(2 * 3.14159265358979323846); }
double distribution(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

// Normal values of each channel, cut to [lo, hi].
struct CutNormal {
  std::vector<double> mean, deviation, lo, hi;
};

CutNormal cut_by(std::vector<double> mean, std::vector<double> deviation, const Activation& activation) {
  const std::size_t channels = mean.size();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return {.mean = std::move(mean),
          .deviation = std::move(deviation),
          .lo = std::vector<double>(channels, activation.present ? activation.lo : -kInfinity),
          .hi = std::vector<double>(channels, activation.present ? activation.hi : kInfinity)};
}

ChannelMoments moments_of(const CutNormal& x) {
  ChannelMoments result;
  for (std::size_t c = 0; c < x.mean.size(); ++c) {
    const Moments m = clipped_normal(x.mean[c], x.deviation[c], x.lo[c], x.hi[c]);
    result.mean.push_back(m.mean);
    result.variance.push_back(m.variance);
    result.lo.push_back(std::clamp(x.mean[c] - kDeviations * x.deviation[c], x.lo[c], x.hi[c]));
    result.hi.push_back(std::clamp(x.mean[c] + kDeviations * x.deviation[c], x.lo[c], x.hi[c]));
  }
  return result;
}

class Propagation {
 public:
  Propagation(const Graph& graph, const std::map<std::string, ChannelNormal>& normals)
      : graph_(graph), normals_(normals), types_(infer_types(graph).types), known_(graph.values().size()) {}

  std::vector<std::optional<ChannelMoments>> run() {
    for (NodeId n = 0; n < static_cast<NodeId>(graph_.nodes().size()); ++n) {
      const Node& node = graph_.node(n);
      if (node.outputs.empty() || node.outputs[0] == kNoValue) continue;
      known_[index(node.outputs[0])] = visit(n, node);
    }
    return std::move(known_);
  }

 private:
  const ChannelMoments* of(ValueId v) const { return v != kNoValue && known_[index(v)] ? &*known_[index(v)] : nullptr; }

  std::optional<ChannelMoments> visit(NodeId n, const Node& node) {
    if (const auto layer = layer_view(graph_, n)) return after_layer(node, *layer);
    const ChannelMoments* x = of(node.input(0));
    const std::string& op = node.op_type;
    if (const auto bound = bound_operand(graph_, node)) return after_bound(node, *bound);
    if (!node.domain.empty() || x == nullptr) return std::nullopt;
    if (op == "MaxPool" || op == "AveragePool" || op == "GlobalAveragePool" || op == "GlobalMaxPool" || op == "Identity") return *x;
    if (op == "Flatten" || op == "Reshape" || op == "Squeeze") {
      const TensorType& to = types_[index(node.outputs[0])];
      if (to.has_rank && to.dims.size() >= 2 && to.dims[1].known() && to.dims[1].size == std::ssize(x->mean)) return *x;
      return std::nullopt;
    }
    if (op == "Slice") {
      const TensorType& to = types_[index(node.outputs[0])];
      if (to.has_rank && to.dims.size() >= 2 && to.dims[1].known() && to.dims[1].size == std::ssize(x->mean)) return *x;
      return std::nullopt;
    }
    if (op == "Pad") return after_pad(node, *x);
    if (op == "Add") return after_add(node, *x);
    return std::nullopt;
  }

  std::optional<ChannelMoments> after_layer(const Node& node, const LayerView& layer) {
    const Activation activation = activation_of(node);
    if (const auto it = normals_.find(node.name); it != normals_.end() && std::ssize(it->second.mean) == layer.outputs())
      return remember(node, cut_by(it->second.mean, it->second.deviation, activation));
    const ChannelMoments* x = of(layer.input);
    if (x == nullptr || std::ssize(x->mean) != layer.inputs()) return std::nullopt;
    std::vector<double> mean = bias_of(graph_, layer), deviation(mean.size(), 0.0);
    const auto w = graph_.value(layer.weights).constant->data<float>();
    for (std::int64_t o = 0; o < layer.outputs(); ++o) {
      double variance = 0;
      for (std::int64_t i = 0; i < layer.group_in; ++i) {
        const auto c = static_cast<std::size_t>(o / layer.group_out * layer.group_in + i);
        for (std::int64_t t = 0; t < layer.taps; ++t) {
          const auto v = static_cast<double>(w[static_cast<std::size_t>(layer.place(o, i, t))]);
          mean[static_cast<std::size_t>(o)] += v * x->mean[c];
          variance += v * v * x->variance[c];
        }
      }
      deviation[static_cast<std::size_t>(o)] = std::sqrt(variance);
    }
    return remember(node, cut_by(std::move(mean), std::move(deviation), activation));
  }

  ChannelMoments remember(const Node& node, CutNormal y) {
    const CutNormal& kept = cut_[node.outputs[0]] = std::move(y);
    return moments_of(kept);
  }

  // Min or Max against one bound, or one a channel.
  std::optional<ChannelMoments> after_bound(const Node& node, std::size_t bound) {
    const auto x = cut_.find(node.inputs[1 - bound]);
    if (x == cut_.end()) return std::nullopt;
    const Tensor& k = *graph_.value(node.inputs[bound]).constant;
    const TensorType& type = types_[index(node.outputs[0])];
    const auto channels = std::ssize(x->second.mean);
    if (k.size() != 1) {
      const auto axis = k.rank() - static_cast<std::int64_t>(type.dims.size()) + 1;
      if (!type.has_rank || k.size() != channels || axis < 0 || k.shape()[static_cast<std::size_t>(axis)] != channels) return std::nullopt;
    }
    CutNormal y = x->second;
    const std::vector<double> bounds = to_doubles(k);
    for (std::size_t c = 0; c < y.mean.size(); ++c) {
      const double end = bounds[k.size() == 1 ? 0 : c];
      if (std::isnan(end)) return std::nullopt;
      const auto cut = [&](double e) { return node.op_type == "Min" ? std::min(e, end) : std::max(e, end); };
      y.lo[c] = cut(y.lo[c]);
      y.hi[c] = cut(y.hi[c]);
    }
    return remember(node, std::move(y));
  }

  // Zeros as further channels; along the other axes padding is too little to count.
  std::optional<ChannelMoments> after_pad(const Node& node, const ChannelMoments& x) const {
    std::vector<std::int64_t> pads = node.get_ints("pads").value_or(std::vector<std::int64_t>{});
    if (graph_.is_constant(node.input(1))) pads = to_int64s(*graph_.value(node.input(1)).constant);
    if (pads.size() < 4 || pads[1] < 0 || pads[pads.size() / 2 + 1] < 0 || pads[1] > 65536 || pads[pads.size() / 2 + 1] > 65536)
      return std::nullopt;
    if (node.get_string("mode", "constant") != "constant" || node.input(3) != kNoValue) return std::nullopt;
    ChannelMoments result = x;
    for (std::vector<double>* part : {&result.mean, &result.variance, &result.lo, &result.hi}) {
      part->insert(part->begin(), static_cast<std::size_t>(pads[1]), 0.0);
      part->insert(part->end(), static_cast<std::size_t>(pads[pads.size() / 2 + 1]), 0.0);
    }
    return result;
  }

  std::optional<ChannelMoments> after_add(const Node& node, const ChannelMoments& a) {
    const ChannelMoments* b = of(node.input(1));
    if (b == nullptr || b->mean.size() != a.mean.size()) return std::nullopt;
    std::vector<double> mean, deviation;
    for (std::size_t c = 0; c < a.mean.size(); ++c) {
      mean.push_back(a.mean[c] + b->mean[c]);
      deviation.push_back(std::sqrt(a.variance[c] + b->variance[c]));
    }
    return remember(node, cut_by(std::move(mean), std::move(deviation), activation_of(node)));
  }

  const Graph& graph_;
  const std::map<std::string, ChannelNormal>& normals_;
  std::vector<TensorType> types_;
  std::vector<std::optional<ChannelMoments>> known_;
  std::map<ValueId, CutNormal> cut_;  // outputs of layers, sums and bounds, for bounds behind them
};

// Normal values around the middle of each channel's bounds, cut at their ends.
class Synthetic final : public Dataset {
 public:
  Synthetic(std::vector<std::pair<DataType, Shape>> inputs, std::vector<Range> bounds, std::int64_t samples, std::uint64_t seed)
      : inputs_(std::move(inputs)), bounds_(std::move(bounds)), samples_(samples), seed_(seed) {}
  std::int64_t size() const override { return samples_; }
  bool has_labels() const override { return false; }
  bool is_random() const override { return true; }
  std::string description() const override { return fmt::format("{} synthetic inputs (seed {})", samples_, seed_); }
  std::string hash() const override { return fmt::format("{:016x}", seed_); }
  Sample sample(std::int64_t i) const override {
    std::mt19937_64 random(seed_ * 1000003 + static_cast<std::uint64_t>(i));
    // A sum of twelve uniform numbers: normal enough, and the same on every machine.
    const auto normal = [&] {
      double sum = -6;
      for (int k = 0; k < 12; ++k) sum += static_cast<double>(random() >> 11) * 0x1p-53;
      return sum;
    };
    Sample sample;
    sample.name = fmt::format("synthetic[{}]", i);
    for (const auto& [type, shape] : inputs_) {
      Tensor tensor(DataType::kFloat32, shape);
      const auto values = tensor.mutable_data<float>();
      const std::size_t channels = shape.size() > 1 ? static_cast<std::size_t>(shape[1]) : 1;
      const std::size_t inner =
          values.empty() ? 1 : std::max<std::size_t>(1, values.size() / static_cast<std::size_t>(shape.empty() ? 1 : shape[0]) / channels);
      double level = 0;  // neighbours are alike, channels have levels of their own: as in pictures
      for (std::size_t k = 0; k < values.size(); ++k) {
        const Range bound = bounds_.empty() ? Range{-2.5, 2.5} : bounds_[k / inner % channels % bounds_.size()];
        if (k % inner == 0) level = 0.7 * normal();
        const double x = (bound.lo + bound.hi) / 2 + (bound.hi - bound.lo) / 4 * (level + 0.7 * normal());
        values[k] = static_cast<float>(std::clamp(x, bound.lo, bound.hi));
      }
      sample.inputs.push_back(type == DataType::kFloat32 ? std::move(tensor) : cast(tensor, type));
    }
    return sample;
  }

 private:
  std::vector<std::pair<DataType, Shape>> inputs_;
  std::vector<Range> bounds_;
  std::int64_t samples_;
  std::uint64_t seed_;
};

}  // namespace

Moments clipped_normal(double mean, double deviation, double lo, double hi) {
  if (!(deviation > 0)) return {.mean = std::clamp(mean, lo, hi), .variance = 0};
  const double a = (lo - mean) / deviation, b = (hi - mean) / deviation;
  const double below = std::isinf(lo) ? 0.0 : distribution(a), above = std::isinf(hi) ? 0.0 : distribution(-b), inside = 1 - below - above;
  const double at_a = density(a), at_b = density(b);
  double first = deviation * (at_a - at_b) + mean * inside;
  double second = (mean * mean + deviation * deviation) * inside;
  if (!std::isinf(lo)) {
    first += lo * below;
    second += deviation * (mean + lo) * at_a + lo * lo * below;
  }
  if (!std::isinf(hi)) {
    first += hi * above;
    second += -deviation * (mean + hi) * at_b + hi * hi * above;
  }
  return {.mean = first, .variance = std::max(0.0, second - first * first)};
}

std::vector<std::optional<ChannelMoments>> propagate_moments(const Graph& graph, const std::map<std::string, ChannelNormal>& normals) {
  return Propagation(graph, normals).run();
}

std::map<std::string, ChannelNormal> batch_norm_normals(const Graph& imported, const Graph& canonical) {
  // A folded BatchNormalization's output, or that of the activation fused behind it, is a value of the canonical network still: its
  // producer is the node that both went into.
  std::map<std::string, ChannelNormal> normals;
  const auto consumers = imported.consumers();
  for (const Node& node : imported.nodes()) {
    if (node.op_type != "BatchNormalization" || !node.domain.empty() || node.inputs.size() != 5) continue;
    if (!imported.is_constant(node.inputs[1]) || !imported.is_constant(node.inputs[2])) continue;
    std::optional<ValueId> found = canonical.find_value(imported.value(node.outputs[0]).name);
    const bool bare = found && canonical.value(*found).producer != kNoNode;
    if (!bare) {
      const auto& readers = consumers[index(node.outputs[0])];
      if (readers.size() != 1) continue;
      const Node& reader = imported.node(readers[0]);
      if (reader.op_type != "Relu" && reader.op_type != "Clip") continue;
      found = canonical.find_value(imported.value(reader.outputs[0]).name);
      if (!found || canonical.value(*found).producer == kNoNode) continue;
    }
    const NodeId producer = canonical.value(*found).producer;
    const auto layer = layer_view(canonical, producer);
    if (!layer || activation_of(canonical.node(producer)).present == bare) continue;
    ChannelNormal normal{.mean = to_doubles(*imported.value(node.inputs[2]).constant),
                         .deviation = to_doubles(*imported.value(node.inputs[1]).constant)};
    for (double& d : normal.deviation) d = std::abs(d);
    if (std::ssize(normal.mean) != layer->outputs() || normal.mean.size() != normal.deviation.size()) continue;
    normals[canonical.node(producer).name] = std::move(normal);
  }
  return normals;
}

std::int64_t overlay_ranges_of_normals(MethodState& state) {
  const auto moments = propagate_moments(state.graph, state.normals);
  std::int64_t replaced = 0;
  for (std::size_t v = 0; v < moments.size(); ++v) {
    if (!moments[v] || moments[v]->mean.empty()) continue;
    const Range range{*std::min_element(moments[v]->lo.begin(), moments[v]->lo.end()),
                      *std::max_element(moments[v]->hi.begin(), moments[v]->hi.end())};
    if (!std::isfinite(range.lo) || !std::isfinite(range.hi)) continue;
    state.ranges.entries[state.graph.values()[v].name].range = range;
    ++replaced;
  }
  return replaced;
}

void observe_again(MethodState& state, const MethodInputs& inputs) {
  if (inputs.observe) state.ranges = inputs.observe(state.graph);
  if (state.ranges_from_normals) overlay_ranges_of_normals(state);
}

std::unique_ptr<Dataset> synthetic_dataset(const Graph& graph, const std::vector<Range>& bounds, std::int64_t samples, std::uint64_t seed) {
  std::vector<std::pair<DataType, Shape>> inputs;
  for (const ValueId v : graph.inputs()) {
    const Value& value = graph.value(v);
    if (!value.type.has_rank || value.type.dtype == DataType::kUndefined)
      fail(ErrorCode::kInvalidArgument, "synthetic inputs: the network's input '{}' has no known shape ({}); give real data", value.name,
           to_string(value.type));
    Shape shape;
    for (const Dim& dim : value.type.dims) shape.push_back(dim.known() ? dim.size : 1);
    inputs.emplace_back(value.type.dtype, std::move(shape));
  }
  return std::make_unique<Synthetic>(std::move(inputs), bounds, samples, seed);
}

}  // namespace nibble
