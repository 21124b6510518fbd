#include "quantize/plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/fail.h"
#include "numeric/qparams.h"
#include "ops/base_products.h"
#include "ops/op.h"
#include "quantize/integer_form.h"
#include "quantize/step_form.h"
#include "schemes/scheme_rules.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

// Sets of values that must have the same grid.
class Groups {
 public:
  explicit Groups(std::size_t n) : parent_(n) { std::iota(parent_.begin(), parent_.end(), 0); }
  std::size_t find(std::size_t v) {
    while (parent_[v] != v) v = parent_[v] = parent_[parent_[v]];
    return v;
  }
  // The lower index becomes the representative, so that results do not depend on the order of calls.
  void join(ValueId a, ValueId b) {
    const std::size_t x = find(index(a));
    const std::size_t y = find(index(b));
    parent_[std::max(x, y)] = std::min(x, y);
  }

 private:
  std::vector<std::size_t> parent_;
};

class Planner {
 public:
  Planner(const Graph& graph, const RangeTable& ranges, const QuantScheme& scheme)
      : graph_(graph), ranges_(ranges), scheme_(scheme), rules_(scheme), groups_(graph.values().size()) {
    plan_.types = infer_types(graph).types;
    plan_.integer.assign(graph.nodes().size(), false);
    plan_.reformed.assign(graph.nodes().size(), false);
    plan_.reason.resize(graph.nodes().size());
    plan_.notes.resize(graph.nodes().size());
    plan_.grid.resize(graph.values().size());
  }

  QuantizationPlan run() {
    find_candidates();
    apply_first_last_policy();
    decide();
    tie();
    choose_grids();
    return std::move(plan_);
  }

 private:
  static QuantRule rule_of(const Node& node) {
    const OpDef* op = find_op(node.domain, node.op_type);
    if (op == nullptr) return QuantRule::kFloat;
    return is_tied(node) ? QuantRule::kTied : op->rule;
  }

  // Nodes that could be integer nodes: by structure, by the scheme's rules and by the target.
  void find_candidates() {
    for (const Node& node : graph_.nodes()) {
      Node judged = node;  // rules speak of the operator that the network has
      judged.op_type = layer_op(node);
      plan_.schemes.push_back(rules_.scheme_for(judged));
      const std::size_t n = plan_.schemes.size() - 1;
      const NodeScheme& s = plan_.schemes.back();
      candidate_.push_back(false);
      const auto listed = [&](const std::vector<std::string>& list) { return std::find(list.begin(), list.end(), judged.op_type) != list.end(); };
      if (const auto why = why_not_integer(graph_, node, plan_.types)) {
        plan_.reason[n] = *why;
      } else if (!s.quantized) {
        plan_.reason[n] = s.reason.empty() ? "excluded by the options or the recipe" : s.reason;
      } else if (!scheme_.op_types_to_quantize.empty() && !listed(scheme_.op_types_to_quantize)) {
        plan_.reason[n] = "not among --op-types-to-quantize";
      } else if (listed(scheme_.unsupported_ops)) {
        plan_.reason[n] = fmt::format("target {} has no integer form of it", scheme_.target);
      } else if (s.form != NodeForm::kInteger) {
        plan_.reformed[n] = can_reform(node, s.form);
        plan_.reason[n] = plan_.reformed[n] ? "" : no_form(s.form);
      } else {
        candidate_[n] = true;
      }
    }
  }

  // Layers with constant weights; a transposed convolution has no dynamic operator.
  bool can_reform(const Node& node, NodeForm form) const {
    if (is_base_products(node)) return form == NodeForm::kWeightOnly;
    if (rule_of(node) != QuantRule::kCompute || !operands_of(graph_, node).weights) return false;
    if (form != NodeForm::kDynamic) return true;
    return node.op_type != "ConvTranspose";
  }
  static const char* no_form(NodeForm form) {
    return form == NodeForm::kDynamic ? "activations are quantized on the way, for layers with weights alone" : "activations stay float";
  }

  void apply_first_last_policy() {
    if (scheme_.first_last == FirstLastPolicy::kSame) return;
    std::vector<std::size_t> compute;
    for (std::size_t n = 0; n < candidate_.size(); ++n) {
      if ((candidate_[n] && rule_of(graph_.nodes()[n]) == QuantRule::kCompute) || plan_.reformed[n]) compute.push_back(n);
    }
    if (compute.empty()) return;
    for (const std::size_t n : {compute.front(), compute.back()}) {
      if (scheme_.first_last == FirstLastPolicy::k8Bit) {
        plan_.schemes[n].weights.type.bit_width = 8;
        plan_.schemes[n].weights.codebook = Codebook::kNone;
        plan_.schemes[n].activations.type.bit_width = 8;
        eight_bit_inputs_.push_back(graph_.nodes()[n].input(0));
        continue;
      }
      candidate_[n] = false;
      plan_.reformed[n] = false;
      plan_.reason[n] = "first and last layers stay float (first_last)";
    }
  }

