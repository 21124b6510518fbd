// Nodes that hand their first input on unchanged are removed. A node whose input is a graph input and whose output is a graph output stays:
// the two names belong to the outside.
#include <algorithm>
#include <limits>

#include "ops/op.h"
#include "passes/pass_list.h"
#include "passes/rewriter.h"

namespace nibble {
namespace {

// What makes `node` an identity, or an empty string.
class Finder {
 public:
  Finder(Rewriter& rewriter, const InferredGraph& known) : rewriter_(rewriter), known_(known) {}

  std::string reason(const Node& node) const {
    const std::string& op = node.op_type;
    if (!node.domain.empty() || node.input(0) == kNoValue || node.output(0) == kNoValue) return {};
    if (op == "Identity") return "Identity";
    if (op == "Dropout") return dropout(node);
    if (op == "Cast") return types_equal(node) ? "casts to the type it has" : "";
    if (op == "Transpose") return transpose(node);
    if (op == "Reshape" || op == "Flatten" || op == "Squeeze" || op == "Unsqueeze")
      return same_shape(type(node.inputs[0]), type(node.outputs[0]), true) ? "keeps the shape" : "";
    if (op == "Expand") return same_shape(type(node.inputs[0]), type(node.outputs[0]), false) ? "keeps the shape" : "";
    if (op == "Pad") return pad(node);
    if (op == "Slice") return slice(node);
    if (op == "Concat" || op == "Sum" || op == "Max" || op == "Min" || op == "Mean") return node.inputs.size() == 1 ? "has one input" : "";
    if (op == "Mul" || op == "Div") return neutral(node, 1.0);
    if (op == "Add" || op == "Sub") return neutral(node, 0.0);
    return {};
  }

 private:
  const TensorType& type(ValueId id) const { return known_.types[static_cast<std::size_t>(id)]; }

  std::string dropout(const Node& node) const {
    if (const ValueId mask = node.output(1); mask != kNoValue && mask_used(mask)) return {};
    if (const ValueId training = node.input(2); training != kNoValue) {
      const Tensor* flag = rewriter_.constant(training);
      if (flag == nullptr || flag->size() != 1 || to_int64s(*flag)[0] != 0) return {};
    }
    return "Dropout does nothing at inference";
  }
  bool mask_used(ValueId mask) const { return rewriter_.is_output(mask) || !rewriter_.readers(mask).empty(); }

  bool types_equal(const Node& node) const {
    const DataType from = type(node.inputs[0]).dtype;
    return from != DataType::kUndefined && from == type(node.outputs[0]).dtype;
  }

  static std::string transpose(const Node& node) {
    const auto perm = node.get_ints("perm");
    if (!perm) return {};
    for (std::size_t i = 0; i < perm->size(); ++i) {
      if ((*perm)[i] != static_cast<std::int64_t>(i)) return {};
    }
    return "leaves the axes in order";
  }

  std::string pad(const Node& node) const {
    const auto pads = ints_of(rewriter_, node, 1, "pads");
    if (!pads || pads->empty()) return {};
    return std::all_of(pads->begin(), pads->end(), [](std::int64_t p) { return p == 0; }) ? "pads nothing" : "";
  }

  // Every sliced axis begins at 0, ends at or beyond the last element, and goes in steps of one.
  std::string slice(const Node& node) const {
    const auto starts = ints_of(rewriter_, node, 1, "starts");
    const auto ends = ints_of(rewriter_, node, 2, "ends");
    auto axes = ints_of(rewriter_, node, 3, "axes");
    const auto steps = ints_of(rewriter_, node, 4, "steps");
    if (!starts || !ends || !axes || !steps || starts->empty() || starts->size() != ends->size()) return {};
    if (axes->empty()) {
      for (std::size_t i = 0; i < starts->size(); ++i) axes->push_back(static_cast<std::int64_t>(i));
    }
    if (axes->size() != starts->size() || (!steps->empty() && steps->size() != starts->size())) return {};
    const TensorType& in = type(node.inputs[0]);
    for (std::size_t i = 0; i < starts->size(); ++i) {
      if ((*starts)[i] != 0 || (!steps->empty() && (*steps)[i] != 1)) return {};
      const std::int64_t end = (*ends)[i];
      if (end >= std::numeric_limits<std::int32_t>::max()) continue;  // "to the end", as exporters write it
      const auto rank = static_cast<std::int64_t>(in.dims.size());
      const std::int64_t axis = (*axes)[i] < 0 ? (*axes)[i] + rank : (*axes)[i];
      if (!in.has_rank || axis < 0 || axis >= rank) return {};
      const Dim& dim = in.dims[static_cast<std::size_t>(axis)];
      if (!dim.known() || end < dim.size) return {};
    }
    return "takes everything";
  }

  // x * 1, x / 1, x + 0, x - 0 with one constant element that does not broadcast x to a higher rank. Only for reals (x - 0 keeps -0).
  std::string neutral(const Node& node, double element) const {
    if (node.inputs.size() != 2 || node.inputs[1] == kNoValue || node.has("activation")) return {};
    const Tensor* constant = rewriter_.constant(node.inputs[1]);
    if (constant == nullptr || constant->size() != 1 || !is_real(*constant)) return {};
    const TensorType& in = type(node.inputs[0]);
    if (constant->rank() > 0 && (!in.has_rank || static_cast<std::int64_t>(in.dims.size()) < constant->rank())) return {};
    const double value = to_doubles(*constant)[0];
    return value == element ? fmt::format("by {} changes nothing", element) : "";
  }

  Rewriter& rewriter_;
  const InferredGraph& known_;
};

}  // namespace

void eliminate_identity(Graph& graph, PassReport& report) {
  const InferredGraph known = infer_types(graph);
  Rewriter rewriter(graph, report);
  const Finder finder(rewriter, known);
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    const Node& node = rewriter.node(id);
    const std::string why = finder.reason(node);
    if (why.empty()) continue;
    const std::string name = node.name;
    const std::string op = node.op_type;
    const ValueId from = node.outputs[0];
    if (!rewriter.forward(from, node.inputs[0])) {
      rewriter.declined(name, "{} ({}): both ends are known outside of the graph", op, why);
      continue;
    }
    rewriter.applied(name, "{} removed: {}", op, why);
  }
  rewriter.finish();
}

}  // namespace nibble
