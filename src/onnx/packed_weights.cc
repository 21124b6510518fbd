#include "onnx/packed_weights.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/checked.h"
#include "numeric/bit_packing.h"
#include "ops/fail.h"

namespace nibble {
namespace {

constexpr int kMostBits = 8;

std::size_t packed_bytes(std::size_t count, int bits) { return (count * static_cast<std::size_t>(bits) + 7) / 8; }

}  // namespace

std::optional<PackedWeights> pack_weights(const Tensor& codes, const QuantType& type) {
  if (type.bit_width > kMostBits || element_size(codes.type()) != 1) return std::nullopt;
  const Tensor wide = cast(codes, DataType::kInt32);
  const auto values = wide.data<std::int32_t>();
  std::vector<std::int32_t> table(values.begin(), values.end());
  std::sort(table.begin(), table.end());
  table.erase(std::unique(table.begin(), table.end()), table.end());

  const int index_bits = std::max(1, static_cast<int>(std::bit_width(std::max<std::size_t>(table.size(), 1) - 1)));
  const std::size_t standard = packed_bytes(values.size(), type.bit_width <= 4 ? 4 : 8);
  const std::size_t plain = packed_bytes(values.size(), type.bit_width);
  const std::size_t indexed = packed_bytes(values.size(), index_bits) + table.size();
  if (std::min(plain, indexed) >= standard) return std::nullopt;

  PackedWeights result;
  result.is_signed = type.is_signed;
  result.bits = plain <= indexed ? type.bit_width : index_bits;
  std::vector<std::int32_t> stream(values.begin(), values.end());
  if (indexed < plain) {
    for (std::int32_t& code : stream) code = static_cast<std::int32_t>(std::lower_bound(table.begin(), table.end(), code) - table.begin());
    const auto entries = static_cast<std::int64_t>(table.size());
    result.table = cast(Tensor::from<std::int32_t>({entries}, table), codes.type());
  }
  const std::vector<std::uint8_t> bytes = pack_bits(stream, result.bits);
  result.data = Tensor::from<std::uint8_t>({static_cast<std::int64_t>(bytes.size())}, bytes);
  return result;
}

std::optional<Tensor> unpack_weights(const Graph& graph, const Node& node) {
  for (const ValueId input : node.inputs) {
    if (input != kNoValue && !graph.is_constant(input)) return std::nullopt;
  }
  if (node.input(0) == kNoValue || node.outputs.size() != 1) fail_node(node, "expected data, perhaps a table, and one output");
  const Tensor& data = *graph.value(node.input(0)).constant;
  if (data.type() != DataType::kUInt8 || data.rank() != 1)
    fail_node(node, "its data are {}{}, expected uint8 with one axis", to_string(data.type()), to_string(data.shape()));
  const std::int64_t bits = node.get_int("bits", 0);
  if (bits < 1 || bits > kMostBits) fail_node(node, "bits is {}, expected 1 to {}", bits, kMostBits);
  const bool is_signed = node.get_int("signed", 1) != 0;
  const auto shape = node.get_ints("shape");
  if (!shape) fail_node(node, "has no shape");
  std::int64_t count = 1;
  for (const std::int64_t axis : *shape) {
    const auto product = axis < 0 ? std::nullopt : checked_mul(count, axis);
    if (!product || *product > std::numeric_limits<std::int64_t>::max() / kMostBits) fail_node(node, "its shape {} is impossible", to_string(*shape));
    count = *product;
  }
  const std::int64_t needed = (count * bits + 7) / 8;
  if (data.size() != needed) fail_node(node, "holds {} bytes, but {} codes of {} bits need {}", data.size(), count, bits, needed);

  const ValueId table_id = node.input(1);
  std::vector<std::int32_t> codes = unpack_bits(data.data<std::uint8_t>(), static_cast<int>(bits), count, is_signed && table_id == kNoValue);
  DataType type = is_signed ? DataType::kInt8 : DataType::kUInt8;
  if (table_id != kNoValue) {
    const Tensor& table = *graph.value(table_id).constant;
    if ((table.type() != DataType::kInt8 && table.type() != DataType::kUInt8) || table.rank() != 1 || table.size() > std::int64_t{1} << bits)
      fail_node(node, "its table is {}{}, expected int8 or uint8 with one axis of up to {} entries", to_string(table.type()), to_string(table.shape()),
                std::int64_t{1} << bits);
    const Tensor wide = cast(table, DataType::kInt32);
    const auto entries = wide.data<std::int32_t>();
    for (std::size_t i = 0; i < codes.size(); ++i) {
      if (codes[i] >= table.size()) fail_node(node, "index {} of element {} is beyond its table of {} entries", codes[i], i, table.size());
      codes[i] = entries[static_cast<std::size_t>(codes[i])];
    }
    type = table.type();
  }
  return cast(Tensor::from<std::int32_t>(*shape, codes), type);
}

}  // namespace nibble
