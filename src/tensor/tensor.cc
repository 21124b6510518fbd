#include "nibble/tensor.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/aligned_buffer.h"
#include "base/checked.h"
#include "base/fail.h"
#include "tensor/dispatch.h"

namespace nibble {

std::int64_t element_count(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t axis : shape) {
    if (axis < 0) fail(ErrorCode::kInvalidModel, "shape {} has a negative axis", to_string(shape));
    // Zero axes must not hide an overflow of the others, wherever they stand: strides are products of some axes.
    const auto product = checked_mul(count, axis == 0 ? 1 : axis);
    if (!product) fail(ErrorCode::kInvalidModel, "shape {} has more elements than 64 bits can count", to_string(shape));
    count = *product;
    empty = empty || axis == 0;
  }
  return empty ? 0 : count;
}

std::string to_string(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

Tensor::Tensor(DataType type, Shape shape) : type_(type), shape_(std::move(shape)), size_(element_count(shape_)) {
  const auto bytes = checked_mul(size_, static_cast<std::int64_t>(element_size(type_)));
  if (!bytes) fail(ErrorCode::kInvalidModel, "a tensor of shape {} is too large", to_string(shape_));
  storage_ = allocate_aligned(*bytes);
}

Tensor::Tensor(DataType type, Shape shape, std::shared_ptr<std::byte> storage)
    : type_(type), shape_(std::move(shape)), size_(element_count(shape_)), storage_(std::move(storage)) {}

Tensor Tensor::zeros(DataType type, Shape shape) {
  Tensor tensor(type, std::move(shape));
  std::memset(tensor.mutable_bytes(), 0, tensor.size_bytes());
  return tensor;
}

std::size_t Tensor::size_bytes() const { return static_cast<std::size_t>(size_) * element_size(type_); }

std::byte* Tensor::mutable_bytes() {
  if (storage_.use_count() > 1) {
    auto copy = allocate_aligned(static_cast<std::int64_t>(size_bytes()));
    std::memcpy(copy.get(), storage_.get(), size_bytes());
    storage_ = std::move(copy);
  }
  return storage_.get();
}

void Tensor::throw_too_few_values(const Shape& shape, std::size_t count) {
  fail(ErrorCode::kInvalidModel, "{} values were given for a tensor of shape {}", count, to_string(shape));
}

void Tensor::check_type(std::size_t element_bytes, DataType wanted) const {
  const bool same_kind = type_ == wanted || (type_ == DataType::kInt4 && wanted == DataType::kInt8) ||
                         ((type_ == DataType::kUInt4 || type_ == DataType::kBool) && wanted == DataType::kUInt8) ||
                         ((type_ == DataType::kFloat16 || type_ == DataType::kBFloat16) && wanted == DataType::kUInt16);
  // Reading a tensor as another type is a bug of the caller; throwing keeps release builds from reading past the storage.
  if (!same_kind || element_bytes != element_size(type_))
    fail(ErrorCode::kInvalidModel, "a {} tensor was found where {} is needed", to_string(type_), to_string(wanted));
}

Tensor Tensor::reshaped(Shape shape) const {
  Tensor result = *this;
  result.size_ = element_count(shape);
  if (result.size_ != size_) fail(ErrorCode::kInvalidModel, "a tensor of shape {} cannot become {}", to_string(shape_), to_string(shape));
  result.shape_ = std::move(shape);
  return result;
}

namespace {

template <typename To, typename From>
To convert(From value) {
  if constexpr (std::is_same_v<To, bool>) {
    return value != From{};
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(value)) return To{0};
    // The limits as floats may round up to one past the largest value: compare with >=.
    if (value >= static_cast<From>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    if (value <= static_cast<From>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    return static_cast<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

// float16, bfloat16 and int4 go through a wider type.
Tensor widen(const Tensor& tensor) {
  Tensor result(DataType::kFloat32, tensor.shape());
  auto out = result.mutable_data<float>();
  const auto in = tensor.data<std::uint16_t>();
  for (std::size_t i = 0; i < in.size(); ++i)
    out[i] = tensor.type() == DataType::kFloat16 ? float16_to_float32(in[i]) : bfloat16_to_float32(in[i]);
  return result;
}

// To a float that a second rounding takes to where one rounding would have: cut off, and the last bit set where something was lost.
float round_to_odd(double value) {
  const auto rounded = static_cast<float>(value);
  if (std::isnan(value) || static_cast<double>(rounded) == value) return rounded;
  auto bits = std::bit_cast<std::uint32_t>(rounded);
  if (std::abs(static_cast<double>(rounded)) > std::abs(value)) --bits;
  return std::bit_cast<float>(bits | 1U);
}

}  // namespace

Tensor cast(const Tensor& tensor, DataType type) {
  if (tensor.type() == type) return tensor;
  if (tensor.type() == DataType::kFloat16 || tensor.type() == DataType::kBFloat16) return cast(widen(tensor), type);
  if (type == DataType::kFloat16 || type == DataType::kBFloat16) {
    Tensor result(type, tensor.shape());
    auto out = result.mutable_data<std::uint16_t>();
    const auto narrow = [&](std::size_t i, float v) { out[i] = type == DataType::kFloat16 ? float32_to_float16(v) : float32_to_bfloat16(v); };
    if (tensor.type() == DataType::kFloat32) {
      const auto in = tensor.data<float>();
      for (std::size_t i = 0; i < in.size(); ++i) narrow(i, in[i]);
    } else {
      const Tensor source = cast(tensor, DataType::kFloat64);
      const auto in = source.data<double>();
      for (std::size_t i = 0; i < in.size(); ++i) narrow(i, round_to_odd(in[i]));
    }
    return result;
  }
  Tensor result(type, tensor.shape());
  dispatch(tensor.type(), [&]<typename From>() {
    const auto in = tensor.data<From>();
    dispatch(type, [&]<typename To>() {
      auto out = result.mutable_data<To>();
      for (std::size_t i = 0; i < in.size(); ++i) out[i] = convert<To, From>(in[i]);
    });
  });
  // To 4 bits as to every other width: floats saturate, integers keep their low bits.
  const bool saturate = is_float(tensor.type());
  if (type == DataType::kInt4) {
    for (auto& v : result.mutable_data<std::int8_t>()) v = static_cast<std::int8_t>(saturate ? std::clamp<int>(v, -8, 7) : ((v & 15) ^ 8) - 8);
  } else if (type == DataType::kUInt4) {
    for (auto& v : result.mutable_data<std::uint8_t>()) v = static_cast<std::uint8_t>(saturate ? std::min<int>(v, 15) : v & 15);
  }
  return result;
}

std::vector<double> to_doubles(const Tensor& tensor) {
  const Tensor wide = cast(tensor, DataType::kFloat64);
  const auto data = wide.data<double>();
  return {data.begin(), data.end()};
}

std::vector<std::int64_t> to_int64s(const Tensor& tensor) {
  const Tensor wide = cast(tensor, DataType::kInt64);
  const auto data = wide.data<std::int64_t>();
  return {data.begin(), data.end()};
}

bool bit_equal(const Tensor& a, const Tensor& b) {
  return a.type() == b.type() && a.shape() == b.shape() && (a.size() == 0 || std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0);
}

}  // namespace nibble
