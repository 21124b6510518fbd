#include "onnx/matmul_nbits.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "base/checked.h"
#include "ops/fail.h"

namespace nibble {
namespace {

constexpr std::int32_t kMiddle = 8;  // the zero point of codes without zero points; signed codes are stored 8 higher

struct Extents {
  std::int64_t k = 0, n = 0, blocks = 0;
};

Extents extents_of(const Shape& shape, std::int64_t block_size, bool transposed) {
  const std::int64_t k = shape[transposed ? 1 : 0];
  return {.k = k, .n = shape[transposed ? 0 : 1], .blocks = (k + block_size - 1) / block_size};
}

}  // namespace

bool fits_matmul_nbits(const Tensor& codes, const QuantParams& params, bool transposed) {
  const auto* block = std::get_if<PerBlock>(&params.granularity);
  return block != nullptr && codes.rank() == 2 && params.type.bit_width <= 4 && block->axis == (transposed ? 1 : 0) && block->block_size >= 16 &&
         std::has_single_bit(static_cast<std::uint64_t>(block->block_size));
}

NBitsOperands to_matmul_nbits(const Tensor& codes, const QuantParams& params, bool transposed) {
  const std::int64_t block_size = std::get<PerBlock>(params.granularity).block_size;
  const Extents e = extents_of(codes.shape(), block_size, transposed);
  const Tensor wide = cast(codes, DataType::kInt32);
  const auto q = wide.data<std::int32_t>();
  const std::int32_t offset = params.type.is_signed ? kMiddle : 0;
  std::vector<std::uint8_t> b(static_cast<std::size_t>(e.n * e.blocks * block_size / 2), 0);
  std::vector<float> scales(static_cast<std::size_t>(e.n * e.blocks));
  const std::int64_t zero_row = (e.blocks + 1) / 2;
  std::vector<std::uint8_t> zeros(static_cast<std::size_t>(e.n * zero_row), 0);
  bool all_in_the_middle = true;
  const auto put = [](std::uint8_t& byte, std::int64_t half, std::int32_t code) {
    byte = static_cast<std::uint8_t>(byte | (static_cast<unsigned>(code) & 0x0FU) << (half % 2 == 0 ? 0 : 4));
  };
  for (std::int64_t n = 0; n < e.n; ++n) {
    for (std::int64_t k = 0; k < e.k; ++k)
      put(b[static_cast<std::size_t>((n * e.blocks * block_size + k) / 2)], k, q[static_cast<std::size_t>(transposed ? n * e.k + k : k * e.n + n)] + offset);
    for (std::int64_t block = 0; block < e.blocks; ++block) {
      const auto from = static_cast<std::size_t>(transposed ? n * e.blocks + block : block * e.n + n);
      scales[static_cast<std::size_t>(n * e.blocks + block)] = params.scale[from];
      const std::int32_t zero = params.zero_point[from] + offset;
      all_in_the_middle = all_in_the_middle && zero == kMiddle;
      put(zeros[static_cast<std::size_t>(n * zero_row + block / 2)], block, zero);
    }
  }
  NBitsOperands result{.b = Tensor::from<std::uint8_t>({e.n, e.blocks, block_size / 2}, b),
                       .scales = Tensor::from<float>({e.n * e.blocks}, scales),
                       .zero_points = std::nullopt,
                       .k = e.k,
                       .n = e.n,
                       .block_size = block_size};
  if (!all_in_the_middle) result.zero_points = Tensor::from<std::uint8_t>({e.n * zero_row}, zeros);
  return result;
}

namespace {

class Expander {
 public:
  explicit Expander(Graph& graph) : graph_(graph), editor_(graph) {}

  void run() {
    const auto count = static_cast<NodeId>(graph_.nodes().size());
    for (NodeId n = 0; n < count; ++n) {
      const Node node = graph_.node(n);
      if (node.op_type == "MatMulNBits" && node.domain == "com.microsoft") expand(n, node);
    }
    editor_.finish();
  }

 private:
  const Tensor* constant(ValueId id) const { return graph_.is_constant(id) ? &*graph_.value(id).constant : nullptr; }

