// ONNX's numbers for element types (TensorProto.DataType), those newer than the installed onnx.proto among them.
#pragma once

#include <cstdint>
#include <string>

#include "nibble/data_type.h"

namespace nibble {

// kUndefined for the types that nibble does not hold (strings, complex numbers, float8 ...).
DataType element_type_from_onnx(std::int32_t number);
// 0 (UNDEFINED) for kUndefined.
std::int32_t element_type_to_onnx(DataType type);
// "string", "complex64", "type 99": for messages about the ones that have no DataType.
std::string onnx_element_type_name(std::int32_t number);

// Bytes that `count` elements take in a file: two 4-bit elements share a byte. -1 where that overflows.
std::int64_t file_bytes(DataType type, std::int64_t count);

}  // namespace nibble
