// From a DataType at run time to a C++ type at compile time.
#pragma once

#include <cstdint>
#include <utility>

#include "base/fail.h"
#include "nibble/data_type.h"

namespace nibble {

// Calls body.template operator()<T>() with the C++ type that stores one element: `dispatch(type, [&]<typename T>() { ... })`.
// int4 is int8_t and uint4 uint8_t. The 16-bit floats have no C++ type: cast them to float32 first (Error{kUnsupported} here).
template <typename Body>
decltype(auto) dispatch(DataType type, Body&& body) {
  switch (type) {
    case DataType::kFloat32: return body.template operator()<float>();
    case DataType::kFloat64: return body.template operator()<double>();
    case DataType::kInt4:
    case DataType::kInt8: return body.template operator()<std::int8_t>();
    case DataType::kUInt4:
    case DataType::kUInt8: return body.template operator()<std::uint8_t>();
    case DataType::kInt16: return body.template operator()<std::int16_t>();
    case DataType::kUInt16: return body.template operator()<std::uint16_t>();
    case DataType::kInt32: return body.template operator()<std::int32_t>();
    case DataType::kUInt32: return body.template operator()<std::uint32_t>();
    case DataType::kInt64: return body.template operator()<std::int64_t>();
    case DataType::kUInt64: return body.template operator()<std::uint64_t>();
    case DataType::kBool: return body.template operator()<bool>();
    case DataType::kFloat16:
    case DataType::kBFloat16:
    case DataType::kUndefined: break;
  }
  fail(ErrorCode::kUnsupported, "element type {} cannot be computed with here", to_string(type));
}

}  // namespace nibble
