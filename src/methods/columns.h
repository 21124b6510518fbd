// The columns of a layer's input: what one output place sees, as a vector of group_in * taps values for each group. A layer is y = W column
// + b at every place, so all that layer-wise methods need of the data is columns and their moments.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "methods/layers.h"

namespace nibble {

// True for Conv, Gemm and MatMul; a transposed convolution has no columns of this form.
bool has_columns(const Node& node);

// Moments over all samples and places, [groups][group_in * taps]; padding counts as 0.
struct ColumnMoments {
  std::vector<double> mean, square;  // E[x], E[x^2]
  std::int64_t places = 0;           // over all samples
};
ColumnMoments column_moments(const Node& node, const LayerView& layer, const Shape& weight_shape, std::span<const Tensor> inputs,
                             ThreadPool& pool);

// Output places of one input tensor.
std::int64_t place_count(const Node& node, const LayerView& layer, const Shape& weight_shape, const Shape& input);

// Places drawn once and used for both networks: the same rows of both.
struct ColumnDraw {
  struct Place {
    std::int32_t sample;
    std::int64_t place;  // of the sample's output
  };
  std::vector<Place> places;  // in random order
};
// At most `count` places, the same number of every sample up to one (all of them where there are no more), drawn with `seed` and shuffled.
ColumnDraw draw_columns(const Node& node, const LayerView& layer, const Shape& weight_shape, std::span<const Tensor> inputs,
                        std::int64_t count, std::uint64_t seed);
// [groups][places][group_in * taps], row-major.
std::vector<float> gather_columns(const Node& node, const LayerView& layer, const Shape& weight_shape, std::span<const Tensor> inputs,
                                  const ColumnDraw& draw, ThreadPool& pool);

}  // namespace nibble
