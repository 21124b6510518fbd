// Models from channels-last frameworks stand in a wood of Transposes: each convolution is wrapped in one that brings its input to NCHW and
// one that brings its output back. Between two wrapped layers stand element-wise nodes, which do not care about the layout.
//
// A *region* is a set of values V that hang together through such nodes. Flipping it by a permutation q means to compute v' = Transpose(v,
// q) instead of every v in V:
//
//   made by a node of the region            v' is made by the same node, reading the flipped inputs
//   made by Transpose(x, q^-1)              v' = x: that Transpose falls away
//   made by anything else                   v' needs a Transpose(q), unless one is there
//   read by Transpose(q)                    its output is v': that Transpose falls away
//   read by anything else, made in region   the old v is needed: one Transpose(q^-1) restores it
//
// A region is flipped where that leaves fewer Transposes than before, so the pass ends.
#include <algorithm>
#include <map>
#include <numeric>

#include "ops/op.h"
#include "passes/pass_list.h"
#include "passes/rewriter.h"

namespace nibble {
namespace {

using Perm = std::vector<std::int64_t>;

constexpr std::size_t kMaxRegion = 512;  // values; keeps the pass linear in the graph
constexpr int kMaxRounds = 16;

Perm inverse(const Perm& p) {
  Perm q(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) q[static_cast<std::size_t>(p[i])] = static_cast<std::int64_t>(i);
  return q;
}

bool is_permutation_of_axes(const Perm& p) {
  Perm sorted = p;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

bool is_identity(const Perm& p) { return std::is_sorted(p.begin(), p.end()); }

std::string text(const Perm& p) { return to_string(p); }

class Canceller {
 public:
  Canceller(Rewriter& rewriter, const InferredGraph& known) : rewriter_(rewriter), known_(known) {}

  void run() {
    for (int round = 0; round < kMaxRounds; ++round) {
      bool changed = false;
      for (NodeId id = 0; id < rewriter_.node_count(); ++id) changed = visit(id) || changed;
      if (!changed) return;
    }
  }

 private:
  struct Region {
    Perm q;
    std::vector<ValueId> values;
    std::vector<NodeId> nodes;
    bool has(ValueId v) const { return std::find(values.begin(), values.end(), v) != values.end(); }
    bool has_node(NodeId n) const { return std::find(nodes.begin(), nodes.end(), n) != nodes.end(); }
  };

  // The permutation of a Transpose; empty if the node is none or its perm is missing or nonsense.
  Perm perm_of(NodeId id) const {
    if (id == kNoNode || rewriter_.is_removed(id) || !rewriter_.is(id, "Transpose")) return {};
    const auto perm = rewriter_.node(id).get_ints("perm");
    return perm && is_permutation_of_axes(*perm) ? *perm : Perm{};
  }

  const TensorType& type(ValueId v) const {
    const auto i = static_cast<std::size_t>(v);
    return i < known_.types.size() ? known_.types[i] : rewriter_.value(v).type;
  }
  bool has_rank(ValueId v, std::size_t rank) const { return type(v).has_rank && type(v).dims.size() == rank; }

  bool visit(NodeId id) {
    const Perm p = perm_of(id);
    if (p.empty()) return false;
    const ValueId in = rewriter_.node(id).inputs[0];
    const ValueId out = rewriter_.node(id).outputs[0];
    if (rewriter_.readers(out).empty() && !rewriter_.is_output(out)) {
      rewriter_.remove_node(id);
      return false;
    }
    return compose(id, p, in, out) || try_region(in, p) || try_region(out, inverse(p));
  }

  // Transpose of a Transpose.
  bool compose(NodeId id, const Perm& p, ValueId in, ValueId out) {
    const NodeId head = rewriter_.producer(in);
    const Perm first = perm_of(head);
    if (first.size() != p.size()) return false;
    Perm both(p.size());
    for (std::size_t i = 0; i < p.size(); ++i) both[i] = first[static_cast<std::size_t>(p[i])];
    const ValueId source = rewriter_.node(head).inputs[0];
    const std::string head_name = rewriter_.node(head).name;
    if (is_identity(both)) {
      rewriter_.applied(rewriter_.node(id).name, "undoes Transpose '{}': both removed", head_name);
      replace_now(id, out, source);
    } else {
      rewriter_.set_input(id, 0, source);
      rewriter_.editor().set_attribute(id, "perm", both);
      rewriter_.applied(rewriter_.node(id).name, "joined with Transpose '{}' to {}", head_name, text(both));
    }
    return true;
  }

  // Readers of `from`, which Transpose `id` makes, read `to`. A graph output keeps its value: the Transpose becomes an Identity.
  void replace_now(NodeId id, ValueId from, ValueId to) {
    const std::vector<NodeId> readers = rewriter_.readers(from);
    for (const NodeId reader : readers) {
      std::vector<ValueId> inputs = rewriter_.node(reader).inputs;
      std::replace(inputs.begin(), inputs.end(), from, to);
      rewriter_.set_inputs(reader, std::move(inputs));
    }
    if (rewriter_.is_output(from)) {
      rewriter_.editor().set_op_type(id, "Identity");
      rewriter_.editor().remove_attribute(id, "perm");
      rewriter_.set_inputs(id, {to});
    } else {
      rewriter_.remove_node(id);
    }
  }

  // A node that does the same under every layout, all of whose real inputs have `rank` axes.
  bool agnostic(NodeId id, std::size_t rank) const {
    if (id == kNoNode || rewriter_.is_removed(id)) return false;
    const Node& node = rewriter_.node(id);
    const OpDef* op = find_op(node.domain, node.op_type);
    if (op == nullptr || node.outputs.size() != 1 || !has_rank(node.outputs[0], rank)) return false;
    const bool concat = node.domain.empty() && node.op_type == "Concat";
    if (!op->elementwise && !concat) return false;
    for (const ValueId v : node.inputs) {
      if (v == kNoValue) continue;
      if (const Tensor* tensor = rewriter_.constant(v)) {
        if (concat ? tensor->rank() != static_cast<std::int64_t>(rank) : tensor->rank() > static_cast<std::int64_t>(rank)) return false;
      } else if (!has_rank(v, rank)) {
        return false;
      }
    }
    return true;
  }

  bool grow(Region& region) {
    const std::size_t rank = region.q.size();
    const auto add_node = [&](NodeId n) {
      if (!agnostic(n, rank) || region.has_node(n)) return;
      region.nodes.push_back(n);
      const Node& node = rewriter_.node(n);
      for (const ValueId v : node.inputs) {
        if (v != kNoValue && rewriter_.constant(v) == nullptr && !region.has(v)) region.values.push_back(v);
      }
      if (!region.has(node.outputs[0])) region.values.push_back(node.outputs[0]);
    };
    for (std::size_t i = 0; i < region.values.size(); ++i) {
      if (region.values.size() > kMaxRegion) return false;
      const ValueId v = region.values[i];
      add_node(rewriter_.producer(v));
      const std::vector<NodeId> readers = rewriter_.readers(v);
      for (const NodeId reader : readers) add_node(reader);
    }
    return true;
  }

  // Transposes by q that read v.
  std::vector<NodeId> leaving(ValueId v, const Perm& q) {
    std::vector<NodeId> result;
    for (const NodeId reader : rewriter_.readers(v)) {
      if (perm_of(reader) == q) result.push_back(reader);
    }
    return result;
  }

  bool entering(ValueId v, const Perm& q_inverse) const { return perm_of(rewriter_.producer(v)) == q_inverse; }

  // The old value is still wanted by somebody outside.
  bool wanted(const Region& region, ValueId v) {
    if (rewriter_.is_output(v)) return true;
    for (const NodeId reader : rewriter_.readers(v)) {
      if (!region.has_node(reader) && perm_of(reader) != region.q) return true;
    }
    return false;
  }

  int gain(const Region& region) {
    const Perm back = inverse(region.q);
    int total = 0;
    for (const ValueId v : region.values) {
      const int out = static_cast<int>(leaving(v, region.q).size());
      const bool old_wanted = wanted(region, v);
      if (region.has_node(rewriter_.producer(v)))
        total += out - (old_wanted ? 1 : 0);
      else if (entering(v, back))
        total += out + (old_wanted ? 0 : 1);
      else
        total += out - 1;
    }
    return total;
  }

  // Both ends of a Transpose lie in the region (Add(x, Transpose(x)) of a square x): leave it alone.
  bool tangled(const Region& region) {
    for (const ValueId v : region.values) {
      const NodeId head = rewriter_.producer(v);
      if (!perm_of(head).empty() && region.has(rewriter_.node(head).inputs[0])) return true;
    }
    return false;
  }

  bool try_region(ValueId seed, const Perm& q) {
    if (rewriter_.constant(seed) != nullptr || !has_rank(seed, q.size())) return false;
    Region region{.q = q, .values = {seed}, .nodes = {}};
    if (!grow(region) || region.nodes.empty() || tangled(region) || gain(region) <= 0) return false;
    flip(region);
    return true;
  }

  NodeId add_transpose(ValueId from, ValueId to, const Perm& perm) {
    Node node;
    node.name = rewriter_.editor().fresh_node_name(rewriter_.value(to).name + "_transpose");
    node.op_type = "Transpose";
    node.inputs = {from};
    node.outputs = {to};
    node.attributes.emplace("perm", perm);
    return rewriter_.add_node(std::move(node));
  }

  ValueId add_flipped_value(ValueId v, const Perm& q) {
    const TensorType old = type(v);
    TensorType flipped = old;
    for (std::size_t i = 0; i < q.size(); ++i) flipped.dims[i] = old.dims[static_cast<std::size_t>(q[i])];
    return rewriter_.editor().add_value(rewriter_.value(v).name + "_transposed", flipped);
  }

  void flip(const Region& region) {
    const Perm& q = region.q;
    const Perm back = inverse(q);
    GraphEditor& editor = rewriter_.editor();
    std::map<ValueId, ValueId> flipped;
    for (const ValueId v : region.values) {
      std::vector<NodeId> out = leaving(v, q);
      const bool internal = region.has_node(rewriter_.producer(v));
      ValueId target = kNoValue;
      if (!internal && entering(v, back)) {
        target = rewriter_.node(rewriter_.producer(v)).inputs[0];
      } else if (!out.empty()) {  // that Transpose's output is the flipped value
        target = rewriter_.node(out.front()).outputs[0];
        if (internal) rewriter_.remove_node(out.front());
        out.erase(out.begin());
      } else {
        target = add_flipped_value(v, q);
        if (!internal) add_transpose(v, target, q);
      }
      flipped.emplace(v, target);
      for (const NodeId transpose : out) replace_now(transpose, rewriter_.node(transpose).outputs[0], target);
    }
    for (const NodeId id : region.nodes) {
      std::vector<ValueId> inputs = rewriter_.node(id).inputs;
      for (ValueId& v : inputs) {
        if (v == kNoValue) continue;
        if (const auto it = flipped.find(v); it != flipped.end())
          v = it->second;
        else if (const Tensor* tensor = rewriter_.constant(v); tensor != nullptr && tensor->size() != 1)
          v = permuted_constant(v, q);
      }
      rewriter_.set_inputs(id, std::move(inputs));
      const ValueId v = rewriter_.node(id).outputs[0];
      const ValueId target = flipped.at(v);
      const bool restore = wanted(region, v);
      editor.set_outputs(id, {target});
      if (restore) add_transpose(target, v, back);
      if (rewriter_.is(id, "Concat")) {
        const std::int64_t axis = rewriter_.node(id).get_int("axis", 0);
        const std::int64_t old = axis < 0 ? axis + static_cast<std::int64_t>(q.size()) : axis;
        editor.set_attribute(id, "axis", back[static_cast<std::size_t>(old)]);
      }
    }
    rewriter_.applied(rewriter_.node(region.nodes.front()).name, "{} element-wise node(s) now work in the layout {}", region.nodes.size(),
                      text(q));
  }

  ValueId permuted_constant(ValueId v, const Perm& q) {
    const Tensor tensor = *rewriter_.constant(v);
    Shape shape(q.size() - static_cast<std::size_t>(tensor.rank()), 1);
    shape.insert(shape.end(), tensor.shape().begin(), tensor.shape().end());
    Node node;
    node.name = "transpose";
    node.op_type = "Transpose";
    node.inputs = {0};
    node.outputs = {1};
    node.attributes.emplace("perm", q);
    const Tensor full = tensor.reshaped(shape);
    const Tensor* inputs[] = {&full};
    std::vector<Tensor> result = evaluate_node({.node = node, .opset = rewriter_.graph().opset(""), .inputs = inputs});
    return rewriter_.editor().add_constant(rewriter_.value(v).name + "_transposed", std::move(result[0]));
  }

  Rewriter& rewriter_;
  const InferredGraph& known_;
};

}  // namespace

void cancel_transposes(Graph& graph, PassReport& report) {
  const bool any =
      std::any_of(graph.nodes().begin(), graph.nodes().end(), [](const Node& n) { return n.domain.empty() && n.op_type == "Transpose"; });
  if (!any) return;
  const InferredGraph known = infer_types(graph);
  Rewriter rewriter(graph, report);
  Canceller(rewriter, known).run();
  rewriter.finish();
}

}  // namespace nibble
