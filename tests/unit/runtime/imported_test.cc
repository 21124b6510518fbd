// Quantized graphs of other tools through the runtime: it equals the simulation to the bit, and the graph's own words (the float
// interpreter on Q/DQ nodes) within one step of the output.
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "nibble/error.h"
#include "nibble/interpreter.h"
#include "nibble/onnx.h"
#include "unit/runtime/agreement.h"

namespace nibble {
namespace {

struct Imported {
  const char* name;
  int opset;
  double step;  // of the outputs, in their own units
  const char* text;
};
std::ostream& operator<<(std::ostream& out, const Imported& imported) { return out << imported.name; }

// What most of the texts share: two grids, weights on a grid for each channel, and x on the first grid.
const std::string kHead = R"(input x float32[2,2,4,4]
const sx float32[] = {0.02}
const zx uint8[] = {100}
const sy float32[] = {0.05}
const zy uint8[] = {120}
const w int8[3,2,1,1] = {10, -20, 30, 40, -127, 90}
const sw float32[3] = {0.01, 0.02, 0.005}
const zw int8[3] = {0, 0, 0}
wf = DequantizeLinear(w, sw, zw) [axis=0]
)";
const std::string kQuantized = kHead + "xq = QuantizeLinear(x, sx, zx)\nxf = DequantizeLinear(xq, sx, zx)\n";

Graph graph_of(const Imported& imported) {
  std::string text = imported.text;
  if (text.starts_with("QUANTIZED"))
    text = kQuantized + text.substr(10);
  else if (text.starts_with("HEAD"))
    text = kHead + text.substr(5);
  return parse_graph_text("graph g\nopset ai.onnx " + std::to_string(imported.opset) + "\nopset com.microsoft 1\n" + text);
}

std::vector<Tensor> drawn_inputs(const Graph& graph, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Tensor> inputs;
  for (const ValueId id : graph.inputs()) {
    const TensorType& type = graph.value(id).type;
    Tensor wide(DataType::kFloat32, type.shape());
    std::uniform_real_distribution<float> reals(-2.0F, 2.0F);
    std::uniform_int_distribution<int> codes(type.dtype == DataType::kUInt8 || type.dtype == DataType::kUInt16 ? 0 : -128,
                                             type.dtype == DataType::kUInt8 ? 255 : 127);
    for (float& v : wide.mutable_data<float>()) v = is_float(type.dtype) ? reals(random) : static_cast<float>(codes(random));
    inputs.push_back(cast(wide, type.dtype));
  }
  return inputs;
}

const Imported kImported[] = {
    {"unsigned_in_and_out", 13, 1, R"(input q uint8[2,2,4,4]
const sx float32[] = {0.02}
const zx uint8[] = {100}
const w int8[3,2,1,1] = {10, -20, 30, 40, -127, 90}
const sw float32[] = {0.01}
xf = DequantizeLinear(q, sx, zx)
wf = DequantizeLinear(w, sw)
y = Conv(xf, wf)
yq = QuantizeLinear(y, sx, zx)
output yq)"},
    {"signed_in_and_out", 13, 1, R"(input q int8[2,2,4,4]
const sx float32[] = {0.02}
const zx int8[] = {-3}
const w int8[3,2,1,1] = {10, -20, 30, 40, -127, 90}
const sw float32[] = {0.01}
xf = DequantizeLinear(q, sx, zx)
wf = DequantizeLinear(w, sw)
y = Conv(xf, wf)
yq = QuantizeLinear(y, sx, zx)
yf = DequantizeLinear(yq, sx, zx)
m = MaxPool(yf) [kernel_shape=[2, 2]]
mq = QuantizeLinear(m, sx, zx)
output yq
output mq)"},
    {"input_pooled_as_integers", 13, 1, R"(input q uint8[2,2,4,4]
const sx float32[] = {0.02}
const zx uint8[] = {100}
const w int8[3,2,1,1] = {10, -20, 30, 40, -127, 90}
const sw float32[] = {0.01}
const zw int8[] = {0}
p = MaxPool(q) [kernel_shape=[2, 2]]
y = QLinearConv(p, sx, zx, w, sw, zw, sx, zx)
output y
output q)"},
    {"input_under_two_grids", 13, 0.02, R"(input q uint8[2,2,4,4]
const sa float32[] = {0.02}
const sb float32[] = {0.03}
const z uint8[] = {100}
a = DequantizeLinear(q, sa, z)
b = DequantizeLinear(q, sb, z)
y = Add(a, b)
yq = QuantizeLinear(y, sa, z)
yf = DequantizeLinear(yq, sa, z)
output yf)"},
    {"integers_also_as_numbers", 13, 0.05,
     "QUANTIZED\ny = Conv(xf, wf)\nyq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\n"
     "n = Cast(yq) [to=1]\ns = Add(n, yf)\noutput s\noutput yq"},
    {"constant_of_an_island", 13, 0.05,
     "QUANTIZED\nconst c int8[3,1,1] = {5, -7, 100}\nconst sc float32[] = {0.1}\ncf = DequantizeLinear(c, sc)\n"
     "y = Conv(xf, wf)\nyq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\ns = PRelu(yf, cf)\noutput s"},
    {"constant_island_alone", 13, 0.05,
     "QUANTIZED\nconst c int32[3,1,1] = {5, 70000, 100}\nconst sc float32[3] = {0.1, 0.0001, 0.01}\n"
     "cf = DequantizeLinear(c, sc) [axis=0]\ncs = Sqrt(cf)\ny = Conv(xf, wf)\nyq = QuantizeLinear(y, sy, zy)\n"
     "yf = DequantizeLinear(yq, sy, zy)\ns = Sub(yf, cs)\noutput s\noutput cf"},
    {"constant_to_integers_again", 13, 0.05,
     "QUANTIZED\nconst c int8[3,1,1] = {5, -7, 100}\nconst sc float32[3] = {0.1, 0.02, 0.01}\n"
     "cf = DequantizeLinear(c, sc) [axis=0]\ncq = QuantizeLinear(cf, sx, zx)\ncr = DequantizeLinear(cq, sx, zx)\n"
     "y = Conv(xf, wf)\nyq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\n"
     "s = Add(yf, cr)\nsq = QuantizeLinear(s, sy, zy)\nsf = DequantizeLinear(sq, sy, zy)\noutput sf"},
    {"concat_of_channel_constant", 13, 0.05,
     "QUANTIZED\nconst c int8[2,2,4,4] splat 77\nconst sc float32[2] = {0.01, 0.03}\n"
     "cf = DequantizeLinear(c, sc) [axis=1]\ny = Concat(xf, cf) [axis=1]\n"
     "yq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\noutput yf"},
    {"concat_of_wide_constant", 13, 0.05,
     "QUANTIZED\nconst c int32[2,2,4,4] splat 7700\nconst sc float32[] = {0.0001}\ncf = DequantizeLinear(c, sc)\n"
     "y = Concat(xf, cf) [axis=1]\nyq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\noutput yf"},
    {"concat_of_constant_on_another_grid", 13, 0.05,
     "QUANTIZED\nconst c int8[2,2,4,4] splat 77\nconst sc float32[] = {0.01}\ncf = DequantizeLinear(c, sc)\n"
     "y = Concat(xf, cf) [axis=1]\nyq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\noutput yf"},
    {"weights_alone", 13, 1e-5, "HEAD\ny = Conv(x, wf)\noutput y"},
    {"weights_alone_transposed", 13, 1e-5,
     "HEAD\nconst v int8[3,4] = {1, 2, 3, 4, 5, 6, 7, 8, 9, -10, 11, 12}\nvf = DequantizeLinear(v, sw, zw) [axis=0]\n"
     "vt = Transpose(vf)\ny = MatMul(x, vt)\noutput y"},
    {"weights_in_blocks", 21, 1e-4,
     "HEAD\nconst v int4[4,3] = {1, 2, 3, 4, 5, 6, 7, -8, -7, -6, 5, 4}\nconst sv float32[2,3] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}\n"
     "vf = DequantizeLinear(v, sv) [axis=0, block_size=2]\ny = MatMul(x, vf)\noutput y"},
    {"sixteen_bits", 21, 0.001, R"(input x float32[2,2,4,4]
const sx float32[] = {0.0001}
const zx uint16[] = {30000}
const w int8[3,2,1,1] = {10, -20, 30, 40, -127, 90}
const sw float32[] = {0.01}
xq = QuantizeLinear(x, sx, zx)
xf = DequantizeLinear(xq, sx, zx)
wf = DequantizeLinear(w, sw)
y = Conv(xf, wf)
yq = QuantizeLinear(y, sx, zx)
yf = DequantizeLinear(yq, sx, zx)
t = Transpose(yf)
tq = QuantizeLinear(t, sx, zx)
tf = DequantizeLinear(tq, sx, zx)
output tf)"},
    {"sixteen_bits_in_and_out", 21, 1, R"(input q int16[2,2,4,4]
const sx float32[] = {0.0001}
const zx int16[] = {3}
xf = DequantizeLinear(q, sx, zx)
r = Relu(xf)
yq = QuantizeLinear(r, sx, zx)
output yq)"},
    {"eight_and_sixteen_bits", 21, 0.05,
     "QUANTIZED\nconst s16 float32[] = {0.0002}\nconst z16 int16[] = {-5}\ny = Conv(xf, wf)\nyq = QuantizeLinear(y, s16, z16)\n"
     "yf = DequantizeLinear(yq, s16, z16)\nzq = QuantizeLinear(yf, sy, zy)\nzf = DequantizeLinear(zq, sy, zy)\noutput zf"},
    {"half_floats", 19, 0.06, R"(input x float16[2,2,4,4]
const sx float16[] = {0.02}
const zx uint8[] = {100}
const w float16[3,2,1,1] = {0.1, -0.2, 0.3, 0.4, -1.27, 0.9}
xq = QuantizeLinear(x, sx, zx)
xf = DequantizeLinear(xq, sx, zx)
y = Conv(xf, w)
yq = QuantizeLinear(y, sx, zx)
yf = DequantizeLinear(yq, sx, zx)
output yf)"},
    {"one_value_many_outputs", 13, 1,
     "QUANTIZED\ny = Conv(xf, wf)\nr = Relu(y)\na = QuantizeLinear(r, sy, zy)\nb = QuantizeLinear(r, sy, zy)\n"
     "c = DequantizeLinear(a, sy, zy)\nd = DequantizeLinear(a, sy, zy)\ne = Sigmoid(c)\noutput a\noutput b\noutput c\noutput d\noutput e"},
    {"input_straight_out", 13, 1, "HEAD\nxq = QuantizeLinear(x, sx, zx)\ny = Conv(x, wf)\noutput xq\noutput x\noutput y"},
    {"bounds_from_integers", 13, 0.05,
     "QUANTIZED\nconst c int8[] = {20}\nconst sc float32[] = {0.05}\nhi = DequantizeLinear(c, sc)\ny = Conv(xf, wf)\n"
     "k = Clip(y, _, hi)\nyq = QuantizeLinear(k, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\noutput yf"},
    {"type_by_attribute", 21, 0.05, R"(input x float32[2,2,4,4]
const sx float32[] = {0.02}
const w int8[3,2,1,1] = {10, -20, 30, 40, -127, 90}
const sw float32[] = {0.01}
xq = QuantizeLinear(x, sx) [output_dtype=3]
xf = DequantizeLinear(xq, sx)
wf = DequantizeLinear(w, sw)
y = Conv(xf, wf)
yq = QuantizeLinear(y, sx) [output_dtype=3]
yf = DequantizeLinear(yq, sx)
output yf)"},
    {"shape_of_integers", 13, 0.05,
     "QUANTIZED\ny = Conv(xf, wf)\nyq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\ns = Shape(yq)\n"
     "g = GlobalAveragePool(yf)\ne = Expand(g, s)\neq = QuantizeLinear(e, sy, zy)\nef = DequantizeLinear(eq, sy, zy)\noutput ef"},
    {"dynamic", 13, 1e-4, R"(input x float32[3,4]
const w int8[4,2] = {10, -20, 30, 40, -127, 90, 1, 2}
const s float32[] = {0.01}
q, sc, z = DynamicQuantizeLinear(x)
a = MatMulInteger(q, w, z)
f = Cast(a) [to=1]
m = Mul(sc, s)
y = Mul(f, m)
output y)"},
    {"pad_with_a_value_off_the_grid", 13, 0.02,
     "QUANTIZED\nconst p int64[8] = {0, 0, 1, 0, 0, 0, 1, 1}\nconst v float32[] = {-9.0}\ny = Pad(xf, p, v)\n"
     "yq = QuantizeLinear(y, sx, zx)\nyf = DequantizeLinear(yq, sx, zx)\noutput yf"},
    {"resize_between_grids", 13, 0.05,
     "QUANTIZED\nconst s float32[4] = {1, 1, 2, 2}\n"
     "y = Resize(xf, _, s) [mode=\"nearest\", nearest_mode=\"floor\", coordinate_transformation_mode=\"asymmetric\"]\n"
     "yq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\noutput yf"},
    {"pool_between_grids", 13, 0.05,
     "QUANTIZED\ny = MaxPool(xf) [kernel_shape=[2, 2]]\nyq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\noutput yf"},
    {"split_of_integers", 13, 0.05,
     "HEAD\nxq = QuantizeLinear(x, sx, zx)\na, b = Split(xq) [axis=1]\nn = Cast(a) [to=1]\nf = DequantizeLinear(b, sx, zx)\n"
     "t = Transpose(b)\ntf = DequantizeLinear(t, sx, zx)\noutput n\noutput f\noutput tf"},
    {"concat_of_integers", 13, 1,
     "HEAD\nconst z0 uint8[] = {0}\nxq = QuantizeLinear(x, sx)\nyq = QuantizeLinear(x, sx, z0)\nc = Concat(xq, yq) [axis=1]\nn = Cast(c) "
     "[to=1]\n"
     "f = DequantizeLinear(c, sx)\noutput n\noutput f"},
    {"flatten_dense", 13, 0.05,
     "QUANTIZED\nconst v int8[32,3] splat 3\nvf = DequantizeLinear(v, sw, zw) [axis=1]\nconst b int32[3] = {100, -100, 7}\n"
     "const sb float32[3] = {0.0002, 0.0004, 0.0001}\nbf = DequantizeLinear(b, sb) [axis=0]\nf = Flatten(xf)\n"
     "y = Gemm(f, vf, bf)\nyq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\noutput yf"},
};

class ImportedGraph : public testing::TestWithParam<Imported> {};

TEST_P(ImportedGraph, RunsAsItsNodesSay) {
  const Graph graph = graph_of(GetParam());
  const QuantizedGraph model = quantized_from_onnx_graph(graph);
  Interpreter interpreter(graph, {.threads = 1, .mode = ExecMode::kFixedOrder});
  for (unsigned seed = 1; seed <= 3; ++seed) {
    const std::vector<Tensor> inputs = drawn_inputs(graph, seed);
    test::expect_agreement(model, inputs, 2);
    const auto want = interpreter.run(inputs);
    const auto have = Session(lower(QuantizedGraph(model))).run(inputs);
    ASSERT_EQ(want.size(), have.size());
    for (std::size_t o = 0; o < want.size(); ++o) {
      ASSERT_EQ(to_string(make_type(want[o].type(), want[o].shape())), to_string(make_type(have[o].type(), have[o].shape())))
          << "output " << o;
      const auto a = to_doubles(want[o]);
      const auto b = to_doubles(have[o]);
      for (std::size_t i = 0; i < a.size(); ++i)
        ASSERT_NEAR(a[i], b[i], GetParam().step * 1.001) << "output " << o << " element " << i << " seed " << seed;
    }
  }
}

// The type of integers that no zero point tells is known from the node that makes them: they are no island.
TEST(ImportedGraph, TypeByAttributeIsAGrid) {
  for (const Imported& imported : kImported) {
    if (std::string_view(imported.name) != "type_by_attribute") continue;
    const QuantizedGraph model = quantized_from_onnx_graph(graph_of(imported));
    for (const LayerInfo& layer : model.layers) EXPECT_TRUE(layer.integer) << layer.name << ": " << layer.reason;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ImportedGraph, testing::ValuesIn(kImported), [](const auto& test) { return std::string(test.param.name); });

// Attributes that would divide by zero or read outside of the weights, in nodes that are packed before any shape is known.
TEST(ImportedGraph, DamagedNodesAreNamed) {
  const auto message = [](const std::string& node) -> std::string {
    const std::string text = kQuantized + node + "\nyq = QuantizeLinear(y, sy, zy)\nyf = DequantizeLinear(yq, sy, zy)\noutput yf";
    try {
      const QuantizedGraph model = quantized_from_onnx_graph(parse_graph_text("graph g\nopset ai.onnx 13\n" + text));
      Session session(lower(QuantizedGraph(model)));
      session.run(drawn_inputs(model.graph, 1));
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  for (const char* op : {"Conv", "ConvTranspose"}) {
    for (const char* attributes :
         {"group=0", "group=-1", "group=7", "strides=[0, 1]", "strides=[1]", "strides=[1, 1, 1]", "dilations=[0, 0]", "dilations=[-1, 1]",
          "pads=[1]", "pads=[-9, 0, 0, 0]", "kernel_shape=[3, 3]", "dilations=[9223372036854775807, 1]", "strides=[4611686018427387904, 1]",
          "pads=[9223372036854775807, 0, 9223372036854775807, 0]", "auto_pad=\"ODD\""}) {
      const std::string said = message("y = " + std::string(op) + "(xf, wf) [" + attributes + "]");
      if (said == "no error") continue;  // some are only unusual
      EXPECT_NE(said.find(op), std::string::npos) << op << " " << attributes << ": " << said;
    }
  }
  EXPECT_NE(message("y = Conv(xf, wf) [group=0]"), "no error");
  EXPECT_NE(message("y = ConvTranspose(xf, wf) [group=0]"), "no error");
  EXPECT_NE(message("y = Conv(xf, wf) [strides=[0, 1]]"), "no error");
  EXPECT_NE(message("y = MaxPool(xf) [kernel_shape=[0, 1]]"), "no error");
  EXPECT_NE(message("y = AveragePool(xf) [kernel_shape=[2, 2], strides=[0, 1]]"), "no error");
  EXPECT_NE(message("const empty float32[0] splat 0\nconst p int64[8] splat 0\ny = Pad(xf, p, empty)"), "no error");
  EXPECT_NE(message("const axes int64[1] = {9}\ny = Squeeze(xf, axes)"), "no error");
  EXPECT_NE(message("y = ReduceMean(xf) [axes=[7]]"), "no error");
  EXPECT_NE(message("y = Transpose(xf) [perm=[0, 0, 1, 2]]"), "no error");
  EXPECT_NE(message("y = Concat(xf, xf) [axis=5]"), "no error");
}

}  // namespace
}  // namespace nibble
