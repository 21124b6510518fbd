#include "onnx/tensor_proto.h"

#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>

#include "base/fail.h"
#include "onnx/element_types.h"

namespace nibble {
namespace {

static_assert(std::endian::native == std::endian::little, "raw_data is little-endian and is copied as it is");

bool is_four_bit(DataType type) { return type == DataType::kInt4 || type == DataType::kUInt4; }

std::byte low_nibble(std::byte packed, bool is_signed) {
  const auto bits = static_cast<std::uint8_t>(std::to_integer<std::uint8_t>(packed) & 0x0FU);
  return is_signed ? static_cast<std::byte>(static_cast<std::uint8_t>(bits >= 8 ? bits | 0xF0U : bits)) : std::byte{bits};
}

// `packed` holds two elements a byte, the first in the low half.
void unpack_nibbles(std::span<const std::byte> packed, bool is_signed, std::span<std::byte> out) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = low_nibble(i % 2 == 0 ? packed[i / 2] : packed[i / 2] >> 4, is_signed);
}

// What the file's bytes need beyond being copied.
void settle_raw(std::span<std::byte> bytes, DataType type) {
  if (type != DataType::kBool) return;
  for (std::byte& b : bytes) b = b != std::byte{0} ? std::byte{1} : std::byte{0};
}

Tensor from_raw(const std::string& raw, DataType type, Shape shape) {
  Tensor tensor(type, std::move(shape));
  const std::span<std::byte> out(tensor.mutable_bytes(), tensor.size_bytes());
  const auto in = std::as_bytes(std::span(raw));
  if (is_four_bit(type)) {
    unpack_nibbles(in, type == DataType::kInt4, out);
  } else if (!out.empty()) {
    std::memcpy(out.data(), in.data(), out.size());
    settle_raw(out, type);
  }
  return tensor;
}

template <typename To, typename Field>
Tensor from_field(const Field& field, DataType type, Shape shape, const std::string& what) {
  Tensor tensor(type, std::move(shape));
  auto out = tensor.mutable_data<To>();
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto value = field.Get(static_cast<int>(i));
    out[i] = static_cast<To>(value);
    if (static_cast<std::remove_cvref_t<decltype(value)>>(out[i]) != value && value == value)
      fail(ErrorCode::kInvalidModel, "{}: element {} is {}, which {} cannot hold", what, i, value, to_string(type));
  }
  return tensor;
}

// int32_data holds the small types: one element an entry, but for the 4-bit types one byte (two elements).
Tensor from_int32_data(const onnx::TensorProto& proto, DataType type, Shape shape, const std::string& what) {
  const auto& field = proto.int32_data();
  switch (type) {
    case DataType::kInt8: return from_field<std::int8_t>(field, type, std::move(shape), what);
    case DataType::kUInt8: return from_field<std::uint8_t>(field, type, std::move(shape), what);
    case DataType::kInt16: return from_field<std::int16_t>(field, type, std::move(shape), what);
    case DataType::kUInt16:
    case DataType::kFloat16:
    case DataType::kBFloat16: return from_field<std::uint16_t>(field, type, std::move(shape), what);
    case DataType::kInt32: return from_field<std::int32_t>(field, type, std::move(shape), what);
    case DataType::kBool: {
      Tensor tensor(type, std::move(shape));
      auto out = tensor.mutable_data<std::uint8_t>();
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = field.Get(static_cast<int>(i)) != 0 ? 1 : 0;
      return tensor;
    }
    case DataType::kInt4:
    case DataType::kUInt4: {
      std::string packed;
      for (const std::int32_t entry : field) {
        if (entry < -128 || entry > 255) fail(ErrorCode::kInvalidModel, "{}: the packed pair {} is no byte", what, entry);
        packed.push_back(static_cast<char>(static_cast<unsigned char>(entry & 0xFF)));
      }
      return from_raw(packed, type, std::move(shape));
    }
    default: break;
  }
  fail(ErrorCode::kInvalidModel, "{}: element type {} cannot stand in int32_data", what, to_string(type));
}

// The typed field that holds elements of a type, as a count of entries.
int typed_entries(const onnx::TensorProto& proto, DataType type) {
  switch (type) {
    case DataType::kFloat32: return proto.float_data_size();
    case DataType::kFloat64: return proto.double_data_size();
    case DataType::kInt64: return proto.int64_data_size();
    case DataType::kUInt32:
    case DataType::kUInt64: return proto.uint64_data_size();
    default: return proto.int32_data_size();
  }
}

Tensor from_typed(const onnx::TensorProto& proto, DataType type, Shape shape, const std::string& what) {
  switch (type) {
    case DataType::kFloat32: {
      Tensor tensor(type, std::move(shape));
      if (tensor.size() > 0) std::memcpy(tensor.mutable_bytes(), proto.float_data().data(), tensor.size_bytes());
      return tensor;
    }
    case DataType::kFloat64: {
      Tensor tensor(type, std::move(shape));
      if (tensor.size() > 0) std::memcpy(tensor.mutable_bytes(), proto.double_data().data(), tensor.size_bytes());
      return tensor;
    }
    case DataType::kInt64: return from_field<std::int64_t>(proto.int64_data(), type, std::move(shape), what);
    case DataType::kUInt32: return from_field<std::uint32_t>(proto.uint64_data(), type, std::move(shape), what);
    case DataType::kUInt64: return from_field<std::uint64_t>(proto.uint64_data(), type, std::move(shape), what);
    default: return from_int32_data(proto, type, std::move(shape), what);
  }
}

