#include "onnx/element_types.h"

#include <array>
#include <string_view>

#include "base/checked.h"

namespace nibble {
namespace {

struct Row {
  std::int32_t number;
  DataType type;
  std::string_view name;
};

constexpr std::array kRows = {
    Row{1, DataType::kFloat32, "float"},
    Row{2, DataType::kUInt8, "uint8"},
    Row{3, DataType::kInt8, "int8"},
    Row{4, DataType::kUInt16, "uint16"},
    Row{5, DataType::kInt16, "int16"},
    Row{6, DataType::kInt32, "int32"},
    Row{7, DataType::kInt64, "int64"},
    Row{8, DataType::kUndefined, "string"},
    Row{9, DataType::kBool, "bool"},
    Row{10, DataType::kFloat16, "float16"},
    Row{11, DataType::kFloat64, "double"},
    Row{12, DataType::kUInt32, "uint32"},
    Row{13, DataType::kUInt64, "uint64"},
    Row{14, DataType::kUndefined, "complex64"},
    Row{15, DataType::kUndefined, "complex128"},
    Row{16, DataType::kBFloat16, "bfloat16"},
    Row{17, DataType::kUndefined, "float8e4m3fn"},
    Row{18, DataType::kUndefined, "float8e4m3fnuz"},
    Row{19, DataType::kUndefined, "float8e5m2"},
    Row{20, DataType::kUndefined, "float8e5m2fnuz"},
    Row{21, DataType::kUInt4, "uint4"},
    Row{22, DataType::kInt4, "int4"},
    Row{23, DataType::kUndefined, "float4e2m1"},
};

}  // namespace

DataType element_type_from_onnx(std::int32_t number) {
  for (const Row& row : kRows) {
    if (row.number == number) return row.type;
  }
  return DataType::kUndefined;
}

std::int32_t element_type_to_onnx(DataType type) {
  if (type == DataType::kUndefined) return 0;
  for (const Row& row : kRows) {
    if (row.type == type) return row.number;
  }
  return 0;
}

std::string onnx_element_type_name(std::int32_t number) {
  for (const Row& row : kRows) {
    if (row.number == number) return std::string(row.name);
  }
  return "number " + std::to_string(number);
}

std::int64_t file_bytes(DataType type, std::int64_t count) {
  if (type == DataType::kInt4 || type == DataType::kUInt4) return count / 2 + count % 2;
  return checked_mul(count, static_cast<std::int64_t>(element_size(type))).value_or(-1);
}

}  // namespace nibble
