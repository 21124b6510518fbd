#include "ops/index_check.h"

namespace nibble {

std::vector<std::int64_t> checked_indices(const Node& node, const Tensor& indices, std::int64_t size) {
  check_type(node, 1, indices.type(), kIndexTypes);
  auto values = to_int64s(indices);
  for (std::int64_t& value : values) {
    if (value < -size || value >= size) fail_node(node, "index {} is out of range for an axis of size {}", value, size);
    if (value < 0) value += size;
  }
  return values;
}

void check_within(const Node& node, const Shape& data, const Shape& indices, std::size_t axis) {
  bool fits = data.size() == indices.size();
  for (std::size_t i = 0; fits && i < data.size(); ++i) fits = i == axis || indices[i] <= data[i];
  if (!fits) fail_node(node, "indices of shape {} do not fit data of shape {} along axis {}", to_string(indices), to_string(data), axis);
}

Coordinates checked_coordinates(const Node& node, const Shape& data, const Tensor& indices, std::int64_t batch) {
  check_type(node, 1, indices.type(), type_bit(DataType::kInt64));
  const auto rank = static_cast<std::int64_t>(data.size());
  Coordinates result;
  result.depth = indices.shape().back();
  if (result.depth < 1 || result.depth > rank - batch)
    fail_node(node, "indices of {} coordinates do not fit data of shape {}", result.depth, to_string(data));
  const auto first = static_cast<std::size_t>(batch);
  const auto depth = static_cast<std::size_t>(result.depth);
  const std::span<const std::int64_t> shape(data);
  result.block = element_count(shape.subspan(first + depth));
  const std::int64_t batches = element_count(shape.first(first));
  const std::int64_t batch_stride = element_count(shape.subspan(first));
  const auto strides = row_major_strides(data);
  const auto values = indices.data<std::int64_t>();
  const std::size_t tuples = values.size() / depth;
  result.offsets.reserve(tuples);
  for (std::size_t t = 0; t < tuples; ++t) {
    // The tuples of one batch stand together.
    std::int64_t offset = static_cast<std::int64_t>(t / (tuples / static_cast<std::size_t>(batches))) * batch_stride;
    for (std::size_t k = 0; k < depth; ++k) {
      std::int64_t index = values[t * depth + k];
      const std::int64_t size = data[first + k];
      if (index < -size || index >= size) fail_node(node, "index {} is out of range for axis {} of size {}", index, first + k, size);
      if (index < 0) index += size;
      offset += index * strides[first + k];
    }
    result.offsets.push_back(offset);
  }
  return result;
}

}  // namespace nibble
