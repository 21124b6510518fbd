#include "quantize/base_products_form.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/fail.h"
#include "numeric/quantize.h"
#include "numeric/rounding.h"
#include "quantize/integer_form.h"
#include "quantize/weights.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

constexpr std::int64_t kMostSums = 4096;
// Sums that are this near, as a share of the largest, are the same but for rounding.
constexpr double kSameSum = 0x1p-18;

// One way to add up codes, one of each base.
struct Sum {
  double value = 0;
  std::vector<std::int32_t> codes;
  std::int64_t size = 0;  // of the codes, added up
};

std::vector<Sum> all_sums(const std::vector<QuantParams>& bases, std::size_t channel) {
  std::vector<Sum> sums = {Sum{}};
  for (const QuantParams& base : bases) {
    const double scale = static_cast<double>(base.scale[base.scale.size() == 1 ? 0 : channel]);
    std::vector<Sum> longer;
    for (const Sum& sum : sums) {
      for (std::int64_t q = base.qmin(); q <= base.qmax(); ++q) {
        Sum next = sum;
        next.value += static_cast<double>(q) * scale;
        next.codes.push_back(static_cast<std::int32_t>(q));
        next.size += std::abs(q);
        longer.push_back(std::move(next));
      }
    }
    sums = std::move(longer);
  }
  std::stable_sort(sums.begin(), sums.end(), [](const Sum& a, const Sum& b) { return a.value < b.value; });
  return sums;
}

const Sum& nearest(const std::vector<Sum>& sums, double w) {
  const double tolerance = kSameSum * std::max(std::abs(sums.front().value), std::abs(sums.back().value));
  const auto above = std::lower_bound(sums.begin(), sums.end(), w, [](const Sum& s, double x) { return s.value < x; });
  double least = above != sums.end() ? above->value - w : w - sums.back().value;
  if (above != sums.begin()) least = std::min(least, w - std::prev(above)->value);
  const auto first = std::lower_bound(sums.begin(), sums.end(), w - least - tolerance, [](const Sum& s, double x) { return s.value < x; });
  const Sum* best = nullptr;
  for (auto s = first; s != sums.end() && s->value <= w + least + tolerance; ++s) {
    if (best == nullptr || s->size < best->size) best = &*s;
  }
  return *best;
}

// One base of a weight: its codes, and the grid that they are on.
struct Base {
  std::vector<std::int32_t> codes;
  std::vector<float> scale;
  Granularity granularity;
};

class Former {
 public:
  Former(Graph& graph, RangeTable& ranges) : graph_(graph), ranges_(ranges), editor_(graph), consumers_(graph.consumers()) {}

  bool run() {
    const auto count = static_cast<NodeId>(graph_.nodes().size());
    bool changed = false;
    for (NodeId n = 0; n < count; ++n) {
      const Node node = graph_.node(n);  // a copy: the editor moves its nodes
      const bool layer = node.domain.empty() && (node.op_type == "Conv" || node.op_type == "ConvTranspose" || node.op_type == "Gemm" || node.op_type == "MatMul");
      if (!layer || !graph_.is_constant(node.input(1))) continue;
      const std::vector<ValueId> activations = operands_of_sum(node.input(0));
      const std::vector<ValueId> weights = split(node, node.input(1));
      if (activations.size() == 1 && weights.size() == 1) continue;
      form(n, node, activations, weights);
      changed = true;
    }
    check_readers();
    if (changed) editor_.finish();
    return changed;
  }

 private:
  const RangeEntry* entry(ValueId v) const {
    const auto it = ranges_.entries.find(graph_.value(v).name);
    return it != ranges_.entries.end() ? &it->second : nullptr;
  }
  const std::vector<QuantParams>* bases(ValueId v) const {
    const RangeEntry* e = entry(v);
    return e != nullptr && !e->bases.empty() ? &e->bases : nullptr;
  }

