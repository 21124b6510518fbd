// Small graphs of every operator with an integer form: simulation and runtime agree to the bit, at any thread count and batch size, on every ISA, under
// both laws, for unsigned and signed activations, symmetric and affine weights.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "kernels/isa.h"
#include "nibble/error.h"
#include "support/quantized.h"
#include "unit/runtime/agreement.h"

namespace nibble {
namespace {

// `ones` constants would hide mistakes: weights are drawn.
Graph graph_of(const std::string& text, std::uint64_t seed) {
  Graph graph = parse_graph_text(text);
  GraphEditor editor(graph);
  std::mt19937_64 random(seed);
  for (ValueId v = 0; v < static_cast<ValueId>(graph.values().size()); ++v) {
    const Value& value = graph.value(v);
    if (!value.constant || value.constant->type() != DataType::kFloat32 || value.name.find("draw") == std::string::npos) continue;
    Tensor tensor = *value.constant;
    for (float& x : tensor.mutable_data<float>()) x = static_cast<float>(random() >> 40) * 0x1p-23F - 1.0F;
    editor.set_constant(v, tensor);
  }
  editor.finish();
  return graph;
}

struct Case {
  const char* name;
  const char* text;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

const Case kCases[] = {
    {"conv", R"(graph g
opset ai.onnx 13
input x float32[batch,5,9,7]
const w_draw float32[6,5,3,3] splat 0
const b_draw float32[6] splat 0
y = Conv(x, w_draw, b_draw) [pads=[1, 1, 1, 1], strides=[2, 1]]
r = Relu(y)
output r)"},
    {"conv_same_dilated", R"(graph g
opset ai.onnx 13
input x float32[batch,3,11,10]
const w_draw float32[4,3,3,2] splat 0
y = Conv(x, w_draw) [auto_pad="SAME_LOWER", dilations=[2, 2]]
output y)"},
    {"conv_grouped", R"(graph g
opset ai.onnx 13
input x float32[batch,8,6,6]
const w_draw float32[12,2,3,3] splat 0
y = Conv(x, w_draw) [group=4]
output y)"},
    {"depthwise_then_pointwise", R"(graph g
opset ai.onnx 13
input x float32[batch,19,8,9]
const w1_draw float32[19,1,3,3] splat 0
const b1_draw float32[19] splat 0
const w2_draw float32[33,19,1,1] splat 0
const lo float32[] = {0.0}
const hi float32[] = {0.7}
a = Conv(x, w1_draw, b1_draw) [group=19, pads=[1, 1, 1, 1], strides=[2, 2]]
c = Clip(a, lo, hi)
y = Conv(c, w2_draw)
output y)"},
    {"depthwise_5x5", R"(graph g
opset ai.onnx 13
input x float32[batch,16,7,12]
const w_draw float32[16,1,5,5] splat 0
y = Conv(x, w_draw) [group=16, pads=[2, 2, 2, 2]]
output y)"},
    {"conv_1d", R"(graph g
opset ai.onnx 13
input x float32[batch,6,17]
const w_draw float32[9,6,4] splat 0
y = Conv(x, w_draw) [pads=[2, 1], strides=[2]]
output y)"},
    {"conv_3d", R"(graph g
opset ai.onnx 13
input x float32[batch,4,5,4,6]
const w_draw float32[6,2,2,3,2] splat 0
const b_draw float32[6] splat 0
y = Conv(x, w_draw, b_draw) [group=2, pads=[1, 0, 1, 0, 1, 0], strides=[2, 1, 1]]
output y)"},
    {"conv_transpose", R"(graph g
opset ai.onnx 13
input x float32[batch,5,4,6]
const w_draw float32[5,7,3,2] splat 0
const b_draw float32[7] splat 0
y = ConvTranspose(x, w_draw, b_draw) [strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0]]
output y)"},
    {"conv_transpose_grouped", R"(graph g
opset ai.onnx 13
input x float32[batch,6,5]
const w_draw float32[6,2,3] splat 0
y = ConvTranspose(x, w_draw) [group=3, strides=[2], dilations=[2]]
output y)"},
    {"residual", R"(graph g
opset ai.onnx 13
input x float32[batch,8,6,5]
const w_draw float32[8,8,3,3] splat 0
a = Conv(x, w_draw) [pads=[1, 1, 1, 1]]
s = Add(a, x)
r = Relu(s)
d = Sub(r, a)
output d)"},
    {"gates", R"(graph g
opset ai.onnx 13
input x float32[batch,8,6,5]
const w_draw float32[8,8,1,1] splat 0
const v_draw float32[8,8,1,1] splat 0
const k_draw float32[1,8,1,1] splat 0
const s float32[] = {0.3}
a = Conv(x, w_draw)
p = GlobalAveragePool(a)
q = Conv(p, v_draw)
h = HardSigmoid(q)
m = Mul(a, h)
n = Mul(m, k_draw)
o = Add(n, s)
t = Sigmoid(o)
u = Mul(o, t)
output u)"},
    {"odd_broadcast", R"(graph g
opset ai.onnx 13
input x float32[batch,4,3,5]
const w_draw float32[4,4,1,1] splat 0
const r_draw float32[3,1] splat 0
a = Conv(x, w_draw)
b = Add(a, r_draw)
c = Sub(r_draw, b)
output c)"},
    {"pools", R"(graph g
opset ai.onnx 13
input x float32[batch,7,9,8]
const w_draw float32[7,7,1,1] splat 0
a = Conv(x, w_draw)
m = MaxPool(a) [kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1], ceil_mode=1]
n = AveragePool(m) [kernel_shape=[2, 2], pads=[1, 1, 0, 0]]
o = AveragePool(n) [kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1]
output o)"},
    {"means", R"(graph g
opset ai.onnx 13
input x float32[batch,6,5,4]
const w_draw float32[6,6,1,1] splat 0
a = Conv(x, w_draw)
m = ReduceMean(a) [axes=[3], keepdims=1]
n = ReduceMean(a) [axes=[2, 3], keepdims=0]
output m
output n)"},
    {"concat_split_shuffle", R"(graph g
opset ai.onnx 13
input x float32[batch,4,5,6]
const w_draw float32[4,4,1,1] splat 0
const v_draw float32[3,4,1,1] splat 0
const parts int64[2] = {3, 4}
a = Conv(x, w_draw)
b = Conv(x, v_draw)
c = Concat(a, b) [axis=1]
d, e = Split(c, parts) [axis=1]
f = Concat(e, d, b) [axis=1]
t = Transpose(f) [perm=[0, 2, 3, 1]]
output t)"},
    {"pad_slice_resize", R"(graph g
opset ai.onnx 13
input x float32[batch,4,5,6]
const w_draw float32[4,4,1,1] splat 0
const pads int64[8] = {0, 1, 0, 2, 0, 1, 1, 0}
const value float32[] = {0.25}
const starts int64[2] = {1, 0}
const ends int64[2] = {9, 5}
const axes int64[2] = {3, 2}
const steps int64[2] = {2, 1}
const scales float32[4] = {1, 1, 2, 3}
a = Conv(x, w_draw)
p = Pad(a, pads, value)
s = Slice(p, starts, ends, axes, steps)
r = Resize(s, _, scales) [mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"]
m = Tanh(r)
output m)"},
    {"dense", R"(graph g
opset ai.onnx 13
input x float32[batch,6,2,2]
const w_draw float32[6,6,1,1] splat 0
const f_draw float32[10,24] splat 0
const g_draw float32[10] splat 0
const h_draw float32[10,37] splat 0
a = Conv(x, w_draw)
v = Flatten(a)
y = Gemm(v, f_draw, g_draw) [transB=1]
r = Relu(y)
z = MatMul(r, h_draw)
output z)"},
    {"attention", R"(graph g
opset ai.onnx 13
input x float32[batch,7,12]
const q_draw float32[12,16] splat 0
const k_draw float32[12,16] splat 0
const v_draw float32[12,16] splat 0
const heads int64[4] = {0, 7, 2, 8}
const back int64[3] = {0, 7, 16}
q = MatMul(x, q_draw)
k = MatMul(x, k_draw)
v = MatMul(x, v_draw)
q4 = Reshape(q, heads)
k4 = Reshape(k, heads)
v4 = Reshape(v, heads)
qt = Transpose(q4) [perm=[0, 2, 1, 3]]
kt = Transpose(k4) [perm=[0, 2, 3, 1]]
vt = Transpose(v4) [perm=[0, 2, 1, 3]]
s = MatMul(qt, kt)
p = Softmax(s) [axis=-1]
o = MatMul(p, vt)
ot = Transpose(o) [perm=[0, 2, 1, 3]]
y = Reshape(ot, back)
output y)"},
    {"tables", R"(graph g
opset ai.onnx 14
input x float32[batch,5,4,4]
const w_draw float32[5,5,1,1] splat 0
a = Conv(x, w_draw)
b = LeakyRelu(a) [alpha=0.1]
c = HardSwish(b)
d = Elu(c)
e = Sigmoid(d)
output e)"},
};

class Agreement : public testing::TestWithParam<Case> {};

TEST_P(Agreement, UnderEveryLawAndScheme) {
  const Graph graph = graph_of(GetParam().text, 3);
  for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint}) {
    for (const bool is_signed : {false, true}) {
      for (const int weights : {0, 1, 2}) {
        SCOPED_TRACE(to_string(law) + (is_signed ? " int8" : " uint8") + " weights " + std::to_string(weights));
        QuantScheme scheme;
        scheme.law = law;
        scheme.defaults.activations.type.is_signed = is_signed;
        if (weights == 1) scheme.defaults.weights = {.type = {.bit_width = 8, .is_signed = true}, .symmetric = false, .per_channel = true};
        if (weights == 2) scheme.defaults.weights = {.type = {.bit_width = 8, .is_signed = false}, .symmetric = false, .per_channel = false};
        const QuantizedGraph model = test::quantize_on_random(graph, scheme);
        EXPECT_GT(test::expect_agreement(model, test::random_inputs(model.graph, 11, -1.2F, 1.2F, 2), 1), 1);
      }
    }
  }
}

