// Indices that come from tensors: checked once, made positive.
#pragma once

#include "ops/op_util.h"

namespace nibble {

// Every element lies in [-size, size - 1]; negative ones get `size` added.
std::vector<std::int64_t> checked_indices(const Node& node, const Tensor& indices, std::int64_t size);

// Indices of the *Elements operators: the rank of the data, and no axis but `axis` longer than the data's.
void check_within(const Node& node, const Shape& data, const Shape& indices, std::size_t axis);

// body(i, at): the i-th index in row-major order addresses element `at` of the data.
template <typename Body>
void for_each_element(const Shape& shape, std::span<const std::int64_t> strides, std::size_t axis, std::span<const std::int64_t> indices,
                      const Body& body) {
  if (indices.empty()) return;
  std::vector<std::int64_t> index(shape.size(), 0);
  std::size_t i = 0;
  do {
    std::int64_t at = 0;
    for (std::size_t d = 0; d < shape.size(); ++d) at += (d == axis ? indices[i] : index[d]) * strides[d];
    body(i, at);
    ++i;
  } while (next_index(index, shape));
}

// Index tuples (the last axis of `indices`) of the *ND operators, as offsets into the data. The first `batch` axes of data and indices run
// together.
struct Coordinates {
  std::int64_t depth = 0;  // coordinates a tuple
  std::int64_t block = 1;  // elements that a tuple addresses
  std::vector<std::int64_t> offsets;
};
Coordinates checked_coordinates(const Node& node, const Shape& data, const Tensor& indices, std::int64_t batch);

}  // namespace nibble
