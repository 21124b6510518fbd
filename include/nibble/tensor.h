// Tensor: dense, row-major values with a shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "nibble/data_type.h"

namespace nibble {

// Sizes of each axis, outermost first; a scalar has no axes.
using Shape = std::vector<std::int64_t>;

// Product of the axes (1 for a scalar). Throws Error{kInvalidModel} on a negative axis or an overflow of int64.
std::int64_t element_count(std::span<const std::int64_t> shape);
// "[1,3,224,224]"
std::string to_string(std::span<const std::int64_t> shape);

// A dense row-major tensor that owns its storage. Copies are cheap: they share storage until one of them is written to
// (`mutable_data` detaches). Storage is aligned to 64 bytes. Different Tensor objects may be used from different threads.
class Tensor {
 public:
  Tensor() = default;
  // Uninitialised elements. Throws Error{kInvalidModel} where the size overflows or cannot be allocated.
  Tensor(DataType type, Shape shape);
  // A tensor over storage that somebody else made; `storage` must hold at least size_bytes() bytes.
  Tensor(DataType type, Shape shape, std::shared_ptr<std::byte> storage);

  static Tensor zeros(DataType type, Shape shape);
  // `values` in row-major order. Throws Error{kInvalidModel} where there are fewer than `shape` asks for.
  template <typename T>
  static Tensor from(Shape shape, std::span<const T> values);
  template <typename T>
  static Tensor from(Shape shape, std::initializer_list<T> values) {
    return from<T>(std::move(shape), std::span<const T>(values.begin(), values.size()));
  }
  template <typename T>
  static Tensor scalar(T value) {
    return from<T>(Shape{}, std::span<const T>(&value, 1));
  }

  DataType type() const { return type_; }
  const Shape& shape() const { return shape_; }
  std::int64_t rank() const { return static_cast<std::int64_t>(shape_.size()); }
  std::int64_t size() const { return size_; }  // number of elements
  std::size_t size_bytes() const;
  bool defined() const { return type_ != DataType::kUndefined; }

  const std::byte* bytes() const { return storage_.get(); }
  std::byte* mutable_bytes();  // detaches from other copies first
  // Typed access; asserts that T matches type() (int8_t also serves kInt4, uint8_t kUInt4 and kBool, uint16_t the 16-bit floats).
  template <typename T>
  std::span<const T> data() const {
    check_type(sizeof(T), kDataTypeOf<T>);
    return {reinterpret_cast<const T*>(bytes()), static_cast<std::size_t>(size_)};
  }
  template <typename T>
  std::span<T> mutable_data() {
    check_type(sizeof(T), kDataTypeOf<T>);
    return {reinterpret_cast<T*>(mutable_bytes()), static_cast<std::size_t>(size_)};
  }

  // The same elements under another shape (shares storage). Asserts that the element counts agree.
  Tensor reshaped(Shape shape) const;

 private:
  [[noreturn]] static void throw_too_few_values(const Shape& shape, std::size_t count);
  void check_type(std::size_t element_bytes, DataType wanted) const;

  DataType type_ = DataType::kUndefined;
  Shape shape_;
  std::int64_t size_ = 0;
  std::shared_ptr<std::byte> storage_;
};

// Element-wise conversion with C++'s rules (float to integer truncates; out of range saturates; NaN becomes 0; to bool: != 0).
Tensor cast(const Tensor& tensor, DataType type);
// The elements as doubles / int64 (any numeric type; float to int64 truncates). For small things: attributes, axes, scales.
std::vector<double> to_doubles(const Tensor& tensor);
std::vector<std::int64_t> to_int64s(const Tensor& tensor);
// True if type, shape and every byte are equal.
bool bit_equal(const Tensor& a, const Tensor& b);

template <typename T>
Tensor Tensor::from(Shape shape, std::span<const T> values) {
  Tensor tensor(kDataTypeOf<T>, std::move(shape));
  auto out = tensor.mutable_data<T>();
  if (values.size() < out.size()) throw_too_few_values(tensor.shape(), values.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = values[i];
  return tensor;
}

}  // namespace nibble