TEST_P(Agreement, AtAnyThreadCountBatchAndIsa) {
  const QuantizedGraph model = test::quantize_on_random(graph_of(GetParam().text, 5), {});
  const std::vector<Tensor> inputs = test::random_inputs(model.graph, 13, -1.0F, 1.0F, 8);
  const std::vector<Tensor> expected = simulate(model, inputs);
  const char* before = std::getenv("NIBBLE_FORCE_ISA");
  const std::string kept = before != nullptr ? before : "";
  for (const kernels::Isa isa : kernels::available_isas()) {
    setenv("NIBBLE_FORCE_ISA", std::string(to_string(isa)).c_str(), 1);
    EXPECT_EQ(active_isa(), to_string(isa));
    const Program program = lower(QuantizedGraph(model));
    for (const int threads : {1, 2, 3}) {
      Session session(program, {.threads = threads});
      const std::vector<Tensor> outputs = session.run(inputs);
      ASSERT_EQ(outputs.size(), expected.size());
      for (std::size_t i = 0; i < outputs.size(); ++i) EXPECT_TRUE(bit_equal(outputs[i], expected[i])) << to_string(isa) << ", " << threads << " threads";
    }
    // One image at a time gives the rows of the batch.
    Session session(program, {.threads = 1});
    for (std::int64_t b = 0; b < 8; ++b) {
      Shape shape = inputs[0].shape();
      const std::int64_t size = inputs[0].size() / 8;
      shape[0] = 1;
      const Tensor one = Tensor::from<float>(shape, inputs[0].data<float>().subspan(static_cast<std::size_t>(b * size), static_cast<std::size_t>(size)));
      const std::vector<Tensor> outputs = session.run(std::span(&one, 1));
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        const auto all = expected[i].data<float>();
        const auto row = outputs[i].data<float>();
        ASSERT_EQ(row.size() * 8, all.size());
        for (std::size_t j = 0; j < row.size(); ++j) ASSERT_EQ(row[j], all[static_cast<std::size_t>(b) * row.size() + j]) << to_string(isa) << " image " << b;
      }
    }
  }
  if (before != nullptr) setenv("NIBBLE_FORCE_ISA", kept.c_str(), 1);
  else unsetenv("NIBBLE_FORCE_ISA");
}

