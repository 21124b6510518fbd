// ReduceMean over every spatial axis is GlobalAveragePool (with a Flatten behind it where the axes are dropped): one form for the integer
// runtime.
#include <algorithm>

#include "ops/op.h"
#include "passes/pass_list.h"
#include "passes/rewriter.h"

namespace nibble {
namespace {

bool all_spatial(std::vector<std::int64_t> axes, std::int64_t rank) {
  for (std::int64_t& axis : axes) axis = axis < 0 ? axis + rank : axis;
  std::sort(axes.begin(), axes.end());
  if (static_cast<std::int64_t>(axes.size()) != rank - 2) return false;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] != static_cast<std::int64_t>(i) + 2) return false;
  }
  return true;
}

}  // namespace

void reduce_mean_to_pool(Graph& graph, PassReport& report) {
  const InferredGraph known = infer_types(graph);
  Rewriter rewriter(graph, report);
  const NodeId count = rewriter.node_count();
  for (NodeId id = 0; id < count; ++id) {
    if (!rewriter.is(id, "ReduceMean")) continue;
    const Node& node = rewriter.node(id);
    const TensorType& in = known.types[static_cast<std::size_t>(node.inputs[0])];
    const auto axes = ints_of(rewriter, node, 1, "axes");
    const std::string name = node.name;
    if (!axes || !in.has_rank || in.dims.size() < 3 || !is_float(in.dtype)) continue;
    if (!all_spatial(*axes, static_cast<std::int64_t>(in.dims.size()))) continue;
    const bool keep = node.get_int("keepdims", 1) != 0;
    const ValueId x = node.inputs[0];
    const ValueId y = node.outputs[0];
    GraphEditor& editor = rewriter.editor();
    rewriter.set_inputs(id, {x});
    for (const char* attribute : {"axes", "keepdims", "noop_with_empty_axes"}) editor.remove_attribute(id, attribute);
    editor.set_op_type(id, "GlobalAveragePool");
    if (!keep) {
      const ValueId pooled = editor.add_value(rewriter.value(y).name + "_pooled");
      editor.set_outputs(id, {pooled});
      Node flatten;
      flatten.name = editor.fresh_node_name(name + "_flatten");
      flatten.op_type = "Flatten";
      flatten.inputs = {pooled};
      flatten.outputs = {y};
      flatten.attributes.emplace("axis", std::int64_t{1});
      rewriter.add_node(std::move(flatten));
    }
    rewriter.applied(name, "ReduceMean over the spatial axes became GlobalAveragePool{}", keep ? "" : " and Flatten");
  }
  rewriter.finish();
}

}  // namespace nibble
