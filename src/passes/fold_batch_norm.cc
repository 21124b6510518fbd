// A layer with constant weights takes in what follows it and is affine per output channel, y = a_c x + b_c:
//
//   BatchNormalization   a = gamma / sqrt(var + eps), b = beta - mean a
//   Mul, Div             a = c or 1/c
//   Add, Sub             b = c, -c, or (a = -1, b = c) for c - x
//
//   w'_c = a_c w_c,  bias'_c = a_c bias_c + b_c        (methods: "BN folding"; Jacob et al. 2018, section 3.2)
//
// A BatchNormalization without such a layer becomes one (convert_batch_norm.h), which takes in what follows in its turn.
// All is computed in double and rounded once. It must come before any range is looked at: the weights that are quantized are the folded
// ones.
#include <algorithm>
#include <cmath>

#include "ops/op.h"
#include "passes/affine.h"
#include "passes/convert_batch_norm.h"
#include "passes/pass_list.h"
#include "passes/rewriter.h"

namespace nibble {
namespace {

// Where a layer keeps its output channels.
struct Layer {
  std::int64_t channels = 0;
  std::int64_t rank = 0;          // of the output; -1 unknown
  std::int64_t channel_axis = 1;  // of the output
  bool takes_bias = true;
};

// Empty `why`: the layer can take an affine tail in.
std::string read_layer(const Rewriter& rewriter, const InferredGraph& known, const Node& node, Layer& layer) {
  const Tensor* weight = rewriter.constant(node.input(1));
  if (weight == nullptr || !is_real(*weight)) return "its weights are not constant reals";
  if (node.has("activation")) return "an activation lies between";
  if (node.op_type == "Conv" || node.op_type == "ConvTranspose") {
    if (weight->rank() < 3) return "its weights have rank " + std::to_string(weight->rank());
    const bool transposed = node.op_type == "ConvTranspose";
    const std::int64_t group = node.get_int("group", 1);
    layer.channels = weight->shape()[transposed ? 1 : 0] * (transposed ? group : 1);
    layer.rank = weight->rank();
    if (group < 1 || layer.channels < 1 || (transposed && weight->shape()[0] % group != 0)) return "its group does not fit its weights";
  } else if (node.op_type == "Gemm") {
    if (weight->rank() != 2) return "its weights are no matrix";
    if (node.get_float("alpha", 1.0F) != 1.0F || node.get_float("beta", 1.0F) != 1.0F) return "alpha or beta is not 1";
    layer.channels = weight->shape()[node.get_int("transB", 0) != 0 ? 0 : 1];
    layer.rank = 2;
  } else {  // MatMul
    if (weight->rank() != 2) return "its weights are no matrix";
    const TensorType& in = known.types[static_cast<std::size_t>(node.inputs[0])];
    layer.channels = weight->shape()[1];
    layer.rank = in.has_rank && in.dims.size() >= 2 ? static_cast<std::int64_t>(in.dims.size()) : -1;
    layer.channel_axis = layer.rank - 1;
    layer.takes_bias = false;
  }
  if (const ValueId bias = node.input(2); bias != kNoValue) {
    const Tensor* constant = rewriter.constant(bias);
    if (constant == nullptr || !is_real(*constant)) return "its bias is not constant";
    const bool row = constant->rank() == 0 || constant->shape().back() == layer.channels;  // a Gemm's C may be a column
    if (constant->size() != layer.channels || !row) return "its bias is not one number a channel";
  }
  return {};
}

// Channel of each weight element.
std::int64_t channel_of(const Node& node, const Shape& shape, std::int64_t channels, std::int64_t element) {
  if (node.op_type == "Conv") return element / (element_count(shape) / shape[0]);
  if (node.op_type == "ConvTranspose") {  // [C, O/g, k...]: input channel c is of group c / (C/g)
    const std::int64_t spatial = element_count(shape) / (shape[0] * shape[1]);
    const std::int64_t in = element / (spatial * shape[1]);
    const std::int64_t group = in / (shape[0] / (channels / shape[1]));
    return group * shape[1] + element / spatial % shape[1];
  }
  const bool transposed = node.op_type == "Gemm" && node.get_int("transB", 0) != 0;
  return transposed ? element / shape[1] : element % shape[1];
}

class Folder {
 public:
  Folder(Rewriter& rewriter, const InferredGraph& known) : rewriter_(rewriter), known_(known) {}

