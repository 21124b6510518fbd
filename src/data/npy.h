// NumPy's .npy format in memory.
#pragma once

#include <string>
#include <string_view>

#include "nibble/tensor.h"

namespace nibble {

// The array in the bytes of an .npy file (format 1, 2 or 3). `origin` names the file in messages. Throws Error{kInvalidData}, or
// {kUnsupported} for element types that have no DataType (complex, strings, records, objects).
Tensor parse_npy(std::string_view bytes, const std::string& origin);
// The bytes of an .npy file, C order, little endian. int4 is written as int8, uint4 as uint8, bfloat16 as float32.
std::string npy_bytes(const Tensor& tensor);

}  // namespace nibble
