// Matrix products with numpy's broadcasting, in plain fixed-order loops.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "nibble/tensor.h"
#include "ops/op.h"

namespace nibble::nn {

// a [batch..., m, k] times b [batch..., k, n]; 1-D operands got an axis of 1 that the result drops again.
struct MatMulGeometry {
  std::int64_t m = 1, k = 1, n = 1;
  std::vector<std::int64_t> a_batch, b_batch;  // for each matrix of the result, which matrix of a and b
  Shape output;                                // the result's shape as ONNX has it
  bool b_shared = false;                       // b is one matrix: a's batch folds into m

  std::int64_t batches() const { return static_cast<std::int64_t>(a_batch.size()); }
};
MatMulGeometry matmul_geometry(const Node& node, const Shape& a, const Shape& b);
void infer_matmul_dims(const Node& node, const TensorType& a, const TensorType& b, TensorType& y);

// y = a * b; each element sums k in ascending order.
template <typename T>
void matmul(ThreadPool* pool, const MatMulGeometry& geometry, const T* a, const T* b, T* y);

}  // namespace nibble::nn
