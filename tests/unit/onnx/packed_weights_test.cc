// UnpackBits and MatMulNBits: what is written is read back, and damaged operands are refused by the node's name.
#include "onnx/packed_weights.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "nibble/error.h"
#include "nibble/onnx.h"
#include "onnx/matmul_nbits.h"
#include "onnx/qdq_nodes.h"

namespace nibble {
namespace {

Tensor random_codes(const Shape& shape, int bits, bool is_signed, unsigned seed, int values = 1 << 16) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> codes(static_cast<std::size_t>(element_count(shape)));
  const std::int32_t lowest = is_signed ? -(1 << (bits - 1)) : 0;
  for (std::int32_t& q : codes) q = lowest + static_cast<std::int32_t>(random() % static_cast<unsigned>(std::min(1 << bits, values)));
  return cast(Tensor::from<std::int32_t>(shape, codes), is_signed ? DataType::kInt8 : DataType::kUInt8);
}

Graph graph_of(const PackedWeights& packed, const Shape& shape) {
  Graph graph;
  GraphEditor editor(graph);
  editor.set_opset("", 13);
  editor.set_opset("nibble", 1);
  std::vector<ValueId> inputs = {editor.add_constant("data", packed.data)};
  if (packed.table) inputs.push_back(editor.add_constant("table", *packed.table));
  Node node;
  node.op_type = kUnpackBits;
  node.domain = "nibble";
  node.name = "unpack";
  node.inputs = inputs;
  node.outputs = {editor.add_value("codes")};
  node.attributes.emplace("bits", std::int64_t{packed.bits});
  node.attributes.emplace("signed", std::int64_t{packed.is_signed ? 1 : 0});
  node.attributes.emplace("shape", std::vector<std::int64_t>(shape));
  const ValueId codes = node.outputs[0];
  editor.add_node(std::move(node));
  editor.set_outputs({codes});
  editor.finish();
  return graph;
}

TEST(PackedWeights, EveryWidthSurvives) {
  const Shape shape = {7, 3, 5, 3};
  for (int bits = 1; bits <= 8; ++bits) {
    for (const bool is_signed : {false, true}) {
      SCOPED_TRACE(std::to_string(bits) + (is_signed ? " signed" : " unsigned"));
      const Tensor codes = random_codes(shape, bits, is_signed, 3);
      const auto packed = pack_weights(codes, {.bit_width = bits, .is_signed = is_signed});
      ASSERT_EQ(packed.has_value(), bits != 4 && bits != 8);
      if (!packed) continue;
      EXPECT_EQ(packed->data.size(), (codes.size() * packed->bits + 7) / 8);
      const Graph graph = graph_of(*packed, shape);
      const auto back = unpack_weights(graph, graph.nodes()[0]);
      ASSERT_TRUE(back);
      EXPECT_TRUE(bit_equal(*back, codes));
    }
  }
}

TEST(PackedWeights, FewValuesBecomeATable) {
  const Shape shape = {64, 20};
  for (const int values : {1, 2, 3, 5, 16, 100}) {
    std::mt19937 random(9);
    std::vector<std::int8_t> table;
    for (int i = 0; i < values; ++i) table.push_back(static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127));
    std::vector<std::int8_t> codes(64 * 20);
    for (std::int8_t& q : codes) q = table[random() % table.size()];
    const Tensor tensor = Tensor::from<std::int8_t>(shape, codes);
    const auto packed = pack_weights(tensor, {.bit_width = 8, .is_signed = true, .narrow_range = true});
    ASSERT_TRUE(packed) << values;
    ASSERT_TRUE(packed->table);
    EXPECT_LE(packed->table->size(), values);
    const Graph graph = graph_of(*packed, shape);
    EXPECT_TRUE(bit_equal(*unpack_weights(graph, graph.nodes()[0]), tensor));
  }
}

std::string error_of(const Graph& graph) {
  try {
    unpack_weights(graph, graph.nodes()[0]);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidModel);
    return error.what();
  }
  return "no error";
}

TEST(PackedWeights, DamageIsNamed) {
  const Shape shape = {6, 5};
  const PackedWeights good = *pack_weights(random_codes(shape, 3, true, 1), {.bit_width = 3, .is_signed = true});
  const auto changed = [&](const std::function<void(PackedWeights&)>& change, const Shape& s) {
    PackedWeights packed = good;
    change(packed);
    return error_of(graph_of(packed, s));
  };
  const auto nothing = [](PackedWeights&) {};
  EXPECT_NE(changed([](PackedWeights& p) { p.data = Tensor::from<std::uint8_t>({11}, std::vector<std::uint8_t>(11)); }, shape).find("need 12"), std::string::npos);
  EXPECT_NE(changed(nothing, {6, 6}).find("unpack"), std::string::npos);
  EXPECT_NE(changed(nothing, {-6, -5}).find("impossible"), std::string::npos);
  EXPECT_NE(changed(nothing, {std::int64_t{1} << 40, std::int64_t{1} << 40}).find("impossible"), std::string::npos);
  EXPECT_NE(changed([](PackedWeights& p) { p.bits = 9; }, shape).find("bits is 9"), std::string::npos);
  EXPECT_NE(changed([](PackedWeights& p) { p.bits = 0; }, shape).find("bits is 0"), std::string::npos);
  EXPECT_NE(changed([](PackedWeights& p) { p.data = Tensor::from<std::int8_t>({12}, std::vector<std::int8_t>(12)); }, shape).find("int8"), std::string::npos);
  EXPECT_NE(changed([](PackedWeights& p) { p.table = Tensor::from<std::int8_t>({3}, std::vector<std::int8_t>{1, 2, 3}); }, shape).find("beyond its table"),
            std::string::npos);
  EXPECT_NE(changed([](PackedWeights& p) { p.table = Tensor::from<std::int8_t>({9}, std::vector<std::int8_t>(9)); }, shape).find("up to 8"), std::string::npos);
  EXPECT_NE(changed([](PackedWeights& p) { p.table = Tensor::from<float>({8}, std::vector<float>(8)); }, shape).find("expected int8"), std::string::npos);
}