std::int64_t parse_number(const std::string& text, const std::string& key, const std::string& what) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < 0)
    fail(ErrorCode::kInvalidModel, "{}: the external data's {} is '{}', which is no size in bytes", what, key, text);
  return value;
}

Tensor from_external(const onnx::TensorProto& proto, DataType type, Shape shape, std::int64_t bytes, const std::string& what,
                     ExternalData* external) {
  if (external == nullptr) fail(ErrorCode::kInvalidModel, "{}: its data is in another file, which is not allowed here", what);
  std::string location;
  std::int64_t offset = 0;
  std::optional<std::int64_t> length;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") offset = parse_number(entry.value(), "offset", what);
    if (entry.key() == "length") length = parse_number(entry.value(), "length", what);
  }
  if (length && *length != bytes)
    fail(ErrorCode::kInvalidModel, "{}: its external data has {} bytes, but {}{} needs {}", what, *length, to_string(type),
         to_string(shape), bytes);
  external->check(location, offset, bytes, proto.name());
  if (is_four_bit(type)) {
    std::string packed(static_cast<std::size_t>(bytes), '\0');
    external->read(location, offset, std::as_writable_bytes(std::span(packed)), proto.name());
    return from_raw(packed, type, std::move(shape));
  }
  Tensor tensor(type, std::move(shape));
  const std::span<std::byte> out(tensor.mutable_bytes(), tensor.size_bytes());
  external->read(location, offset, out, proto.name());
  settle_raw(out, type);
  return tensor;
}

}  // namespace

Tensor take_tensor(onnx::TensorProto& proto, const std::string& what, ExternalData* external) {
  const DataType type = element_type_from_onnx(proto.data_type());
  if (type == DataType::kUndefined) {
    const bool known = proto.data_type() > 0 && proto.data_type() <= 23;
    fail(known ? ErrorCode::kUnsupported : ErrorCode::kInvalidModel, "{}: elements of type {} are not supported", what,
         onnx_element_type_name(proto.data_type()));
  }
  if (proto.has_segment()) fail(ErrorCode::kUnsupported, "{}: is stored in segments, which are not supported", what);

  Shape shape(proto.dims().begin(), proto.dims().end());
  for (const std::int64_t dim : shape) {
    if (dim < 0) fail(ErrorCode::kInvalidModel, "{}: its shape {} has a negative axis", what, to_string(shape));
  }
  std::int64_t count = 0;
  std::int64_t bytes = -1;
  try {
    count = element_count(shape);
    bytes = file_bytes(type, count);
  } catch (const Error&) {
    // Named below.
  }
  if (bytes < 0) fail(ErrorCode::kInvalidModel, "{}: its shape {} has more elements than memory can hold", what, to_string(shape));

  // Sizes are compared before memory is taken: a damaged shape must not cost any.
  const auto mismatch = [&](std::int64_t found, const char* unit, std::int64_t wanted) {
    fail(ErrorCode::kInvalidModel, "{}: holds {} {}, but {}{} needs {}", what, found, unit, to_string(type), to_string(shape), wanted);
  };
  Tensor tensor;
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) {
    tensor = from_external(proto, type, std::move(shape), bytes, what, external);
  } else if (proto.has_raw_data()) {
    const std::unique_ptr<std::string> raw(proto.release_raw_data());
    if (static_cast<std::int64_t>(raw->size()) != bytes) mismatch(static_cast<std::int64_t>(raw->size()), "bytes", bytes);
    tensor = from_raw(*raw, type, std::move(shape));
  } else {
    const std::int64_t wanted = is_four_bit(type) ? bytes : count;
    const std::int64_t found = typed_entries(proto, type);
    if (found != wanted) mismatch(found, "elements", wanted);
    tensor = from_typed(proto, type, std::move(shape), what);
  }
  onnx::TensorProto empty;
  proto.Swap(&empty);
  return tensor;
}

void write_tensor(const Tensor& tensor, onnx::TensorProto& proto) {
  proto.set_data_type(element_type_to_onnx(tensor.type()));
  for (const std::int64_t dim : tensor.shape()) proto.add_dims(dim);
  std::string& raw = *proto.mutable_raw_data();
  if (!is_four_bit(tensor.type())) {
    raw.assign(reinterpret_cast<const char*>(tensor.bytes()), tensor.size_bytes());
    return;
  }
  const std::span<const std::byte> in(tensor.bytes(), tensor.size_bytes());
  raw.assign(static_cast<std::size_t>(file_bytes(tensor.type(), tensor.size())), '\0');
  for (std::size_t i = 0; i < in.size(); ++i) {
    const unsigned nibble = std::to_integer<unsigned>(in[i]) & 0x0FU;
    const auto old = static_cast<unsigned char>(raw[i / 2]);
    raw[i / 2] = static_cast<char>(static_cast<unsigned char>(old | (i % 2 == 0 ? nibble : nibble << 4U)));
  }
}

}  // namespace nibble