  void expand(NodeId id, const Node& node) {
    const Tensor* b = constant(node.input(1));
    const Tensor* scales = constant(node.input(2));
    const Tensor* zeros = constant(node.input(3));
    if (node.get_int("bits", 4) != 4 || b == nullptr || scales == nullptr || (node.input(3) != kNoValue && zeros == nullptr) ||
        node.input(4) != kNoValue || scales->type() != DataType::kFloat32)
      return;
    const std::int64_t k = node.get_int("K", 0);
    const std::int64_t n = node.get_int("N", 0);
    const std::int64_t block_size = node.get_int("block_size", 0);
    constexpr std::int64_t kMost = std::int64_t{1} << 31;
    if (k < 1 || n < 1 || k > kMost || n > kMost || block_size < 16 || block_size > kMost || !std::has_single_bit(static_cast<std::uint64_t>(block_size)))
      fail_node(node, "K is {}, N {}, block_size {}: expected sizes from 1 up and a power of two from 16 up", k, n, block_size);
    const std::int64_t blocks = (k + block_size - 1) / block_size;
    const auto bytes = checked_mul(n, blocks * block_size / 2);
    if (!bytes || b->type() != DataType::kUInt8 || b->size() != *bytes)
      fail_node(node, "its weights are {}{}, but {} columns of {} blocks of {} need {} bytes", to_string(b->type()), to_string(b->shape()), n, blocks,
                block_size, bytes.value_or(-1));
    if (scales->size() != n * blocks) fail_node(node, "has {} scales, but {} columns of {} blocks", scales->size(), n, blocks);
    const std::int64_t zero_row = (blocks + 1) / 2;
    if (zeros != nullptr && zeros->type() != DataType::kUInt8) return;  // zero points as reals
    if (zeros != nullptr && zeros->size() != n * zero_row)
      fail_node(node, "has {} bytes of zero points, but {} columns of {} blocks need {}", zeros->size(), n, blocks, n * zero_row);
    const ValueId bias = node.input(5);
    const TensorType& input = graph_.value(node.input(0)).type;
    // A Gemm takes a matrix; a bias behind any other product is an Add.
    const bool gemm = bias != kNoValue && input.has_rank && input.dims.size() == 2;

    const auto nibble_at = [](const Tensor& packed, std::int64_t row_bytes, std::int64_t row, std::int64_t i) {
      const std::uint8_t byte = packed.data<std::uint8_t>()[static_cast<std::size_t>(row * row_bytes + i / 2)];
      return static_cast<std::int32_t>(i % 2 == 0 ? byte & 0x0FU : byte >> 4U);
    };
    std::vector<std::int32_t> codes(static_cast<std::size_t>(n * k));
    std::vector<float> scale(static_cast<std::size_t>(n * blocks));
    std::vector<std::int32_t> zero(scale.size(), kMiddle);
    for (std::int64_t col = 0; col < n; ++col) {
      for (std::int64_t row = 0; row < k; ++row)
        codes[static_cast<std::size_t>(gemm ? col * k + row : row * n + col)] = nibble_at(*b, blocks * block_size / 2, col, row);
      for (std::int64_t block = 0; block < blocks; ++block) {
        const auto to = static_cast<std::size_t>(gemm ? col * blocks + block : block * n + col);
        scale[to] = scales->data<float>()[static_cast<std::size_t>(col * blocks + block)];
        if (zeros != nullptr) zero[to] = nibble_at(*zeros, zero_row, col, block);
      }
    }
    // Around the middle the codes are signed ones.
    const bool is_signed = std::all_of(zero.begin(), zero.end(), [](std::int32_t z) { return z == kMiddle; });
    if (is_signed) {
      for (std::int32_t& q : codes) q -= kMiddle;
      for (std::int32_t& z : zero) z -= kMiddle;
    }
    const DataType type = is_signed ? DataType::kInt4 : DataType::kUInt4;
    const Shape shape = gemm ? Shape{n, k} : Shape{k, n};
    const Shape scale_shape = gemm ? Shape{n, blocks} : Shape{blocks, n};
    const std::string name = graph_.value(node.input(1)).name;
    const ValueId weights = editor_.add_constant(name + "_codes", cast(Tensor::from<std::int32_t>(shape, codes), type));
    const ValueId scale_id = editor_.add_constant(name + "_scales", Tensor::from<float>(scale_shape, scale));
    const ValueId zero_id = editor_.add_constant(name + "_zero_points", cast(Tensor::from<std::int32_t>(scale_shape, zero), type));

    editor_.remove_node(id);
    const auto add = [&](const char* op, const std::string& node_name, std::vector<ValueId> inputs, ValueId output) {
      Node made;
      made.op_type = op;
      made.name = node_name;
      made.inputs = std::move(inputs);
      made.outputs = {output};
      return editor_.add_node(std::move(made));
    };
    const ValueId real = editor_.add_value(name + "_dequantized");
    const NodeId dequantize = add("DequantizeLinear", node.name + "_DequantizeLinear", {weights, scale_id, zero_id}, real);
    editor_.set_attribute(dequantize, "axis", std::int64_t{gemm ? 1 : 0});
    editor_.set_attribute(dequantize, "block_size", block_size);
    if (gemm) {
      const NodeId product = add("Gemm", node.name, {node.input(0), real, bias}, node.output(0));
      editor_.set_attribute(product, "transB", std::int64_t{1});
    } else if (bias != kNoValue) {
      const ValueId product = editor_.add_value(node.name + "_product");
      add("MatMul", node.name, {node.input(0), real}, product);
      add("Add", node.name + "_bias", {product, bias}, node.output(0));
    } else {
      add("MatMul", node.name, {node.input(0), real}, node.output(0));
    }
  }

  Graph& graph_;
  GraphEditor editor_;
};

}  // namespace

void expand_matmul_nbits(Graph& graph) { Expander(graph).run(); }

}  // namespace nibble
