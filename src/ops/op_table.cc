// The operators, one row each. The order is the order of `nibble list ops`; lookups go through a map built once.
#include <map>
#include <utility>
#include <vector>

#include "ops/base_products.h"
#include "ops/op.h"
#include "ops/ops_nn.h"
#include "ops/ops_math.h"

namespace nibble {

std::span<const OpDef* const> op_table() {
  static const std::vector<const OpDef*> table = [] {
    std::vector<const OpDef*> rows;
    for (const auto group : {nn_ops(), math_ops()}) rows.insert(rows.end(), group.begin(), group.end());
    for (const OpDef& op : base_products_ops()) rows.push_back(&op);
    return rows;
  }();
  return table;
}

const OpDef* find_op(std::string_view domain, std::string_view name) {
  static const std::map<std::pair<std::string_view, std::string_view>, const OpDef*> index = [] {
    std::map<std::pair<std::string_view, std::string_view>, const OpDef*> map;
    for (const OpDef* op : op_table()) map.emplace(std::pair(op->domain, op->name), op);
    return map;
  }();
  const auto it = index.find({domain == "ai.onnx" ? std::string_view() : domain, name});
  return it != index.end() ? it->second : nullptr;
}

}  // namespace nibble