  // Backwards: values that some compute node will read as integers, directly or through rearrangements. They exist as integers whatever else
  // happens, so an addition beside them may use them too.
  void find_feeds() {
    feeds_compute_.assign(graph_.values().size(), false);
    for (std::size_t n = graph_.nodes().size(); n-- > 0;) {
      const Node& node = graph_.nodes()[n];
      if (!candidate_[n]) continue;
      const QuantRule rule = rule_of(node);
      const bool passes_on = rule == QuantRule::kTied && std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId v) {
                               return v != kNoValue && feeds_compute_[index(v)];
                             });
      if (rule != QuantRule::kCompute && !passes_on) continue;
      for (const std::size_t i : operands_of(graph_, node).activations) feeds_compute_[index(node.input(i))] = true;
    }
  }

  bool made_of_integers(ValueId id) const {
    const NodeId producer = graph_.value(id).producer;
    return producer != kNoNode && plan_.integer[index(producer)];
  }
  bool available(ValueId id) const { return made_of_integers(id) || feeds_compute_[index(id)]; }

  bool pinned(ValueId id) const {
    const auto entry = ranges_.entries.find(graph_.value(id).name);
    return entry != ranges_.entries.end() && entry->second.pinned;
  }

  // Forwards: compute nodes always; the others where integers reach them, since a pair of edges around a lone cheap operator costs more than it.
  void decide() {
    find_feeds();
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      if (!candidate_[n]) continue;
      const Node& node = graph_.nodes()[n];
      const std::vector<std::size_t> activations = operands_of(graph_, node).activations;
      const auto any = [&](auto test) {
        return std::any_of(activations.begin(), activations.end(), [&](std::size_t i) { return test(node.input(i)); });
      };
      const auto all = [&](auto test) {
        return std::all_of(activations.begin(), activations.end(), [&](std::size_t i) { return test(node.input(i)); });
      };
      bool yes = false;
      switch (rule_of(node)) {
        case QuantRule::kCompute: yes = true; break;
        case QuantRule::kArithmetic: yes = all([&](ValueId v) { return graph_.is_constant(v) || available(v); }); break;
        case QuantRule::kTied:
          yes = any([&](ValueId v) { return made_of_integers(v); }) ||
                (any([&](ValueId v) { return feeds_compute_[index(v)]; }) && feeds_compute_[index(node.output(0))]);
          break;
        // A sign of real numbers would see more than the grid that was pinned for them.
        case QuantRule::kUnaryTable: yes = any([&](ValueId v) { return available(v) || (is_step(node) && pinned(v)); }); break;
        case QuantRule::kFloat:
        case QuantRule::kNotReal: break;
      }
      plan_.integer[n] = yes;
      if (!yes) plan_.reason[n] = "its inputs are float: two conversions would cost more than it";
    }
  }

  void tie() {
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      if (!plan_.integer[n] || rule_of(node) != QuantRule::kTied) continue;
      for (const ValueId output : node.outputs) {
        if (output == kNoValue) continue;
        for (const std::size_t i : operands_of(graph_, node).activations) {
          if (!graph_.is_constant(node.input(i))) groups_.join(node.input(i), output);
        }
      }
    }
  }

  // The grid of each group: pinned parameters, or the union of its members' ranges.
  void choose_grids() {
    struct Group {
      std::optional<Range> range;
      std::optional<QuantParams> pinned;
      const TensorScheme* scheme = nullptr;
      bool eight_bits = false;
      ValueId first = kNoValue;
    };
    std::vector<Group> groups(graph_.values().size());
    std::vector<bool> wanted(graph_.values().size(), false);
    const TensorScheme* input_scheme = &scheme_.defaults.activations;

    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      if (!plan_.integer[n]) continue;
      const Node& node = graph_.nodes()[n];
      for (const std::size_t i : operands_of(graph_, node).activations) {
        if (!graph_.is_constant(node.input(i))) wanted[index(node.input(i))] = true;
      }
      for (const ValueId output : node.outputs) {
        if (output != kNoValue) wanted[index(output)] = true;
      }
    }
    const std::vector<bool> only_bounded = find_only_bounded();
    for (std::size_t v = 0; v < wanted.size(); ++v) {
      if (!wanted[v]) continue;
      const Value& value = graph_.values()[v];
      Group& group = groups[groups_.find(v)];
      if (group.first == kNoValue) group.first = static_cast<ValueId>(v);
      if (value.producer != kNoNode && group.scheme == nullptr) group.scheme = &plan_.schemes[index(value.producer)].activations;
      const auto entry = ranges_.entries.find(value.name);
      if (only_bounded[v] && (entry == ranges_.entries.end() || !entry->second.pinned)) continue;
      if (entry == ranges_.entries.end())
        fail(ErrorCode::kInvalidData, "no range for value '{}': calibrate this very model (its values have other names in the range table)", value.name);
      if (entry->second.pinned && group.pinned && !(*entry->second.pinned == *group.pinned))
        fail(ErrorCode::kInvalidData, "the pinned parameters of value '{}' are not those of '{}', but the two share one grid", value.name,
             graph_.value(group.first).name);
      if (entry->second.pinned) group.pinned = entry->second.pinned;
      if (!entry->second.range) continue;
      const Range& r = *entry->second.range;
      if (!std::isfinite(r.lo) || !std::isfinite(r.hi) || r.lo > r.hi)
        fail(ErrorCode::kInvalidData, "the range of value '{}' is [{}, {}]: it must be finite and in order", value.name, r.lo, r.hi);
      if (!group.range) group.range = r;
      else group.range = Range{std::min(group.range->lo, r.lo), std::max(group.range->hi, r.hi)};
    }
    tie_constants(groups, wanted);
    for (const ValueId v : eight_bit_inputs_) groups[groups_.find(index(v))].eight_bits = true;
    for (std::size_t v = 0; v < wanted.size(); ++v) {
      if (!wanted[v]) continue;
      const Group& group = groups[groups_.find(v)];
      if (group.pinned) {
        if (!group.pinned->per_tensor() || group.pinned->scale.size() != 1)
          fail(ErrorCode::kInvalidData, "the pinned parameters of value '{}' have {} scales: an activation has one", graph_.values()[v].name,
               group.pinned->scale.size());
        plan_.grid[v] = *group.pinned;
        continue;
      }
      if (!group.range) fail(ErrorCode::kInvalidData, "the range table has neither a range nor parameters for value '{}'", graph_.values()[v].name);
      TensorScheme s = group.scheme != nullptr ? *group.scheme : *input_scheme;
      if (group.eight_bits) s.type.bit_width = 8;
      const ScaleZeroPoint q = choose_qparams(group.range->lo, group.range->hi, s.type, s.symmetric, scales_of(scheme_.law));
      if (group.range->lo == group.range->hi && group.first == static_cast<ValueId>(v))
        plan_.warnings.push_back(fmt::format("value '{}' was {} in every sample: its scale is a guess", graph_.values()[v].name, group.range->lo));
      plan_.grid[v] = QuantParams{.type = s.type, .granularity = PerTensor{}, .scale = {q.scale}, .zero_point = {q.zero_point}};
    }
  }

  // Values that are only read to be bounded (Min and Max against constants). Their own range does not count: what the bounded values' grid
  // clamps is beyond the bounds (docs/arithmetic.md, Eq. 27).
  std::vector<bool> find_only_bounded() const {
    std::vector<bool> read(graph_.values().size(), false), otherwise(graph_.values().size(), false);
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      for (const ValueId v : node.inputs) {
        if (v == kNoValue) continue;
        read[index(v)] = true;
        if (!plan_.integer[n] || !is_bound(node)) otherwise[index(v)] = true;
      }
    }
    for (const ValueId v : graph_.outputs()) otherwise[index(v)] = true;
    for (std::size_t v = 0; v < read.size(); ++v) read[v] = read[v] && !otherwise[v];
    return read;
  }

  // A constant that is concatenated lies on the group's grid: the grid must reach it.
  template <typename Group>
  void tie_constants(std::vector<Group>& groups, const std::vector<bool>& wanted) {
    for (std::size_t n = 0; n < graph_.nodes().size(); ++n) {
      const Node& node = graph_.nodes()[n];
      if (!plan_.integer[n] || rule_of(node) != QuantRule::kTied || is_bound(node) || !wanted[index(node.output(0))]) continue;
      Group& group = groups[groups_.find(index(node.output(0)))];
      for (const std::size_t i : operands_of(graph_, node).activations) {
        if (!graph_.is_constant(node.input(i)) || !group.range) continue;
        for (const double x : to_doubles(*graph_.value(node.input(i)).constant)) {
          if (!std::isfinite(x)) fail(ErrorCode::kInvalidModel, "node '{}' ({}): a constant operand holds {}", node.name, node.op_type, x);
          group.range->lo = std::min(group.range->lo, x);
          group.range->hi = std::max(group.range->hi, x);
        }
      }
    }
  }

  const Graph& graph_;
  const RangeTable& ranges_;
  const QuantScheme& scheme_;
  SchemeRules rules_;
  Groups groups_;
  std::vector<bool> candidate_;
  std::vector<bool> feeds_compute_;
  std::vector<ValueId> eight_bit_inputs_;  // what the first and the last layer read, where they have 8 bits whatever the others have
  QuantizationPlan plan_;
};

}  // namespace

QuantizationPlan plan_quantization(const Graph& graph, const RangeTable& ranges, const QuantScheme& scheme) {
  return Planner(graph, ranges, scheme).run();
}

}  // namespace nibble