  bool is_sum(ValueId v) const {
    const NodeId producer = graph_.value(v).producer;
    if (producer == kNoNode) return false;
    const Node& node = graph_.node(producer);
    return node.domain.empty() && (node.op_type == "Add" || node.op_type == "Sum") && !node.has("activation");
  }

  void collect(ValueId v, std::vector<ValueId>& leaves) const {
    const RangeEntry* e = entry(v);
    if ((e == nullptr || !e->pinned) && is_sum(v) && !graph_.is_constant(v)) {
      for (const ValueId input : graph_.node(graph_.value(v).producer).inputs) collect(input, leaves);
      return;
    }
    leaves.push_back(v);
  }

  // What is added up to the layer's input: itself where it has no bases.
  std::vector<ValueId> operands_of_sum(ValueId x) {
    const auto* grids = bases(x);
    if (grids == nullptr) return {x};
    std::vector<ValueId> leaves;
    collect(x, leaves);
    if (!is_sum(x) || leaves.size() != grids->size())
      fail(ErrorCode::kInvalidData, "value '{}' has {} bases, but is a sum of {} values", graph_.value(x).name, grids->size(), is_sum(x) ? leaves.size() : 1);
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      const RangeEntry* e = entry(leaves[i]);
      if (e == nullptr || !e->pinned || !(*e->pinned == (*grids)[i]))
        fail(ErrorCode::kInvalidData, "base {} of value '{}' is not the pinned grid of '{}'", i + 1, graph_.value(x).name, graph_.value(leaves[i]).name);
    }
    sums_.push_back(x);
    return leaves;
  }

  std::vector<ValueId> split(const Node& node, ValueId w) {
    const auto* grids = bases(w);
    if (grids == nullptr) return {w};
    if (const auto known = splits_.find(w); known != splits_.end()) return known->second;
    const std::string name = graph_.value(w).name;
    const Tensor weights = *graph_.value(w).constant;
    const std::vector<Base> parts = merged(decompose(node, name, weights, *grids));
    std::vector<ValueId> result;
    for (std::size_t j = 0; j < parts.size(); ++j) {
      const auto largest = std::abs(*std::max_element(parts[j].codes.begin(), parts[j].codes.end(), [](auto a, auto b) { return std::abs(a) < std::abs(b); }));
      QuantParams grid{.type = {.bit_width = largest > 127 ? 16 : 8, .is_signed = true, .narrow_range = true},
                       .granularity = parts[j].granularity,
                       .scale = parts[j].scale,
                       .zero_point = std::vector<std::int32_t>(parts[j].scale.size(), 0)};
      if (parts.size() == 1) {
        ranges_.entries[name].bases.clear();
        ranges_.entries[name].pinned = std::move(grid);
        return splits_[w] = {w};
      }
      Tensor reals(DataType::kFloat32, weights.shape());
      dequantize(parts[j].codes, weights.shape(), grid, reals.mutable_data<float>());
      result.push_back(editor_.add_constant(name + "_base" + std::to_string(j + 1), std::move(reals)));
      ranges_.entries[graph_.value(result.back()).name].pinned = std::move(grid);
    }
    return splits_[w] = result;
  }

  static std::vector<Base> decompose(const Node& node, const std::string& name, const Tensor& weights, const std::vector<QuantParams>& grids) {
    const WeightLayout layout = weight_layout(node, weights.shape());
    const auto axis = weight_channel_axis(node, weights.shape());
    std::int64_t count = 1;
    for (const QuantParams& grid : grids) {
      const auto* channel = std::get_if<PerChannel>(&grid.granularity);
      const bool fits = grid.per_tensor() ? grid.scale.size() == 1
                                          : channel != nullptr && axis == channel->axis && static_cast<std::int64_t>(grid.scale.size()) == layout.channels;
      if (!fits || !grid.symmetric())
        fail(ErrorCode::kInvalidData, "weights '{}': a base has one scale, or one an output channel ({}), and zero points 0", name, layout.channels);
      count = std::min(kMostSums + 1, count * (grid.qmax() - grid.qmin() + 1));
    }
    if (count > kMostSums) fail(ErrorCode::kUnsupported, "weights '{}': their bases have more than {} sums of codes", name, kMostSums);

    const auto values = weights.data<float>();
    std::vector<Base> parts;
    for (const QuantParams& grid : grids) parts.push_back({.codes = std::vector<std::int32_t>(values.size()), .scale = grid.scale, .granularity = grid.granularity});
    const bool one = std::all_of(grids.begin(), grids.end(), [](const QuantParams& grid) { return grid.per_tensor(); });
    std::vector<std::vector<Sum>> sums;
    for (std::int64_t o = 0; o < (one ? 1 : layout.channels); ++o) sums.push_back(all_sums(grids, static_cast<std::size_t>(o)));
    std::vector<std::vector<bool>> used(parts.size(), std::vector<bool>(static_cast<std::size_t>(layout.channels), false));
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i])) fail(ErrorCode::kInvalidModel, "node '{}' ({}): its weights hold {} (element {})", node.name, node.op_type, values[i], i);
      const auto o = static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i)));
      const Sum& sum = nearest(sums[one ? 0 : o], static_cast<double>(values[i]));
      for (std::size_t j = 0; j < parts.size(); ++j) {
        parts[j].codes[i] = sum.codes[j];
        used[j][o] = used[j][o] || sum.codes[j] != 0;
      }
    }
    // Where a base is 0 throughout a channel, its scale says nothing.
    for (std::size_t j = 0; j < parts.size(); ++j) {
      float widest = 0;
      for (std::size_t o = 0; o < parts[j].scale.size() && parts[j].scale.size() > 1; ++o) widest = std::max(widest, used[j][o] ? parts[j].scale[o] : 0.0F);
      for (std::size_t o = 0; o < parts[j].scale.size() && widest > 0; ++o) parts[j].scale[o] = used[j][o] ? parts[j].scale[o] : widest;
    }
    return parts;
  }

  // Bases of equal scales are one: what is written as one comes back as one.
  static std::vector<Base> merged(std::vector<Base> parts) {
    std::vector<Base> result;
    for (Base& part : parts) {
      const auto same = std::find_if(result.begin(), result.end(), [&](const Base& b) { return b.scale == part.scale; });
      if (same == result.end()) {
        result.push_back(std::move(part));
        continue;
      }
      for (std::size_t i = 0; i < part.codes.size(); ++i) same->codes[i] += part.codes[i];
    }
    return result;
  }

  void form(NodeId n, const Node& node, const std::vector<ValueId>& activations, const std::vector<ValueId>& weights) {
    Node formed = node;
    formed.domain = "nibble";
    formed.op_type = "BaseProducts";
    formed.attributes.insert_or_assign("op_type", node.op_type);
    formed.attributes.insert_or_assign("activations", static_cast<std::int64_t>(activations.size()));
    formed.attributes.insert_or_assign("weights", static_cast<std::int64_t>(weights.size()));
    formed.inputs = activations;
    formed.inputs.insert(formed.inputs.end(), weights.begin(), weights.end());
    if (node.op_type != "MatMul" && node.input(2) != kNoValue) formed.inputs.push_back(node.input(2));
    editor_.remove_node(n);
    editor_.add_node(std::move(formed));
  }

  // A sum is never rounded, so nothing but layers can take it.
  void check_readers() const {
    for (const ValueId sum : sums_) {
      const std::string& name = graph_.value(sum).name;
      if (graph_.is_graph_output(sum)) fail(ErrorCode::kInvalidData, "value '{}' has bases, but is an output of the network", name);
      for (const NodeId reader : consumers_[index(sum)]) {
        const std::string op = layer_op(graph_.node(reader));
        if (op != "Conv" && op != "ConvTranspose" && op != "Gemm" && op != "MatMul")
          fail(ErrorCode::kInvalidData, "value '{}' has bases, but is read by node '{}' ({}), which is no layer", name, graph_.node(reader).name, op);
      }
    }
  }

  Graph& graph_;
  RangeTable& ranges_;
  GraphEditor editor_;
  std::vector<std::vector<NodeId>> consumers_;
  std::map<ValueId, std::vector<ValueId>> splits_;
  std::vector<ValueId> sums_;
};

}  // namespace

