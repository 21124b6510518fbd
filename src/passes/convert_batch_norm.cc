// A BatchNormalization that no layer can take (after a Concat, a pool, an Add, a layer with several readers) is a depthwise convolution
// with a 1x1 window: that has an integer form, with a scale for each channel, which BatchNormalization itself has not. For matrices [N, C]
// it is a Mul and an Add.
#include "passes/convert_batch_norm.h"

#include "passes/affine.h"

namespace nibble {
namespace {

void to_depthwise(Rewriter& rewriter, NodeId id, const Affine& affine, std::size_t rank, DataType dtype) {
  const auto channels = static_cast<std::int64_t>(affine.a.size());
  Shape shape = {channels};
  shape.resize(rank, 1);
  const std::vector<std::int64_t> ones(rank - 2, 1);
  const std::string name = rewriter.node(id).name;
  const ValueId x = rewriter.node(id).inputs[0];
  GraphEditor& editor = rewriter.editor();
  const ValueId weight = editor.add_constant(name + "_weight", from_doubles(affine.a, shape, dtype));
  const ValueId bias = editor.add_constant(name + "_bias", from_doubles(affine.b, {channels}, dtype));
  while (!rewriter.node(id).attributes.empty()) editor.remove_attribute(id, std::string(rewriter.node(id).attributes.begin()->first));
  editor.set_op_type(id, "Conv");
  editor.set_attribute(id, "group", channels);
  editor.set_attribute(id, "kernel_shape", ones);
  rewriter.set_inputs(id, {x, weight, bias});
  rewriter.applied(name, "became a depthwise 1x1 convolution");
}

void to_mul_add(Rewriter& rewriter, NodeId id, const Affine& affine, DataType dtype) {
  const auto channels = static_cast<std::int64_t>(affine.a.size());
  const std::string name = rewriter.node(id).name;
  const ValueId x = rewriter.node(id).inputs[0];
  const ValueId y = rewriter.node(id).outputs[0];
  GraphEditor& editor = rewriter.editor();
  const ValueId scale = editor.add_constant(name + "_scale", from_doubles(affine.a, {channels}, dtype));
  const ValueId shift = editor.add_constant(name + "_shift", from_doubles(affine.b, {channels}, dtype));
  const ValueId product = editor.add_value(rewriter.value(y).name + "_scaled");
  while (!rewriter.node(id).attributes.empty()) editor.remove_attribute(id, std::string(rewriter.node(id).attributes.begin()->first));
  editor.set_op_type(id, "Mul");
  rewriter.set_inputs(id, {x, scale});
  editor.set_outputs(id, {product});
  Node add;
  add.name = editor.fresh_node_name(name + "_add");
  add.op_type = "Add";
  add.inputs = {product, shift};
  add.outputs = {y};
  rewriter.add_node(std::move(add));
  rewriter.applied(name, "became Mul and Add");
}

}  // namespace

void convert_batch_norm(Rewriter& rewriter, const InferredGraph& known, NodeId id) {
  const Node& node = rewriter.node(id);
  const TensorType& in = known.types[static_cast<std::size_t>(node.inputs[0])];
  Affine affine;
  std::string why = read_batch_norm(rewriter, node, affine);
  if (why.empty() && (!in.has_rank || in.dims.size() < 2)) why = "the rank of its input is unknown";
  if (why.empty() && in.dims[1].known() && in.dims[1].size != static_cast<std::int64_t>(affine.a.size()))
    why = "its parameters do not fit its input";
  if (!why.empty()) {
    rewriter.declined(node.name, "BatchNormalization: {}", why);
    return;
  }
  const DataType dtype = rewriter.constant(node.inputs[1])->type();
  if (in.dims.size() == 2)
    to_mul_add(rewriter, id, affine, dtype);
  else
    to_depthwise(rewriter, id, affine, in.dims.size(), dtype);
}

}  // namespace nibble
