#include "report/weight_storage.h"

#include <unordered_set>

namespace nibble {
namespace {

class Counter {
 public:
  explicit Counter(const Graph& graph) : graph_(graph) {}

  WeightStorageBits run() {
    for (const Node& node : graph_.nodes()) {
      const std::string& op = node.op_type;
      if (op == "DequantizeLinear") count(node.input(0), {node.input(1), node.input(2)});
      if (op == "QLinearConv" || op == "QLinearMatMul" || op == "QGemm") count(node.input(3), {node.input(4), node.input(5)});
      if (op == "ConvInteger" || op == "MatMulInteger") count(node.input(1), {node.input(3)});
      if (op == "Cast" && is_weight(node.input(0)) && element_size(graph_.value(node.input(0)).constant->type()) == 2) count(node.input(0), {});
      if (op == "MatMulNBits" && graph_.is_constant(node.input(1))) {
        add(node.get_int("K", 0) * node.get_int("N", 0));
        for (const ValueId part : {node.input(1), node.input(2), node.input(3)}) add_bits(part);
      }
    }
    return result_;
  }

 private:
  bool is_weight(ValueId id) const { return graph_.is_constant(id) && graph_.value(id).constant->rank() >= 2; }

  void add(std::int64_t weights) { result_.weights += weights; }
  void add_bits(ValueId id) {
    if (id == kNoValue || !graph_.is_constant(id) || !seen_.insert(id).second) return;
    const Tensor& tensor = *graph_.value(id).constant;
    const bool four = tensor.type() == DataType::kInt4 || tensor.type() == DataType::kUInt4;
    result_.bits += tensor.size() * (four ? 4 : 8 * static_cast<std::int64_t>(element_size(tensor.type())));
  }

  void count(ValueId weights, std::initializer_list<ValueId> beside) {
    if (weights == kNoValue) return;
    const NodeId producer = graph_.value(weights).producer;
    if (producer != kNoNode && graph_.node(producer).op_type == "UnpackBits") {
      const Node& node = graph_.node(producer);
      const auto shape = node.get_ints("shape");
      if (!shape || shape->size() < 2 || !unpacked_.insert(weights).second) return;
      std::int64_t size = 1;
      for (const std::int64_t axis : *shape) size *= axis;
      add(size);
      for (const ValueId part : node.inputs) add_bits(part);
    } else {
      if (!is_weight(weights) || seen_.contains(weights)) return;
      add(graph_.value(weights).constant->size());
      add_bits(weights);
    }
    for (const ValueId part : beside) add_bits(part);
  }

  const Graph& graph_;
  WeightStorageBits result_;
  std::unordered_set<ValueId> seen_, unpacked_;
};

}  // namespace

WeightStorageBits weight_storage(const Graph& graph) { return Counter(graph).run(); }

}  // namespace nibble