bool has_bases(const RangeTable& ranges) {
  return std::any_of(ranges.entries.begin(), ranges.entries.end(), [](const auto& e) { return !e.second.bases.empty(); });
}

bool form_base_products(Graph& graph, RangeTable& ranges) { return Former(graph, ranges).run(); }

BaseBias quantize_base_bias(std::span<const float> bias, std::int64_t channels) {
  double largest = 0;
  for (const float b : bias) largest = std::max(largest, std::abs(static_cast<double>(b)));
  int exponent = 0;
  std::frexp(largest, &exponent);  // largest <= 2^exponent
  const double step = largest > 0 ? std::ldexp(1.0, std::clamp(exponent - 30, -126, 97)) : 1.0;
  std::vector<std::int32_t> codes(static_cast<std::size_t>(channels));
  for (std::size_t o = 0; o < codes.size(); ++o) codes[o] = static_cast<std::int32_t>(rne(static_cast<double>(bias[bias.size() == 1 ? 0 : o]) / step));
  return {.codes = Tensor::from<std::int32_t>({channels}, codes),
          .params = {.type = {.bit_width = 32, .is_signed = true}, .granularity = PerTensor{}, .scale = {static_cast<float>(step)}, .zero_point = {0}}};
}

std::vector<BaseRequantizer> base_requantizers(const QuantizedGraph& model, const Node& node) {
  const BaseOperands operands = base_operands(node);
  const auto params = [&](ValueId v) -> const QuantParams& {
    const QuantParams* p = model.params_of(v);
    if (p == nullptr) fail(ErrorCode::kInvalidModel, "node '{}' (BaseProducts): an operand has no quantization parameters", node.name);
    return *p;
  };
  const float dst = params(node.output(0)).scale[0];
  const WeightLayout layout = weight_layout(product_of(node, 0, 0), model.graph.value(operands.weight(node, 0)).constant->shape());
  std::vector<std::int32_t> bias(static_cast<std::size_t>(layout.channels), 0);
  double bias_step = 0;
  if (operands.bias) {
    const std::vector<std::int32_t> codes = codes_of(*model.graph.value(node.input(*operands.bias)).constant);
    bias_step = static_cast<double>(params(node.input(*operands.bias)).scale[0]);
    for (std::size_t o = 0; o < bias.size(); ++o) bias[o] = codes.at(codes.size() == 1 ? 0 : o);
  }
  std::vector<BaseRequantizer> result;
  for (std::size_t o = 0; o < bias.size(); ++o) {
    std::vector<double> scales;
    for (std::size_t i = 0; i < operands.activations; ++i) {
      for (std::size_t j = 0; j < operands.weights; ++j) {
        const std::vector<float>& scale = params(operands.weight(node, j)).scale;
        scales.push_back(static_cast<double>(params(operands.activation(node, i)).scale[0]) * static_cast<double>(scale[o % scale.size()]));
      }
    }
    auto requantizer = make_base_requantizer(model.law, scales, static_cast<double>(bias[o]) * bias_step, dst);
    if (!requantizer)
      fail(ErrorCode::kUnsupported, "node '{}' ({}): the multipliers of its bases cannot be held by law {}; use --law float32", node.name, layer_op(node),
           to_string(model.law));
    result.push_back(std::move(*requantizer));
  }
  return result;
}

}  // namespace nibble
