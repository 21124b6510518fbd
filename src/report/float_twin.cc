#include "report/float_twin.h"

#include <algorithm>

#include "numeric/quantize.h"

namespace nibble {
namespace {

Tensor dequantized(const Tensor& integers, const QuantParams& params) {
  const Tensor q = cast(integers, DataType::kInt32);
  Tensor x(DataType::kFloat32, integers.shape());
  dequantize(q.data<std::int32_t>(), integers.shape(), params, x.mutable_data<float>());
  return x;
}

}  // namespace

Graph float_twin(const QuantizedGraph& model, TwinConstants constants) {
  Graph twin = model.graph;
  GraphEditor editor(twin);
  for (NodeId id = 0; id < static_cast<NodeId>(twin.nodes().size()); ++id) {
    const Node& node = twin.node(id);
    const bool edge = node.op_type == "Requantize" ||
                      ((node.op_type == "QuantizeLinear" || node.op_type == "DequantizeLinear") && node.inputs.size() == 1);
    if (edge) editor.set_op_type(id, "Identity");
  }
  for (ValueId v = 0; v < static_cast<ValueId>(twin.values().size()); ++v) {
    const QuantParams* params = model.params_of(v);
    if (params == nullptr) continue;
    const Value& value = twin.value(v);
    if (value.constant) {
      editor.set_constant(v, constants == TwinConstants::kZeros ? Tensor::zeros(DataType::kFloat32, value.constant->shape())
                                                                : dequantized(*value.constant, *params));
    } else {
      TensorType type = value.type;
      const bool input = std::find(twin.inputs().begin(), twin.inputs().end(), v) != twin.inputs().end();
      type.dtype = input ? DataType::kFloat32 : DataType::kUndefined;
      editor.set_type(v, type);
    }
  }
  return twin;
}

}  // namespace nibble
