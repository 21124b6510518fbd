// Damaged quantized models: whatever the bits say, the answer is a QuantizedGraph that can be written again, or one Error.
#include <gtest/gtest.h>

#include <random>

#include "model_builder.h"
#include "nibble/quantize.h"

namespace nibble {
namespace {

const char* const kQdq = R"(graph q
opset ai.onnx 13
input x float32[1,2,4,4]
const sx float32[] = {0.02}
const zx uint8[] = {100}
const w int8[2,2,1,1] = {100, -50, 25, 77}
const sw float32[2] = {0.01, 0.02}
const zw int8[2] splat 0
const b int32[2] = {300, -200}
const sb float32[2] = {0.0002, 0.0004}
const shape int64[2] = {1, -1}
const v int8[16,3] splat 3
const z8 int8[] = {1}
qx = QuantizeLinear(x, sx, zx)
dv = DequantizeLinear(v, sx, z8)
dx = DequantizeLinear(qx, sx, zx)
dw = DequantizeLinear(w, sw, zw) [axis=0]
db = DequantizeLinear(b, sb) [axis=0]
c = Conv(dx, dw, db) [strides=[2, 2], dilations=[1, 1], group=1, kernel_shape=[1, 1]] name "conv"
r = Relu(c)
qy = QuantizeLinear(r, sx, zx)
dy = DequantizeLinear(qy, sx, zx)
a = Add(dy, dy) name "add"
qa = QuantizeLinear(a, sx, zx)
da = DequantizeLinear(qa, sx, zx)
p = Concat(da, da) [axis=1] name "concat"
f = Reshape(p, shape)
qf = QuantizeLinear(f, sx, zx)
df = DequantizeLinear(qf, sx, zx)
m = MatMul(df, dv) name "matmul"
qm = QuantizeLinear(m, sx, zx)
y = DequantizeLinear(qm, sx, zx)
output y
)";

const char* const kOperators = R"(graph q
opset ai.onnx 13
opset com.microsoft 1
input x float32[1,2,4,4]
const sx float32[] = {0.02}
const zx uint8[] = {100}
const w int8[2,2,1,1] = {100, -50, 25, 77}
const sw float32[2] = {0.01, 0.02}
const zw int8[2] splat 0
const b int32[2] = {300, -200}
const low uint8[] = {5}
const high uint8[] = {200}
const v int8[4,3] splat 3
const z8 int8[] = {1}
const b3 int32[3] = {1, 2, 3}
qx = QuantizeLinear(x, sx, zx)
c = QLinearConv(qx, sx, zx, w, sw, zw, sx, zx, b) [group=1] name "conv"
l = Clip(c, low, high) name "clip"
p = MaxPool(l) [kernel_shape=[2, 2], strides=[2, 2]] name "pool"
a = com.microsoft:QLinearAdd(p, sx, zx, p, sx, zx, sx, zx) name "add"
g = com.microsoft:QLinearGlobalAveragePool(a, sx, zx, sx, zx) [channels_last=0] name "gap"
k = com.microsoft:QLinearConcat(sx, zx, g, sx, zx, g, sx, zx) [axis=1] name "concat"
f = Flatten(k) name "flatten"
m = com.microsoft:QGemm(f, sx, zx, v, sx, z8, b3, sx, zx) [transB=0] name "gemm"
y = DequantizeLinear(m, sx, zx)
output y
)";

class HostileQuantized : public testing::TestWithParam<const char*> {};

TEST_P(HostileQuantized, BitFlips) {
  const std::string bytes = serialize_onnx(parse_graph_text(GetParam()));
  const test::TemporaryFolder folder;
  const std::string path = folder / "m.onnx";
  constexpr unsigned kSeed = 7;
  std::mt19937 random(kSeed);
  int read = 0;
  for (int i = 0; i < 500; ++i) {
    std::string damaged = bytes;
    for (int k = 0; k <= i % 2; ++k) {
      const std::size_t at = random() % damaged.size();
      damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ (1U << (random() % 8)));
    }
    test::write_bytes(path, damaged);
    SCOPED_TRACE(i);
    try {
      const QuantizedGraph model = quantized_from_onnx_graph(import_onnx(path));
      verify(model);
      ++read;
      const Tensor x = Tensor::zeros(DataType::kFloat32, {1, 2, 4, 4});
      simulate(model, std::vector<Tensor>{x});
      for (const QuantFormat format : {QuantFormat::kQdq, QuantFormat::kQOperator})
        serialize_onnx(export_graph(model, {.format = format, .metadata = {}}));
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(read, 20) << "seed " << kSeed;
}

std::string form_name(const testing::TestParamInfo<const char*>& parameter) { return parameter.index == 0 ? "Qdq" : "QOperator"; }

INSTANTIATE_TEST_SUITE_P(Forms, HostileQuantized, testing::Values(kQdq, kOperators), form_name);

}  // namespace
}  // namespace nibble