const char* const kNBits = R"(graph g
opset ai.onnx 21
opset com.microsoft 1
input a float32[2,40]
const b uint8[3,3,8] splat 151
const s float32[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}
const z uint8[6] = {135, 8, 120, 7, 136, 9}
y = com.microsoft:MatMulNBits(a, b, s, z) [K=40, N=3, bits=4, block_size=16] name "product"
output y)";

TEST(MatMulNBits, IsReadAsItsDefinition) {
  Graph graph = parse_graph_text(kNBits);
  std::vector<float> a(80);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 7) - 3.0F;
  const Tensor input = Tensor::from<float>({2, 40}, a);
  const std::vector<Tensor> outputs = simulate(quantized_from_onnx_graph(graph), std::vector<Tensor>{input});
  const std::uint8_t zeros[] = {135, 8, 120, 7, 136, 9};
  for (int row = 0; row < 2; ++row) {
    for (int n = 0; n < 3; ++n) {
      double sum = 0;
      for (int k = 0; k < 40; ++k) {
        const int block = k / 16;
        const int zero = block % 2 == 0 ? zeros[n * 2 + block / 2] & 15 : zeros[n * 2 + block / 2] >> 4;
        const int code = k % 2 == 0 ? 151 & 15 : 151 >> 4;
        sum += static_cast<double>(a[static_cast<std::size_t>(row * 40 + k)]) * (code - zero) * (n * 3 + block + 1);
      }
      EXPECT_EQ(static_cast<double>(outputs[0].data<float>()[static_cast<std::size_t>(row * 3 + n)]), sum) << row << " " << n;
    }
  }
}

TEST(MatMulNBits, DamageIsNamed) {
  const auto with = [](const std::string& from, const std::string& to) {
    std::string text = kNBits;
    text.replace(text.find(from), from.size(), to);
    try {
      quantized_from_onnx_graph(parse_graph_text(text));
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(with("K=40", "K=0").find("product"), std::string::npos);
  EXPECT_NE(with("K=40", "K=4000").find("product"), std::string::npos);
  EXPECT_NE(with("N=3", "N=2147483647").find("product"), std::string::npos);
  EXPECT_NE(with("N=3", "N=-1").find("product"), std::string::npos);
  EXPECT_NE(with("block_size=16", "block_size=24").find("power of two"), std::string::npos);
  EXPECT_NE(with("block_size=16", "block_size=32").find("product"), std::string::npos);
  EXPECT_NE(with("s float32[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}", "s float32[8] = {1, 2, 3, 4, 5, 6, 7, 8}").find("8 scales"), std::string::npos);
  EXPECT_NE(with("z uint8[6] = {135, 8, 120, 7, 136, 9}", "z uint8[2] = {1, 2}").find("zero points"), std::string::npos);
}

// Blocks of a foreign file: what has no common unit stays float, what does not fit its tensor is refused.
TEST(Blocks, OfAFile) {
  const auto text = [](const std::string& scales, const std::string& block) {
    return R"(graph g
opset ai.onnx 21
input x float32[1,4]
const sx float32[] = {0.5}
const zx uint8[] = {128}
const w int8[2,4] = {1, -2, 3, 4, -5, 6, 7, 8}
const sw float32)" + scales + R"(
qx = QuantizeLinear(x, sx, zx)
dx = DequantizeLinear(qx, sx, zx)
dw = DequantizeLinear(w, sw) [axis=1, block_size=)" + block + R"(]
g = Gemm(dx, dw) [transB=1] name "gemm"
q = QuantizeLinear(g, sx, zx)
y = DequantizeLinear(q, sx, zx)
output y)";
  };
  const auto integer = [&](const std::string& scales) { return quantized_from_onnx_graph(parse_graph_text(text(scales, "2"))).layers.at(0).integer; };
  EXPECT_TRUE(integer("[2,2] = {0.25, 0.75, 0.5, 0.5}"));
  EXPECT_FALSE(integer("[2,2] = {0.25, 0.3, 0.5, 0.5}"));
  EXPECT_FALSE(integer("[2,2] = {0.25, 25.0, 0.5, 0.5}"));
  EXPECT_THROW(quantized_from_onnx_graph(parse_graph_text(text("[2,1] = {0.25, 0.75}", "2"))), Error);
  EXPECT_THROW(quantized_from_onnx_graph(parse_graph_text(text("[2,2] = {0.25, 0.75, 0.5, 0.5}", "-2"))), Error);
}

}  // namespace
}  // namespace nibble