  void visit(NodeId id) {
    const Node& node = rewriter_.node(id);
    const bool norm = rewriter_.is(id, "BatchNormalization");
    if (!norm && !rewriter_.is(id, "Mul") && !rewriter_.is(id, "Div") && !rewriter_.is(id, "Add") && !rewriter_.is(id, "Sub")) return;
    if (node.has("activation")) return;
    // The side that a layer makes.
    for (std::size_t side = 0; side < (norm ? 1U : std::min<std::size_t>(node.inputs.size(), 2)); ++side) {
      const NodeId head = rewriter_.producer(node.inputs[side]);
      if (!rewriter_.is(head, "Conv") && !rewriter_.is(head, "ConvTranspose") && !rewriter_.is(head, "Gemm") &&
          !rewriter_.is(head, "MatMul"))
        continue;
      if (!norm && rewriter_.constant(node.input(1 - side)) == nullptr) continue;  // a residual Add, not a tail
      const std::string why = fold(head, id, side);
      if (!why.empty())
        rewriter_.declined(node.name, "{} after {} '{}': {}", node.op_type, rewriter_.node(head).op_type, rewriter_.node(head).name, why);
      if (!norm || why.empty()) return;
    }
    if (norm) convert_batch_norm(rewriter_, known_, id);
  }

 private:
  std::string fold(NodeId head, NodeId tail, std::size_t side) {
    Layer layer;
    const Node& node = rewriter_.node(tail);
    const Node& before = rewriter_.node(head);
    if (std::string why = read_layer(rewriter_, known_, before, layer); !why.empty()) return why;
    if (!rewriter_.has_one_use(node.inputs[side])) return rewriter_.uses_text(node.inputs[side]);
    Affine affine;
    if (node.op_type == "BatchNormalization") {
      if (layer.channel_axis != 1) return "the channels of a MatMul are its last axis, those of BatchNormalization its second";
      if (std::string why = read_batch_norm(rewriter_, node, affine); !why.empty()) return why;
    } else {
      const std::string why = read_tail(rewriter_, node, side, layer.channels, layer.rank, layer.channel_axis, affine);
      if (!why.empty()) return why;
    }
    const auto channels = static_cast<std::size_t>(layer.channels);
    if (affine.a.size() != channels) return fmt::format("it has {} channels, the layer {}", affine.a.size(), channels);
    const bool shifts = std::any_of(affine.b.begin(), affine.b.end(), [](double v) { return v != 0; });
    if (shifts && !layer.takes_bias) return "MatMul has no bias";

    const Tensor& weight = *rewriter_.constant(before.inputs[1]);
    std::vector<double> w = to_doubles(weight);
    for (std::size_t i = 0; i < w.size(); ++i)
      w[i] *= affine.a[static_cast<std::size_t>(channel_of(before, weight.shape(), layer.channels, static_cast<std::int64_t>(i)))];
    std::vector<double> bias(channels, 0.0);
    const ValueId bias_id = before.input(2);
    if (bias_id != kNoValue) bias = to_doubles(*rewriter_.constant(bias_id));
    for (std::size_t c = 0; c < channels; ++c) bias[c] = affine.a[c] * bias[c] + affine.b[c];
    const DataType dtype = weight.type();
    Tensor new_weight = from_doubles(w, weight.shape(), dtype);
    Tensor new_bias = from_doubles(bias, {layer.channels}, dtype);
    if (!all_finite(to_doubles(new_weight)) || !all_finite(to_doubles(new_bias))) return "the folded weights would not be finite";

    const std::string tail_name = node.name;
    const std::string tail_op = node.op_type;
    const std::string head_name = before.name;
    const bool scales = std::any_of(affine.a.begin(), affine.a.end(), [](double v) { return v != 1; });
    if (side != 0) rewriter_.set_inputs(tail, {node.inputs[side]});
    rewriter_.absorb(head, tail);
    if (scales) rewriter_.replace_constant(head, 1, std::move(new_weight), head_name + "_weight");
    if (bias_id != kNoValue || shifts) rewriter_.replace_constant(head, 2, std::move(new_bias), head_name + "_bias");
    rewriter_.applied(tail_name, "{} folded into '{}'", tail_op, head_name);
    return {};
  }

  Rewriter& rewriter_;
  const InferredGraph& known_;
};

}  // namespace

void fold_batch_norm(Graph& graph, PassReport& report) {
  const InferredGraph known = infer_types(graph);
  Rewriter rewriter(graph, report);
  Folder folder(rewriter, known);
  const NodeId count = rewriter.node_count();
  for (NodeId id = 0; id < count; ++id) folder.visit(id);
  rewriter.finish();
}

}  // namespace nibble
