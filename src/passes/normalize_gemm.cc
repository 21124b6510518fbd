// Gemm in one form: Y = A B(^T) + c with constant B, one bias element an output column, alpha = beta = 1, no transA. A two-dimensional
// MatMul by a constant, followed by an Add of a constant row, becomes such a Gemm, so that its bias is an integer bias later.
#include <cmath>

#include "ops/op.h"
#include "passes/pass_list.h"
#include "passes/rewriter.h"

namespace nibble {
namespace {

Tensor scaled(const Tensor& tensor, double factor) {
  std::vector<double> values = to_doubles(tensor);
  for (double& v : values) v *= factor;
  return from_doubles(values, tensor.shape(), tensor.type());
}

// A constant that adds one number to each of `columns` columns of a matrix, as a vector; nullopt if it is anything else.
std::optional<Tensor> row_vector(const Tensor& tensor, std::int64_t columns) {
  if (tensor.rank() > 2 || (tensor.rank() == 2 && tensor.shape()[0] != 1)) return std::nullopt;
  const std::int64_t last = tensor.rank() == 0 ? 1 : tensor.shape().back();
  if (last == columns) return tensor.reshaped({columns});
  if (last != 1) return std::nullopt;
  const std::vector<double> values(static_cast<std::size_t>(columns), to_doubles(tensor)[0]);
  return from_doubles(values, {columns}, tensor.type());
}

void normalize(Rewriter& rewriter, NodeId id) {
  GraphEditor& editor = rewriter.editor();
  const std::string name = rewriter.node(id).name;
  const auto alpha = static_cast<double>(rewriter.node(id).get_float("alpha", 1.0F));
  const auto beta = static_cast<double>(rewriter.node(id).get_float("beta", 1.0F));
  const Tensor* b = rewriter.constant(rewriter.node(id).input(1));
  const ValueId c_id = rewriter.node(id).input(2);
  const Tensor* c = rewriter.constant(c_id);
  if (b == nullptr || b->rank() != 2 || !is_real(*b)) {
    if (alpha != 1.0 || beta != 1.0) rewriter.declined(name, "Gemm: alpha and beta stay, its B is not a constant matrix of reals");
    return;
  }
  if (c_id != kNoValue && c == nullptr) {
    rewriter.declined(name, "Gemm: its C is not constant");
    return;
  }
  const std::int64_t columns = b->shape()[rewriter.node(id).get_int("transB", 0) != 0 ? 0 : 1];

  if (rewriter.node(id).get_int("transA", 0) != 0) {
    const ValueId a = rewriter.node(id).inputs[0];
    Node transpose;
    transpose.name = editor.fresh_node_name(name + "_transA");
    transpose.op_type = "Transpose";
    transpose.inputs = {a};
    transpose.outputs = {editor.add_value(rewriter.value(a).name + "_transposed")};
    transpose.attributes.emplace("perm", std::vector<std::int64_t>{1, 0});
    const ValueId transposed = transpose.outputs[0];
    rewriter.add_node(std::move(transpose));
    rewriter.set_input(id, 0, transposed);
    editor.remove_attribute(id, "transA");
    rewriter.applied(name, "transA became a Transpose");
  }
  if (alpha != 1.0) {
    b = rewriter.constant(rewriter.node(id).input(1));  // the value that the Transpose got may have moved it
    rewriter.replace_constant(id, 1, scaled(*b, alpha), name + "_weight");
    editor.remove_attribute(id, "alpha");
    rewriter.applied(name, "alpha {} moved into the weights", alpha);
  }
  if (c_id == kNoValue) return;
  c = rewriter.constant(c_id);
  const Tensor bias = beta == 1.0 ? *c : scaled(*c, beta);
  const auto row = row_vector(bias, columns);
  if (!row) {
    rewriter.declined(name, "Gemm: its C {} is not one number a column", to_string(c->shape()));
    return;
  }
  if (beta == 1.0 && c->shape() == row->shape()) return;
  rewriter.replace_constant(id, 2, *row, name + "_bias");
  editor.remove_attribute(id, "beta");
  rewriter.applied(name, "the bias became a vector of {}", columns);
}

// MatMul(x, W) + c, x a matrix.
void from_matmul(Rewriter& rewriter, const InferredGraph& known, NodeId id) {
  const Node& add = rewriter.node(id);
  if (add.inputs.size() != 2) return;
  for (std::size_t side = 0; side < 2; ++side) {
    const ValueId product = add.inputs[side];
    const Tensor* c = rewriter.constant(add.inputs[1 - side]);
    const NodeId head = rewriter.producer(product);
    if (c == nullptr || !is_real(*c) || !rewriter.is(head, "MatMul")) continue;
    const Node& matmul = rewriter.node(head);
    const Tensor* weight = rewriter.constant(matmul.input(1));
    if (weight == nullptr || weight->rank() != 2) continue;
    const TensorType& in = known.types[static_cast<std::size_t>(matmul.inputs[0])];
    if (!in.has_rank || in.dims.size() != 2) continue;  // Gemm has no batch axes: MatMul and Add stay
    if (!rewriter.has_one_use(product)) {
      rewriter.declined(add.name, "Add after MatMul '{}': {}", matmul.name, rewriter.uses_text(product));
      return;
    }
    const auto row = row_vector(*c, weight->shape()[1]);
    if (!row) {
      rewriter.declined(add.name, "Add after MatMul '{}': {} is not one number a column", matmul.name, to_string(c->shape()));
      return;
    }
    const std::string name = add.name;
    const std::string head_name = matmul.name;
    const ValueId c_id = add.inputs[1 - side];
    const Tensor bias = *row;
    rewriter.absorb(head, id);
    rewriter.editor().set_op_type(head, "Gemm");
    rewriter.set_input(head, 2, c_id);
    if (rewriter.constant(c_id)->shape() != bias.shape()) rewriter.replace_constant(head, 2, bias, head_name + "_bias");
    rewriter.applied(name, "joined MatMul '{}' as a Gemm", head_name);
    return;
  }
}

}  // namespace

void normalize_gemm(Graph& graph, PassReport& report) {
  const InferredGraph known = infer_types(graph);
  Rewriter rewriter(graph, report);
  const NodeId count = rewriter.node_count();
  for (NodeId id = 0; id < count; ++id) {
    if (rewriter.is(id, "Gemm"))
      normalize(rewriter, id);
    else if (rewriter.is(id, "Add"))
      from_matmul(rewriter, known, id);
  }
  rewriter.finish();
}

}  // namespace nibble