INSTANTIATE_TEST_SUITE_P(All, Agreement, testing::ValuesIn(kCases), [](const auto& test) { return std::string(test.param.name); });

TEST(Runtime, OneProgramServesManySessionsAndShapes) {
  const QuantizedGraph model = test::quantize_on_random(graph_of(kCases[0].text, 5), {});
  const Program program = lower(QuantizedGraph(model));
  Session a(program);
  Session b(program);
  for (const std::int64_t batch : {1, 3, 2, 5, 1, 7, 4, 6, 8, 9, 1}) {
    const auto inputs = test::random_inputs(model.graph, static_cast<std::uint64_t>(batch), -1.0F, 1.0F, batch);
    const auto expected = simulate(model, inputs);
    EXPECT_TRUE(bit_equal(a.run(inputs)[0], expected[0])) << batch;
    EXPECT_TRUE(bit_equal(b.run(inputs)[0], expected[0])) << batch;
  }
}

TEST(Runtime, WrongInputsAreNamed) {
  const QuantizedGraph model = test::quantize_on_random(graph_of(kCases[0].text, 5), {});
  Session session(lower(QuantizedGraph(model)));
  const auto message = [&](const std::vector<Tensor>& inputs) -> std::string {
    try {
      session.run(inputs);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message({}), "the model has 1 inputs, 0 were given");
  EXPECT_EQ(message({Tensor::zeros(DataType::kFloat32, {1, 5, 9, 8})}), "input 'x' is float32[1,5,9,8], but the model takes float32[batch,5,9,7]");
  EXPECT_EQ(message({Tensor::zeros(DataType::kInt32, {1, 5, 9, 7})}), "input 'x' is int32[1,5,9,7], but the model takes float32[batch,5,9,7]");
}

TEST(Runtime, DumpNamesNodesAndKernels) {
  const QuantizedGraph model = test::quantize_on_random(graph_of(kCases[0].text, 5), {});
  const std::string dump = lower(QuantizedGraph(model)).dump();
  EXPECT_NE(dump.find("qgemm_u8s8s32"), std::string::npos) << dump;
  EXPECT_NE(dump.find("arena"), std::string::npos) << dump;
}

}  // namespace
}  // namespace nibble
