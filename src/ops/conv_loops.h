// Convolution in plain, fixed-order loops: the oracle of the fast path and the engine of float islands.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "nibble/tensor.h"
#include "ops/op.h"
#include "ops/window.h"

namespace nibble::nn {

// x [batch, groups * group_in, in...], w [groups * group_out, group_in, kernel...], y [batch, groups * group_out, out...].
struct ConvGeometry {
  std::int64_t batch = 0, groups = 1, group_in = 0, group_out = 0;
  std::vector<WindowAxis> axes;

  std::int64_t in_pixels() const;
  std::int64_t out_pixels() const;
  std::int64_t taps() const;
  Shape output_shape() const;
};

// Checks shapes and attributes of Conv, ConvInteger and QLinearConv. Throws Error{kInvalidModel} naming the node.
ConvGeometry conv_geometry(const Node& node, const Shape& x, const Shape& w);

// Inference of the same family: x and w types in, the output's dims out (dtype left alone).
void infer_conv_dims(const Node& node, const TensorType& x, const TensorType& w, TensorType& y);

// y = w * x without bias. Each output sums its taps in the order input channel, then kernel position (row-major), each step rounded once.
// T: float, double, std::uint32_t (int32 that wraps).
template <typename T>
void convolve(ThreadPool* pool, const ConvGeometry& geometry, const T* x, const T* w, T* y);

}  // namespace nibble::nn
