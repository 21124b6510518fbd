#include "quantize/step_form.h"

#include <cmath>
#include <limits>
#include <optional>

#include "ops/op.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

class Fuser {
 public:
  explicit Fuser(Graph& graph) : graph_(graph) {}

  bool run() {
    std::vector<std::pair<NodeId, Node>> steps;
    for (NodeId n = 0; n < static_cast<NodeId>(graph_.nodes().size()); ++n) {
      if (auto step = match(graph_.node(n))) steps.emplace_back(n, std::move(*step));
    }
    if (steps.empty()) return false;
    GraphEditor editor(graph_);
    for (auto& [n, step] : steps) {
      editor.remove_node(n);
      editor.add_node(std::move(step));
    }
    editor.finish();
    return true;
  }

 private:
  std::optional<float> scalar(ValueId v) const {
    if (!graph_.is_constant(v)) return std::nullopt;
    const Tensor& tensor = *graph_.value(v).constant;
    if (tensor.type() != DataType::kFloat32 || tensor.size() != 1 || std::isnan(tensor.data<float>()[0])) return std::nullopt;
    return tensor.data<float>()[0];
  }

  // A constant of more axes than x would give the result more axes.
  bool keeps_shape(ValueId x, ValueId constant) {
    const std::int64_t rank = graph_.value(constant).constant->rank();
    if (rank == 0) return true;
    if (types_.empty()) types_ = infer_types(graph_).types;
    const TensorType& type = types_[index(x)];
    return type.has_rank && static_cast<std::int64_t>(type.dims.size()) >= rank;
  }

  std::optional<Node> match(const Node& where) {
    if (!where.domain.empty() || where.op_type != "Where" || where.input(0) == kNoValue) return std::nullopt;
    const auto above = scalar(where.input(1));
    const auto below = scalar(where.input(2));
    const NodeId producer = graph_.value(where.input(0)).producer;
    if (!above || !below || producer == kNoNode) return std::nullopt;
    const Node& compare = graph_.node(producer);
    if (!compare.domain.empty()) return std::nullopt;
    const bool x_first = compare.op_type == "GreaterOrEqual" || compare.op_type == "Greater";
    const bool x_last = compare.op_type == "LessOrEqual" || compare.op_type == "Less";
    if (!x_first && !x_last) return std::nullopt;
    const ValueId x = compare.input(x_first ? 0 : 1);
    const ValueId constant = compare.input(x_first ? 1 : 0);
    auto threshold = scalar(constant);
    if (!threshold || x == kNoValue || graph_.is_constant(x)) return std::nullopt;
    for (const ValueId v : {constant, where.input(1), where.input(2)}) {
      if (!keeps_shape(x, v)) return std::nullopt;
    }
    // x > t is x >= the float above t.
    if (compare.op_type == "Greater" || compare.op_type == "Less") threshold = std::nextafter(*threshold, std::numeric_limits<float>::infinity());
    Node step;
    step.name = where.name;
    step.domain = "nibble";
    step.op_type = "Step";
    step.inputs = {x};
    step.outputs = where.outputs;
    step.attributes.insert_or_assign("threshold", *threshold);
    step.attributes.insert_or_assign("above", *above);
    step.attributes.insert_or_assign("below", *below);
    return step;
  }

  Graph& graph_;
  std::vector<TensorType> types_;
};

}  // namespace

bool fuse_steps(Graph& graph) { return Fuser(graph).run(); }

}  // namespace nibble
