#include "report/macs.h"

#include "base/checked.h"
#include "ops/base_products.h"
#include "ops/op.h"
#include "report/float_twin.h"

namespace nibble {
namespace {

// Product of the sizes; 0 where one is unknown or it overflows.
std::int64_t product(const TensorType& type, std::size_t first, std::size_t last) {
  std::int64_t result = 1;
  for (std::size_t i = first; i < last; ++i) {
    if (!type.dims[i].known()) return 0;
    result = checked_mul(result, type.dims[i].size).value_or(0);
  }
  return result;
}

std::int64_t all(const TensorType& type) { return type.has_rank ? product(type, 0, type.dims.size()) : 0; }

std::vector<TensorType> concrete_inputs(const Graph& graph, std::int64_t batch) {
  std::vector<TensorType> types;
  for (const ValueId id : graph.inputs()) {
    TensorType type = graph.value(id).type;
    for (std::size_t i = 0; i < type.dims.size(); ++i) {
      if (!type.dims[i].known()) type.dims[i] = {.size = i == 0 ? batch : 1, .symbol = {}};
    }
    types.push_back(std::move(type));
  }
  return types;
}

}  // namespace

std::int64_t macs_of(const Node& node, std::span<const TensorType> types) {
  if (is_base_products(node)) {
    const BaseOperands operands = base_operands(node);
    return macs_of(product_of(node, 0, 0), types) * static_cast<std::int64_t>(operands.activations * operands.weights);
  }
  const auto type = [&](ValueId id) -> const TensorType* { return id == kNoValue ? nullptr : &types[static_cast<std::size_t>(id)]; };
  const std::string& op = node.op_type;
  const bool linear = op.starts_with("QLinear");  // x, x_scale, x_zero_point, w ...
  const TensorType* x = type(node.input(0));
  const TensorType* w = type(node.input(linear ? 3 : 1));
  const TensorType* y = type(node.output(0));
  if (x == nullptr || w == nullptr || y == nullptr || !x->has_rank || !w->has_rank) return 0;
  if (op == "Conv" || op == "QLinearConv" || op == "ConvInteger") {
    if (w->dims.size() < 3) return 0;
    return checked_mul(all(*y), product(*w, 1, w->dims.size())).value_or(0);
  }
  if (op == "ConvTranspose") {
    if (w->dims.size() < 3) return 0;
    return checked_mul(all(*x), product(*w, 1, w->dims.size())).value_or(0);
  }
  if (op == "Gemm") {
    if (x->dims.size() != 2) return 0;
    const std::size_t inner = node.get_int("transA", 0) != 0 ? 0 : 1;
    return checked_mul(all(*y), product(*x, inner, inner + 1)).value_or(0);
  }
  if (op == "MatMul" || op == "QLinearMatMul" || op == "MatMulInteger") {
    if (x->dims.empty()) return 0;
    return checked_mul(all(*y), product(*x, x->dims.size() - 1, x->dims.size())).value_or(0);
  }
  return 0;
}

std::vector<TensorType> shapes_of(const Graph& graph, std::int64_t batch) {
  return infer_types(graph, concrete_inputs(graph, batch)).types;
}

std::vector<TensorType> shapes_of(const QuantizedGraph& model, std::int64_t batch) {
  const Graph twin = float_twin(model, TwinConstants::kZeros);
  return infer_types(twin, concrete_inputs(twin, batch)).types;
}

}  // namespace nibble
