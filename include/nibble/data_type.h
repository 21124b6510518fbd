// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nibble {

enum class DataType : std::uint8_t {
  kUndefined,
  kFloat32,
  kFloat64,
  kFloat16,   // held as its 16 bits
  kBFloat16,  // held as its 16 bits
  kInt8,
  kUInt8,
  kInt16,
  kUInt16,
  kInt32,
  kUInt32,
  kInt64,
  kUInt64,
  kBool,   // one byte, 0 or 1
  kInt4,   // in memory one element a byte (int8_t, -8..7); packed two a byte only in files
  kUInt4,  // in memory one element a byte (uint8_t, 0..15)
};

// Bytes of one element in memory; 0 for kUndefined.
std::size_t element_size(DataType type);
// "float32", "int8", ...
std::string_view to_string(DataType type);
bool is_float(DataType type);    // float32, float64, float16, bfloat16
bool is_integer(DataType type);  // every intN and uintN; not bool

// The DataType of a C++ type: float, double, (u)int8_t ... (u)int64_t, bool.
template <typename T>
struct DataTypeOf;
template <> struct DataTypeOf<float> { static constexpr DataType value = DataType::kFloat32; };
template <> struct DataTypeOf<double> { static constexpr DataType value = DataType::kFloat64; };
template <> struct DataTypeOf<std::int8_t> { static constexpr DataType value = DataType::kInt8; };
template <> struct DataTypeOf<std::uint8_t> { static constexpr DataType value = DataType::kUInt8; };
template <> struct DataTypeOf<std::int16_t> { static constexpr DataType value = DataType::kInt16; };
template <> struct DataTypeOf<std::uint16_t> { static constexpr DataType value = DataType::kUInt16; };
template <> struct DataTypeOf<std::int32_t> { static constexpr DataType value = DataType::kInt32; };
template <> struct DataTypeOf<std::uint32_t> { static constexpr DataType value = DataType::kUInt32; };
template <> struct DataTypeOf<std::int64_t> { static constexpr DataType value = DataType::kInt64; };
template <> struct DataTypeOf<std::uint64_t> { static constexpr DataType value = DataType::kUInt64; };
template <> struct DataTypeOf<bool> { static constexpr DataType value = DataType::kBool; };
template <typename T>
inline constexpr DataType kDataTypeOf = DataTypeOf<T>::value;

// Exact widenings and round-half-to-even narrowings of the 16-bit float formats (IEEE binary16, bfloat16; NaN stays NaN).
float float16_to_float32(std::uint16_t bits);
std::uint16_t float32_to_float16(float value);
float bfloat16_to_float32(std::uint16_t bits);
std::uint16_t float32_to_bfloat16(float value);

}  // namespace nibble
