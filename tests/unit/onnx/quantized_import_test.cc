// Quantization read out of ONNX graphs: which nodes become integer nodes, and that the integers are the file's.
#include <gtest/gtest.h>

#include <random>

#include "model_builder.h"
#include "nibble/interpreter.h"
#include "nibble/quantize.h"

namespace nibble {
namespace {

using test::expect_error;

Graph parse(const std::string& text) { return parse_graph_text("graph t\nopset ai.onnx 13\nopset com.microsoft 1\n" + text); }

const LayerInfo& layer(const QuantizedGraph& model, const std::string& name) {
  for (const LayerInfo& info : model.layers) {
    if (info.name == name) return info;
  }
  throw std::runtime_error("no layer " + name + " in\n" + print_graph(model.graph));
}
std::vector<std::string> ops_of(const QuantizedGraph& model) {
  std::vector<std::string> ops;
  for (const Node& node : model.graph.nodes()) ops.push_back(node.op_type);
  return ops;
}
using Ops = std::vector<std::string>;

Tensor random_input(const Graph& graph, unsigned seed) {
  const TensorType& type = graph.value(graph.inputs().at(0)).type;
  Tensor x(DataType::kFloat32, type.shape());
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> in(-2.0F, 2.0F);
  for (float& v : x.mutable_data<float>()) v = in(random);
  return x;
}

// The float interpreter computes the Q/DQ graph as ONNX words it, in float sums; the integer form may differ where a float sum lies on the
// edge between two integers: by one step of the output's scale.
void expect_same_as_float(const Graph& graph, float step) {
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  Interpreter interpreter(graph, {.threads = 1, .mode = ExecMode::kFixedOrder});
  for (unsigned seed = 1; seed <= 5; ++seed) {
    const std::vector<Tensor> inputs{random_input(graph, seed)};
    const auto want = interpreter.run(inputs);
    const auto have = simulate(model, inputs);
    ASSERT_EQ(want.size(), have.size());
    for (std::size_t o = 0; o < want.size(); ++o) {
      ASSERT_EQ(want[o].shape(), have[o].shape());
      const auto a = to_doubles(want[o]);
      const auto b = to_doubles(have[o]);
      for (std::size_t i = 0; i < a.size(); ++i)
        ASSERT_NEAR(a[i], b[i], static_cast<double>(step) * 1.001) << "seed " << seed << " element " << i;
    }
  }
}

const std::string kHead = R"(input x float32[1,2,4,4]
const sx float32[] = {0.02}
const zx uint8[] = {100}
const w int8[2,2,1,1] = {100, -50, 25, 77}
const sw float32[2] = {0.01, 0.02}
const zw int8[2] splat 0
const b int32[2] = {300, -200}
const sb float32[2] = {0.0002, 0.0004}
const sy float32[] = {0.03}
const zy uint8[] = {0}
const sw0 float32[] = {0.00390625}
qx = QuantizeLinear(x, sx, zx) name "qx"
dx = DequantizeLinear(qx, sx, zx) name "dx"
dw = DequantizeLinear(w, sw, zw) [axis=0] name "dw"
db = DequantizeLinear(b, sb) [axis=0] name "db"
c = Conv(dx, dw, db) name "conv"
)";

TEST(QuantizedImport, ConvWithAnActivationThatItsGridImplies) {
  const Graph graph = parse(kHead + R"(r = Relu(c) name "relu"
qy = QuantizeLinear(r, sy, zy) name "qy"
y = DequantizeLinear(qy, sy, zy) name "dy"
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_EQ(ops_of(model), (Ops{"QuantizeLinear", "Conv", "DequantizeLinear"}));
  const Node& conv = model.graph.node(1);
  EXPECT_FALSE(conv.has("activation"));
  EXPECT_TRUE(layer(model, "conv").integer);
  EXPECT_EQ(model.graph.value(conv.output(0)).name, "qy");
  EXPECT_EQ(model.params_of(conv.input(1))->granularity, Granularity(PerChannel{.axis = 0}));
  EXPECT_TRUE(model.params_of(conv.input(1))->type.narrow_range);
  EXPECT_EQ(to_int64s(*model.graph.value(conv.input(2)).constant), (std::vector<std::int64_t>{300, -200}));
  expect_same_as_float(graph, 0.03F);
}

TEST(QuantizedImport, ActivationsThatTheGridDoesNotImplyAreFused) {
  const Graph graph = parse(kHead + R"(const low float32[] = {-0.5}
const high float32[] = {1.0}
const zs uint8[] = {128}
r = Clip(c, low, high) name "clip"
qy = QuantizeLinear(r, sy, zs) name "qy"
y = DequantizeLinear(qy, sy, zs) name "dy"
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_EQ(ops_of(model), (Ops{"QuantizeLinear", "Conv", "DequantizeLinear"}));
  EXPECT_EQ(model.graph.node(1).get_string("activation", ""), "Clip");
  EXPECT_EQ(model.graph.node(1).get_float("activation_max", 0), 1.0F);
  expect_same_as_float(graph, 0.03F);
}

TEST(QuantizedImport, ActivationsBetweenTwoEqualQuantizationsAreMerged) {
  const Graph graph = parse(kHead + R"(qc = QuantizeLinear(c, sy, zx) name "qc"
dc = DequantizeLinear(qc, sy, zx) name "dc"
r = Relu(dc) name "relu"
qy = QuantizeLinear(r, sy, zx) name "qy"
y = DequantizeLinear(qy, sy, zx) name "dy"
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_EQ(ops_of(model), (Ops{"QuantizeLinear", "Conv", "DequantizeLinear"}));
  EXPECT_EQ(model.graph.node(1).get_string("activation", ""), "Relu");
  expect_same_as_float(graph, 0.03F);
}

TEST(QuantizedImport, ClipOfIntegers) {
  const Graph graph = parse(R"(input x float32[2,3]
const s float32[] = {0.1}
const z uint8[] = {7}
const low uint8[] = {5}
const high uint8[] = {20}
q = QuantizeLinear(x, s, z)
c = Clip(q, low, high) name "clip"
y = DequantizeLinear(c, s, z)
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_TRUE(layer(model, "clip").integer) << layer(model, "clip").reason;
  expect_same_as_float(graph, 0.0F);
}

// Bounds of reals, as others write them: codes of the grid where that is exact.
TEST(QuantizedImport, BoundsAgainstConstants) {
  const auto text = [](const std::string& k, const std::string& last) {
    return kHead + "const k float32[2,1,1] = {" + k + R"(}
qc = QuantizeLinear(c, sy, zy) name "qc"
dc = DequantizeLinear(qc, sy, zy) name "dc"
m = Min(dc, k) name "clip"
qy = QuantizeLinear(m, )" + last + R"() name "qy"
y = DequantizeLinear(qy, )" + last + R"() name "dy"
output y
)";
  };
  const Graph graph = parse(text("0.5, 1.25", "sy, zy"));
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_TRUE(layer(model, "clip").integer) << layer(model, "clip").reason;
  expect_same_as_float(graph, 0.03F);
  // Another grid behind it: 0.48 is 16 steps of 0.03, 0.5 none.
  EXPECT_TRUE(layer(quantized_from_onnx_graph(parse(text("0.48, 0.96", "sx, zx"))), "clip").integer);
  EXPECT_FALSE(layer(quantized_from_onnx_graph(parse(text("0.5, 0.9", "sx, zx"))), "clip").integer);
  expect_same_as_float(parse(text("0.48, 0.96", "sx, zx")), 0.03F);
  expect_same_as_float(parse(text("0.5, 0.9", "sx, zx")), 0.03F);
}

TEST(QuantizedImport, BiasesAreBroughtToTheAccumulatorsScale) {
  std::string text = kHead;
  text.replace(text.find("db = DequantizeLinear(b, sb) [axis=0] name \"db\""), 47, "const db float32[2] = {0.06, -0.08}");
  const Graph graph = parse(text + R"(qy = QuantizeLinear(c, sy, zx) name "qy"
y = DequantizeLinear(qy, sy, zx) name "dy"
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  const Node& conv = model.graph.node(1);
  ASSERT_EQ(conv.op_type, "Conv");
  EXPECT_EQ(to_int64s(*model.graph.value(conv.input(2)).constant), (std::vector<std::int64_t>{300, -200}));
  EXPECT_FALSE(layer(model, "conv").notes.empty());
  expect_same_as_float(graph, 0.03F);
}

TEST(QuantizedImport, MovesGoThroughInIntegers) {
  const Graph graph = parse(kHead + R"(const shape int64[2] = {1, -1}
t = Transpose(c) [perm=[0, 2, 3, 1]] name "transpose"
f = Reshape(t, shape) name "reshape"
qy = QuantizeLinear(f, sy, zx) name "qy"
d = DequantizeLinear(qy, sy, zx) name "dy"
y = Flatten(d) name "flatten"
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_EQ(ops_of(model), (Ops{"QuantizeLinear", "Conv", "Transpose", "Reshape", "Flatten", "DequantizeLinear"}));
  for (const char* name : {"conv", "transpose", "reshape", "flatten"}) EXPECT_TRUE(layer(model, name).integer) << name;
  expect_same_as_float(graph, 0.03F);
}

TEST(QuantizedImport, ConcatOfDifferentScalesIsRequantized) {
  const Graph graph = parse(R"(input x float32[1,4]
const s1 float32[] = {0.02}
const s2 float32[] = {0.01}
const z int8[] = {3}
qa = QuantizeLinear(x, s1, z)
a = DequantizeLinear(qa, s1, z)
qb = QuantizeLinear(x, s2, z)
b = DequantizeLinear(qb, s2, z)
c = Concat(a, b) [axis=1] name "concat"
q = QuantizeLinear(c, s1, z)
y = DequantizeLinear(q, s1, z)
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_EQ(ops_of(model), (Ops{"QuantizeLinear", "QuantizeLinear", "Requantize", "Concat", "DequantizeLinear"}));
  expect_same_as_float(graph, 0.0F);
}

TEST(QuantizedImport, SharedDequantizeAndFloatIslands) {
  const Graph graph = parse(kHead + R"(qy = QuantizeLinear(c, sy, zx) name "qy"
d = DequantizeLinear(qy, sy, zx) name "dy"
e = Softmax(d) [axis=1] name "softmax"
qe = QuantizeLinear(e, sw0, zy) name "qe"
de = DequantizeLinear(qe, sw0, zy) name "de"
m = Mul(d, de) name "mul"
qm = QuantizeLinear(m, sy, zx) name "qm"
y = DequantizeLinear(qm, sy, zx) name "dm"
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_FALSE(layer(model, "softmax").integer);
  EXPECT_FALSE(layer(model, "softmax").reason.empty());
  EXPECT_TRUE(layer(model, "mul").integer);
  EXPECT_EQ(ops_of(model), (Ops{"QuantizeLinear", "Conv", "DequantizeLinear", "Softmax", "QuantizeLinear", "Mul", "DequantizeLinear"}));
  expect_same_as_float(graph, 0.03F);
}

TEST(QuantizedImport, NodesWhoseOutputIsNotQuantizedStayFloat) {
  const Graph graph = parse(kHead + "output c\n");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_FALSE(layer(model, "conv").integer);
  EXPECT_NE(layer(model, "conv").reason.find("output"), std::string::npos);
  expect_same_as_float(graph, 1e-4F);
}

TEST(QuantizedImport, TransposedWeightsAreMovedAtOnce) {
  const Graph graph = parse(R"(input x float32[2,3]
const s float32[] = {0.02}
const z uint8[] = {100}
const w int8[2,3] = {1, 2, 3, -4, 5, -6}
const sw float32[2] = {0.5, 0.25}
const zw int8[2] splat 0
const sm float32[] = {0.2}
q = QuantizeLinear(x, s, z)
d = DequantizeLinear(q, s, z)
dw = DequantizeLinear(w, sw, zw) [axis=0]
t = Transpose(dw) [perm=[1, 0]] name "t"
m = MatMul(d, t) name "matmul"
qm = QuantizeLinear(m, sm, z)
y = DequantizeLinear(qm, sm, z)
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_EQ(ops_of(model), (Ops{"QuantizeLinear", "MatMul", "DequantizeLinear"}));
  EXPECT_EQ(model.params_of(model.graph.node(1).input(1))->granularity, Granularity(PerChannel{.axis = 1}));
  expect_same_as_float(graph, 0.2F);
}

TEST(QuantizedImport, OperatorForms) {
  const Graph graph = parse(R"(input x float32[1,2,4,4]
const sx float32[] = {0.02}
const zx uint8[] = {100}
const w int8[2,2,1,1] = {100, -50, 25, 77}
const sw float32[2] = {0.01, 0.02}
const zw int8[2] splat 0
const b int32[2] = {300, -200}
const sy float32[] = {0.03}
const sg float32[] = {0.004}
qx = QuantizeLinear(x, sx, zx)
c = QLinearConv(qx, sx, zx, w, sw, zw, sy, zx, b) name "conv"
p = MaxPool(c) [kernel_shape=[2, 2], strides=[2, 2]] name "pool"
a = com.microsoft:QLinearAdd(p, sy, zx, p, sy, zx, sy, zx) name "add"
g = com.microsoft:QLinearGlobalAveragePool(a, sy, zx, sg, zx) [channels_last=0] name "gap"
k = com.microsoft:QLinearConcat(sy, zx, g, sg, zx, g, sg, zx) [axis=1] name "concat"
y = DequantizeLinear(k, sy, zx)
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  for (const char* name : {"conv", "pool", "add", "gap", "concat"})
    EXPECT_TRUE(layer(model, name).integer) << name << layer(model, name).reason;
  for (const Node& node : model.graph.nodes()) EXPECT_NE(node.domain, "com.microsoft");
  const auto out = simulate(model, std::vector<Tensor>{random_input(graph, 3)});
  EXPECT_EQ(out[0].shape(), (Shape{1, 4, 1, 1}));
}

TEST(QuantizedImport, GemmOperatorAndMatMul) {
  const Graph graph = parse(R"(input x float32[2,3]
const s float32[] = {0.02}
const z uint8[] = {100}
const w int8[3,2] = {1, 2, 3, -4, 5, -6}
const sw float32[] = {0.5}
const zw int8[] = {1}
const c int32[2] = {50, -60}
const sm float32[] = {0.2}
const v int8[2,2] = {1, 2, 3, -4}
q = QuantizeLinear(x, s, z)
g = com.microsoft:QGemm(q, s, z, w, sw, zw, c, sm, z) [transB=0] name "gemm"
w2 = QLinearMatMul(g, sm, z, v, sw, zw, sm, z) name "matmul"
y = DequantizeLinear(w2, sm, z)
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_EQ(ops_of(model), (Ops{"QuantizeLinear", "Gemm", "MatMul", "DequantizeLinear"}));
}

TEST(QuantizedImport, FourBitWeights) {
  const Graph graph = parse_graph_text(R"(graph t
opset ai.onnx 21
input x float32[1,2,4,4]
const sx float32[] = {0.02}
const zx uint8[] = {100}
const w int4[2,2,1,1] = {7, -8, 3, 1}
const sw float32[] = {0.1}
const zw int4[] = {0}
const sy float32[] = {0.03}
qx = QuantizeLinear(x, sx, zx)
dx = DequantizeLinear(qx, sx, zx)
dw = DequantizeLinear(w, sw, zw)
c = Conv(dx, dw) name "conv"
qy = QuantizeLinear(c, sy, zx)
y = DequantizeLinear(qy, sy, zx)
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  ASSERT_TRUE(layer(model, "conv").integer);
  const ValueId weight = model.graph.node(1).input(1);
  EXPECT_EQ(model.params_of(weight)->type.bit_width, 4);
  EXPECT_EQ(model.graph.value(weight).constant->type(), DataType::kInt8);
}

TEST(QuantizedImport, WeightsQuantizedInTheGraph) {
  const Graph graph = parse(R"(input x float32[1,2]
const s float32[] = {0.5}
const z int8[] = {0}
const w float32[2,2] = {1.0, -2.0, 0.26, 0.75}
q = QuantizeLinear(x, s, z)
d = DequantizeLinear(q, s, z)
qw = QuantizeLinear(w, s, z)
dw = DequantizeLinear(qw, s, z)
m = MatMul(d, dw) name "matmul"
qm = QuantizeLinear(m, s, z)
y = DequantizeLinear(qm, s, z)
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  ASSERT_TRUE(layer(model, "matmul").integer);
  EXPECT_EQ(to_int64s(*model.graph.value(model.graph.node(1).input(1)).constant), (std::vector<std::int64_t>{2, -4, 1, 2}));
}

TEST(QuantizedImport, DynamicQuantizationStaysAsItIs) {
  const Graph graph = parse(R"(input x float32[2,3]
const w int8[3,2] = {1, 2, 3, -4, 5, -6}
q, s, z = DynamicQuantizeLinear(x) name "dynamic"
m = MatMulInteger(q, w, z) name "matmul"
f = Cast(m) [to=1] name "cast"
y = Mul(f, s) name "mul"
output y
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  EXPECT_EQ(ops_of(model), (Ops{"DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul"}));
  expect_same_as_float(graph, 0.0F);
}

TEST(QuantizedImport, IntegersReadByOthersStayAvailable) {
  const Graph graph = parse(R"(input x float32[2,3]
const s float32[] = {0.1}
const z uint8[] = {7}
q = QuantizeLinear(x, s, z)
f = Cast(q) [to=1]
d = DequantizeLinear(q, s, z)
a = Add(d, f) name "add"
output a
output q
)");
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  const auto out = simulate(model, std::vector<Tensor>{Tensor::from<float>({2, 3}, {0.1F, 0.2F, -9.0F, 99.0F, 0.0F, 0.3F})});
  EXPECT_EQ(to_doubles(out[1]), (std::vector<double>{8, 9, 0, 255, 7, 10}));
  EXPECT_NEAR(to_doubles(out[0])[0], 8.1, 1e-5);
}

TEST(QuantizedImport, BrokenParametersAreNamed) {
  const auto check = [](const std::string& scale, const std::string& zero, const char* why) {
    SCOPED_TRACE(why);
    expect_error(ErrorCode::kInvalidModel, {"'node'", why}, [&] {
      quantized_from_onnx_graph(
          parse("input x float32[2,3]\nconst s " + scale + "\nconst z " + zero +
                "\nq = QuantizeLinear(x, s, z) name \"node\"\ny = DequantizeLinear(q, s, z) name \"other\"\noutput y\n"));
    });
  };
  check("float32[] = {0}", "uint8[] = {0}", "above 0");
  check("float32[] = {-1}", "uint8[] = {0}", "above 0");
  check("float32[] = {nan}", "uint8[] = {0}", "above 0");
  check("float32[] = {inf}", "uint8[] = {0}", "above 0");
  check("float32[0] = {}", "uint8[0] = {}", "empty");
  check("float32[2] = {1, 1}", "uint8[] = {0}", "2 scales");
  check("float32[2] = {1, 1}", "uint8[2] = {0, 0}", "axis 1");
  check("float32[] = {1}", "float32[] = {0}", "zero point");
  check("int32[] = {1}", "uint8[] = {0}", "float");
}

TEST(QuantizedImport, EveryPrequantizedModelOfTheAssets) {
  namespace fs = std::filesystem;
  const std::string folder = test::assets_folder() + "/prequantized";
  if (!fs::exists(folder)) GTEST_SKIP() << "no assets at " << folder << " (set NIBBLE_ASSETS)";
  for (const auto& [name, integer_layers] : std::vector<std::pair<std::string, int>>{{"kws_dscnn_int8_qdq.onnx", 13},
                                                                                     {"mlperf_resnet8_int8_qdq.onnx", 16},
                                                                                     {"mobilenet_v2_1.0_224_ptq_perchannel_qdq.onnx", 66},
                                                                                     {"mobilenetv2_torchvision_dynamic_int8.onnx", 0},
                                                                                     {"ort/conv.int4_weights.qdq.onnx", 1},
                                                                                     {"ort/conv_qdq_s8s8_perchannel.onnx", 1},
                                                                                     {"ort/qdq_with_multi_consumer_dq_nodes.onnx", 8}}) {
    const QuantizedGraph model = quantized_from_onnx_graph(import_onnx(folder + "/" + name));
    int count = 0;
    for (const LayerInfo& info : model.layers) {
      count += info.integer ? 1 : 0;
      EXPECT_TRUE(info.integer || !info.reason.empty()) << name << " " << info.name;
    }
    EXPECT_EQ(count, integer_layers) << name;
  }
}

}  // namespace
}  // namespace nibble
