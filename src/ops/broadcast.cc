#include "ops/broadcast.h"

#include <algorithm>

namespace nibble {

Shape broadcast_shape(const Node& node, const Shape& a, const Shape& b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape out(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t da = i + a.size() >= rank ? a[i + a.size() - rank] : 1;
    const std::int64_t db = i + b.size() >= rank ? b[i + b.size() - rank] : 1;
    if (da != db && da != 1 && db != 1)
      fail_node(node, "shapes {} and {} do not broadcast: {} and {} differ and neither is 1", to_string(a), to_string(b), da, db);
    out[i] = da == 1 ? db : da;
  }
  return out;
}

BroadcastPlan plan_broadcast(const Node& node, std::initializer_list<const Shape*> shapes) {
  BroadcastPlan plan;
  for (const Shape* shape : shapes) plan.shape = broadcast_shape(node, plan.shape, *shape);
  plan.total = element_count(plan.shape);
  const std::size_t rank = plan.shape.size();
  std::array<std::vector<std::int64_t>, kBroadcastInputs> strides;
  std::size_t inputs = 0;
  for (const Shape* shape : shapes) {
    const auto own = row_major_strides(*shape);
    std::vector<std::int64_t> full(rank, 0);
    const std::size_t lead = rank - shape->size();
    for (std::size_t i = 0; i < shape->size(); ++i) full[lead + i] = (*shape)[i] == 1 ? 0 : own[i];
    strides[inputs++] = std::move(full);
  }
  for (std::size_t axis = 0; axis < rank; ++axis) {
    if (plan.shape[axis] == 1) continue;
    // An axis joins the one before it where every input steps over the earlier axis in whole passes of this one.
    bool joins = !plan.sizes.empty();
    for (std::size_t k = 0; k < inputs && joins; ++k) joins = plan.strides[k].back() == strides[k][axis] * plan.shape[axis];
    if (joins) {
      plan.sizes.back() *= plan.shape[axis];
      for (std::size_t k = 0; k < inputs; ++k) plan.strides[k].back() = strides[k][axis];
    } else {
      plan.sizes.push_back(plan.shape[axis]);
      for (std::size_t k = 0; k < inputs; ++k) plan.strides[k].push_back(strides[k][axis]);
    }
  }
  if (plan.sizes.empty()) {
    plan.sizes.push_back(1);
    for (std::size_t k = 0; k < inputs; ++k) plan.strides[k].push_back(0);
  }
  return plan;
}

TensorType broadcast_types(const Node& node, const TensorType& a, const TensorType& b, DataType dtype) {
  if (!a.has_rank || !b.has_rank) return unknown_rank(dtype);
  const std::size_t rank = std::max(a.dims.size(), b.dims.size());
  TensorType out = unknown_dims(dtype, static_cast<std::int64_t>(rank));
  for (std::size_t i = 0; i < rank; ++i) {
    const Dim da = i + a.dims.size() >= rank ? a.dims[i + a.dims.size() - rank] : dim(1);
    const Dim db = i + b.dims.size() >= rank ? b.dims[i + b.dims.size() - rank] : dim(1);
    if (da.known() && db.known()) {
      if (da.size != db.size && da.size != 1 && db.size != 1)
        fail_node(node, "shapes {} and {} do not broadcast: {} and {} differ and neither is 1", to_string(a), to_string(b), da.size,
                  db.size);
      out.dims[i] = da.size == 1 ? db : da;
    } else if (da.known()) {
      out.dims[i] = da.size == 1 ? db : da;  // an unknown axis beside n > 1 can only be n or 1
    } else if (db.known()) {
      out.dims[i] = db.size == 1 ? da : db;
    } else if (!da.symbol.empty() && da.symbol == db.symbol) {
      out.dims[i] = da;
    }
  }
  return out;
}

}  // namespace nibble
