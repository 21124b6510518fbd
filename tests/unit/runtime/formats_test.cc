// Every format of weights and activations: the runtime gives the simulation's bits, and so does what is read back from the file.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "nibble/onnx.h"
#include "numeric/requantize.h"
#include "quantize/node_arithmetic.h"
#include "support/quantized.h"
#include "unit/runtime/agreement.h"

namespace nibble {
namespace {

// Weights are drawn: equal ones would hide mistakes of order.
Graph graph_of(const std::string& text, std::uint64_t seed) {
  Graph graph = parse_graph_text(text);
  GraphEditor editor(graph);
  std::mt19937_64 random(seed);
  for (ValueId v = 0; v < static_cast<ValueId>(graph.values().size()); ++v) {
    const Value& value = graph.value(v);
    if (!value.constant || value.name.find("draw") == std::string::npos) continue;
    Tensor tensor = *value.constant;
    for (float& x : tensor.mutable_data<float>()) x = static_cast<float>(random() >> 40) * 0x1p-23F - 1.0F;
    editor.set_constant(v, tensor);
  }
  editor.finish();
  return graph;
}

struct Network {
  const char* name;
  const char* text;
};

// Each operator that computes, arithmetic between them, a table, what moves values, an island.
const Network kNetworks[] = {
    {"convolutions", R"(graph g
opset ai.onnx 13
input x float32[batch,3,9,8]
const w1_draw float32[40,3,3,3] splat 0
const b1_draw float32[40] splat 0
const w2_draw float32[40,1,3,3] splat 0
const b2_draw float32[40] splat 0
const w3_draw float32[37,40,1,1] splat 0
const w4_draw float32[37,37,3,3] splat 0
const w5_draw float32[10,37] splat 0
const b5_draw float32[10] splat 0
const lo float32[] = {0.0}
const hi float32[] = {1.5}
a = Conv(x, w1_draw, b1_draw) [pads=[1, 1, 1, 1], strides=[2, 1]] name "first"
r = Relu(a)
d = Conv(r, w2_draw, b2_draw) [group=40, pads=[1, 1, 1, 1]] name "depthwise"
c = Clip(d, lo, hi)
e = Conv(c, w3_draw) name "pointwise"
f = Conv(e, w4_draw) [pads=[1, 1, 1, 1]] name "square"
s = Add(e, f)
t = HardSigmoid(s)
m = Mul(s, t)
p = MaxPool(m) [kernel_shape=[2, 2], strides=[2, 2]]
g = GlobalAveragePool(p)
l = Flatten(g)
y = Gemm(l, w5_draw, b5_draw) [transB=1] name "last"
z = Softmax(y)
output z)"},
    {"matrices", R"(graph g
opset ai.onnx 13
input x float32[batch,7,48]
const w1_draw float32[48,40] splat 0
const w2_draw float32[40,33] splat 0
const b2_draw float32[33] splat 0
const w3_draw float32[33,5] splat 0
const shape int64[2] = {-1, 40}
a = MatMul(x, w1_draw) name "first"
t = Transpose(a) [perm=[0, 2, 1]]
q = MatMul(a, t) name "square"
k = MatMul(q, a) name "mixed"
r = Reshape(k, shape)
h = Gemm(r, w2_draw, b2_draw) name "gemm"
v = Tanh(h)
y = MatMul(v, w3_draw) name "last"
output y)"},
    {"bounds", R"(graph g
opset ai.onnx 13
input x float32[batch,3,5,4]
const w1_draw float32[20,3,1,1] splat 0
const w2_draw float32[20,20,1,1] splat 0
const k1_draw float32[1,20,1,1] splat 0
const k2_draw float32[4] splat 0
a = Conv(x, w1_draw) name "one"
b = Min(a, k1_draw) name "clip"
c = Conv(b, w2_draw) name "two"
d = Max(k2_draw, c) name "floor"
y = GlobalAveragePool(d)
output y)"},
    {"transposed", R"(graph g
opset ai.onnx 13
input x float32[batch,20,5,4]
const w1_draw float32[20,18,2,2] splat 0
const b1_draw float32[18] splat 0
const w2_draw float32[18,3,2,2] splat 0
const scales float32[4] = {1, 1, 2, 2}
a = ConvTranspose(x, w1_draw, b1_draw) [strides=[2, 2]] name "one"
r = LeakyRelu(a)
b = ConvTranspose(r, w2_draw) [group=2] name "grouped"
u = Resize(b, _, scales) [mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"]
c = Concat(u, u) [axis=1]
y = AveragePool(c) [kernel_shape=[3, 3], pads=[1, 1, 1, 1]]
output y)"},
};

struct Format {
  std::string name;
  QuantScheme scheme;
};

std::ostream& operator<<(std::ostream& out, const Format& f) { return out << f.name; }

Format format(std::string name, const std::function<void(QuantScheme&)>& change) {
  Format result{std::move(name), {}};
  change(result.scheme);
  return result;
}

std::vector<Format> formats() {
  std::vector<Format> result;
  for (const int bits : {2, 3, 4, 5, 6, 7}) {
    const std::string w = "weights" + std::to_string(bits);
    result.push_back(format(w + "_channel", [&](QuantScheme& s) { s.defaults.weights.type.bit_width = bits; }));
    result.push_back(format(w + "_tensor_affine", [&](QuantScheme& s) {
      s.defaults.weights = {.type = {.bit_width = bits, .is_signed = false}, .symmetric = false, .per_channel = false};
    }));
  }
  for (const int bits : {4, 5, 6, 7}) {
    result.push_back(format("activations" + std::to_string(bits), [&](QuantScheme& s) {
      s.defaults.activations.type.bit_width = bits;
      s.defaults.weights.type.bit_width = bits;
    }));
    result.push_back(format("activations" + std::to_string(bits) + "_signed", [&](QuantScheme& s) {
      s.defaults.activations = {.type = {.bit_width = bits, .is_signed = true}, .symmetric = true};
      s.law = RequantizeLaw::kFixedPoint;
    }));
  }
  result.push_back(format("first_last_8", [](QuantScheme& s) {
    s.defaults.weights.type.bit_width = 3;
    s.defaults.activations.type.bit_width = 5;
    s.first_last = FirstLastPolicy::k8Bit;
  }));
  result.push_back(format("first_last_float", [](QuantScheme& s) {
    s.defaults.weights.type.bit_width = 4;
    s.first_last = FirstLastPolicy::kFloat;
  }));
  for (const int bits : {4, 8}) {
    result.push_back(format("shift" + std::to_string(bits), [&](QuantScheme& s) {
      s.defaults.weights.type.bit_width = bits;
      s.law = RequantizeLaw::kShift;
    }));
  }
  result.push_back(format("shift_symmetric", [](QuantScheme& s) {
    s.defaults.activations = {.type = {.bit_width = 8, .is_signed = true}, .symmetric = true};
    s.defaults.weights = {.type = {.bit_width = 8, .is_signed = false}, .symmetric = false, .per_channel = true};
    s.law = RequantizeLaw::kShift;
  }));
  // Blocks, for integer layers and for weights alone; small ones, so that each layer has several.
  for (const int bits : {2, 3, 4, 5, 6}) {
    for (const bool affine : {false, true}) {
      for (const NodeForm form : {NodeForm::kInteger, NodeForm::kWeightOnly}) {
        result.push_back(format("blocks" + std::to_string(bits) + (affine ? "_affine" : "") + (form == NodeForm::kWeightOnly ? "_weight_only" : ""),
                                [&](QuantScheme& s) {
                                  s.defaults.form = form;
                                  s.defaults.weights = {.type = {.bit_width = bits, .is_signed = !affine, .narrow_range = !affine},
                                                        .symmetric = !affine,
                                                        .per_channel = true,
                                                        .block_size = 16};
                                  s.law = bits == 3 ? RequantizeLaw::kFixedPoint : bits == 5 ? RequantizeLaw::kShift : RequantizeLaw::kFloat32;
                                }));
      }
    }
  }
  for (const int weights : {4, 8, 16}) {
    for (const int activations : {8, 16}) {
      if (weights < 16 && activations < 16) continue;
      for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint, RequantizeLaw::kShift}) {
        result.push_back(format("w" + std::to_string(weights) + "a" + std::to_string(activations) + "_" + to_string(law), [&](QuantScheme& s) {
          s.defaults.weights.type.bit_width = weights;
          s.defaults.activations.type = {.bit_width = activations, .is_signed = law == RequantizeLaw::kShift};
          s.defaults.activations.symmetric = law == RequantizeLaw::kShift;
          s.law = law;
        }));
      }
    }
  }
  result.push_back(format("w8a16_first_last_8", [](QuantScheme& s) {
    s.defaults.activations.type.bit_width = 16;
    s.first_last = FirstLastPolicy::k8Bit;
  }));
  result.push_back(format("w16_tensor_affine", [](QuantScheme& s) {
    s.defaults.weights = {.type = {.bit_width = 16, .is_signed = false}, .symmetric = false, .per_channel = false};
  }));
  for (const int bits : {2, 3, 4, 6}) {
    for (const Codebook codebook : {Codebook::kKMeans, Codebook::kPowersOfTwo}) {
      if (codebook == Codebook::kPowersOfTwo && bits > 4) continue;
      const std::string name = (codebook == Codebook::kKMeans ? "kmeans" : "powers_of_two") + std::to_string(bits);
      const auto change = [&](QuantScheme& s) {
        s.defaults.weights.type.bit_width = bits;
        s.defaults.weights.codebook = codebook;
        s.law = bits == 3 ? RequantizeLaw::kShift : RequantizeLaw::kFloat32;
      };
      result.push_back(format(name, change));
      result.push_back(format(name + "_weight_only", [&](QuantScheme& s) {
        change(s);
        s.defaults.form = NodeForm::kWeightOnly;
      }));
    }
  }
  for (const auto& [name, form] : {std::pair("weight_only", NodeForm::kWeightOnly), std::pair("dynamic", NodeForm::kDynamic),
                                   std::pair("float16", NodeForm::kFloat16), std::pair("bfloat16", NodeForm::kBFloat16)})
    result.push_back(format(name, [&](QuantScheme& s) { s.defaults.form = form; }));
  result.push_back(format("weight_only_tensor_affine", [](QuantScheme& s) {
    s.defaults.form = NodeForm::kWeightOnly;
    s.defaults.weights = {.type = {.bit_width = 4, .is_signed = false}, .symmetric = false, .per_channel = false};
  }));
  result.push_back(format("dynamic_tensor4", [](QuantScheme& s) {
    s.defaults.form = NodeForm::kDynamic;
    s.defaults.weights.type.bit_width = 4;
    s.defaults.weights.per_channel = false;
  }));
  result.push_back(format("mixed", [](QuantScheme& s) {
    const auto rule = [&](const char* node, NodeForm form, int bits, std::int64_t block) {
      NodeRule r;
      r.node_regex = node;
      r.form = form;
      r.weights = s.defaults.weights;
      r.weights->type.bit_width = bits;
      r.weights->block_size = block;
      s.rules.push_back(r);
    };
    rule("first|one", NodeForm::kWeightOnly, 6, 0);
    rule("pointwise|gemm", NodeForm::kInteger, 4, 16);
    rule("square", NodeForm::kFloat16, 8, 0);
    rule("last", NodeForm::kDynamic, 8, 0);
  }));
  return result;
}

class EveryFormat : public testing::TestWithParam<Format> {};

TEST_P(EveryFormat, RuntimeAndFileGiveTheSimulationsBits) {
  for (const Network& network : kNetworks) {
    SCOPED_TRACE(network.name);
    const QuantizedGraph model = test::quantize_on_random(graph_of(network.text, 11), GetParam().scheme);
    const auto inputs = test::random_inputs(model.graph, 5, -1.2F, 1.2F, 2);
    test::expect_agreement(model, inputs, 2);
    if (testing::Test::HasFailure()) return;
    const auto expected = simulate(model, inputs);
    for (const auto& [form, weights] : {std::pair(QuantFormat::kQdq, WeightStorage::kStandard), std::pair(QuantFormat::kQOperator, WeightStorage::kStandard),
                                        std::pair(QuantFormat::kQdq, WeightStorage::kPacked)}) {
      SCOPED_TRACE(std::string(form == QuantFormat::kQdq ? "qdq" : "qoperator") + (weights == WeightStorage::kPacked ? " packed" : ""));
      const QuantizedGraph read = quantized_from_onnx_graph(export_graph(model, {.format = form, .metadata = {}, .weights = weights}));
      const auto integers = [](const QuantizedGraph& m) {
        return std::count_if(m.layers.begin(), m.layers.end(), [](const LayerInfo& l) { return l.integer; });
      };
      EXPECT_EQ(integers(read), integers(model)) << print_graph(read.graph);
      const auto again = Session(lower(QuantizedGraph(read))).run(inputs);
      ASSERT_EQ(again.size(), expected.size());
      for (std::size_t i = 0; i < again.size(); ++i) EXPECT_TRUE(bit_equal(again[i], expected[i])) << "output " << i;
    }
  }
}

// A real network, by way of a real file.
TEST_P(EveryFormat, AnAssetKeepsItsBits) {
  const char* folder = std::getenv("NIBBLE_ASSETS");
  const auto path = (folder != nullptr ? std::filesystem::path(folder) : std::filesystem::path(NIBBLE_SOURCE_DIR) / "../shared/assets") / "models/kws_dscnn.onnx";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here: set NIBBLE_ASSETS";
  const QuantizedGraph model = test::quantize_on_random(import_onnx(path.string()), GetParam().scheme, 1, 0.0F, 1.0F);
  const auto inputs = test::random_inputs(model.graph, 7, 0.0F, 1.0F);
  const auto expected = simulate(model, inputs);
  const auto file = std::filesystem::temp_directory_path() / ("nibble_format_" + GetParam().name + "_" + std::to_string(::getpid()) + ".onnx");
  for (const WeightStorage weights : {WeightStorage::kStandard, WeightStorage::kPacked}) {
    export_onnx(model, file.string(), {.format = QuantFormat::kQdq, .metadata = {}, .weights = weights});
    const Graph read = import_onnx(file.string());
    std::filesystem::remove(file);
    const auto outputs = Session(lower(quantized_from_onnx_graph(read))).run(inputs);
    ASSERT_EQ(outputs.size(), expected.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) EXPECT_TRUE(bit_equal(outputs[i], expected[i])) << "output " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryFormat, testing::ValuesIn(formats()), [](const auto& p) { return p.param.name; });

// Under law shift every scale is a power of two, and so is every multiplier.
TEST(LawShift, ScalesArePowersOfTwo) {
  QuantScheme scheme;
  scheme.law = RequantizeLaw::kShift;
  for (const Network& network : kNetworks) {
    const QuantizedGraph model = test::quantize_on_random(graph_of(network.text, 11), scheme);
    for (const auto& params : model.params) {
      if (!params) continue;
      for (const float scale : params->scale) {
        int exponent = 0;
        ASSERT_EQ(std::frexp(scale, &exponent), 0.5F) << scale;
      }
    }
    for (const Node& node : model.graph.nodes()) {
      if (node.op_type != "Conv" || model.params_of(node.output(0)) == nullptr) continue;
      for (const Requantizer& r : compute_requantizers(model, node)) EXPECT_EQ(r.law, RequantizeLaw::kShift);
    }
  }
}

TEST(FirstLast, EightBitsReachTheirInputs) {
  QuantScheme scheme;
  scheme.defaults.weights.type.bit_width = 3;
  scheme.defaults.activations.type.bit_width = 5;
  scheme.first_last = FirstLastPolicy::k8Bit;
  const QuantizedGraph model = test::quantize_on_random(graph_of(kNetworks[0].text, 11), scheme);
  for (const Node& node : model.graph.nodes()) {
    if (node.op_type != "Conv" && node.op_type != "Gemm") continue;
    const bool edge = node.name == "first" || node.name == "last";
    EXPECT_EQ(model.params_of(node.input(1))->type.bit_width, edge ? 8 : 3) << node.name;
    if (edge) {
      EXPECT_EQ(model.params_of(node.input(0))->type.bit_width, 8) << node.name;
    }
  }
}

}  // namespace
}  // namespace nibble
