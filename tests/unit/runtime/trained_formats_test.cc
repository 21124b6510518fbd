// Grids as training leaves them (docs/formats.md, "Trained grids"): the runtime gives the simulation's bits, and so does what is read back from the file.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>

#include "nibble/error.h"
#include "nibble/onnx.h"
#include "numeric/quantize.h"
#include "ops/base_products.h"
#include "unit/runtime/agreement.h"
#include "unit/runtime/trained_grids.h"

namespace nibble {
namespace {

using test::TrainedBase;
using test::TrainedWeights;

const char* const kResidual = R"(graph g
opset ai.onnx 13
input x float32[batch,3,9,8]
const w1 float32[20,3,3,3] splat 0
const b1 float32[20] = {0.1, -0.2, 0.3, 0.05, -0.4, 0.01, 0.7, 0, -0.1, 0.2, 0.1, -0.2, 0.3, 0.05, -0.4, 0.01, 0.7, 0, -0.1, 0.2}
const w2 float32[20,1,3,3] splat 0
const b2 float32[20] = {0.3, 0.1, -0.2, 0.05, -0.4, 0.01, 0.7, 0, -0.1, 0.2, 0.1, -0.2, 0.3, 0.05, -0.4, 0.01, 0.7, 0, -0.1, 0.2}
const w3 float32[20,20,1,1] splat 0
const w4 float32[20,5,3,3] splat 0
const w5 float32[10,20] splat 0
const b5 float32[10] = {0.3, 0.1, -0.2, 0.05, -0.4, 0.01, 0.7, 0, -0.1, 0.2}
a = Conv(x, w1, b1) [pads=[1, 1, 1, 1], strides=[2, 1]] name "first"
r = Relu(a)
d = Conv(r, w2, b2) [group=20, pads=[1, 1, 1, 1]] name "depthwise"
c = Relu(d)
e = Conv(c, w3) name "pointwise"
f = Conv(e, w4) [group=4, pads=[1, 1, 1, 1]] name "groups"
s = Add(e, f)
t = Relu(s)
p = MaxPool(t) [kernel_shape=[2, 2], strides=[2, 2]]
g = GlobalAveragePool(p)
l = Flatten(g)
y = Gemm(l, w5, b5) [transB=1] name "last"
output y)";

const char* const kMatrices = R"(graph g
opset ai.onnx 13
input x float32[batch,7,48]
const w1 float32[48,40] splat 0
const w2 float32[40,33] splat 0
const b2 float32[33] splat 0.25
const shape int64[2] = {-1, 40}
a = MatMul(x, w1) name "first"
r = Reshape(a, shape)
y = Gemm(r, w2, b2) name "gemm"
output y)";

const char* const kTransposed = R"(graph g
opset ai.onnx 13
input x float32[batch,6,5,4]
const w1 float32[6,8,2,2] splat 0
const b1 float32[8] splat 0.125
const w2 float32[8,3,2,2] splat 0
a = ConvTranspose(x, w1, b1) [strides=[2, 2]] name "one"
r = Relu(a)
y = ConvTranspose(r, w2) [group=2] name "grouped"
output y)";

std::vector<int> every(int from, int to, int step = 1) {
  std::vector<int> codes;
  for (int q = from; q <= to; q += step) codes.push_back(q);
  return codes;
}

std::vector<TrainedWeights> weight_forms() {
  std::vector<TrainedWeights> forms;
  const auto one = [&](std::string name, QuantType type, std::vector<int> codes) {
    for (const bool per_channel : {true, false}) {
      forms.push_back({.name = name + (per_channel ? "_channel" : "_tensor"), .bases = {{.type = type, .codes = codes, .per_channel = per_channel}}});
      if (per_channel) forms.push_back({.name = name + "_folded", .bases = {{.type = type, .codes = codes}}, .disjoint = false, .folded = true});
    }
  };
  for (const int bits : {2, 3, 4, 5, 6, 7, 8}) {
    const int top = (1 << (bits - 1)) - 1;
    one("narrow" + std::to_string(bits), {.bit_width = bits, .is_signed = true, .narrow_range = true}, every(-top, top));
    // Even codes have no 0: value = scale (2 n - (2^k - 1)).
    const int odd = (1 << bits) - 1;
    one("odd" + std::to_string(bits), {.bit_width = bits < 8 ? 8 : 16, .is_signed = true, .narrow_range = true}, every(-odd, odd, 2));
  }
  one("full4", {.bit_width = 4, .is_signed = true}, every(-7, 7));
  one("one_bit_unsigned_tensor_only", {.bit_width = 2, .is_signed = true, .narrow_range = true}, {0, 1});
  one("binary", {.bit_width = 8, .is_signed = true, .narrow_range = true}, {-1, 1});
  one("ternary", {.bit_width = 8, .is_signed = true, .narrow_range = true}, {-1, 0, 1});
  one("powers_of_two", {.bit_width = 16, .is_signed = true, .narrow_range = true}, {0, 1, -1, 2, -2, 4, -4, 8, -8, 16, -16, 32, -32, 64, -64, 128, -128});
  // Two scales (one base for what is above 0, one for what is below), and sums of binary bases.
  const QuantType ternary{.bit_width = 2, .is_signed = true, .narrow_range = true};
  for (const bool per_channel : {true, false}) {
    const std::string suffix = per_channel ? "_channel" : "_tensor";
    forms.push_back({.name = "two_scales" + suffix,
                     .bases = {{.type = ternary, .codes = {1}, .per_channel = per_channel}, {.type = ternary, .codes = {-1}, .per_channel = per_channel}},
                     .disjoint = true});
    for (const std::size_t count : {2U, 3U, 5U})
      forms.push_back({.name = "binary_bases" + std::to_string(count) + suffix,
                       .bases = std::vector<TrainedBase>(count, {.type = ternary, .codes = {-1, 1}, .per_channel = per_channel})});
  }
  forms.push_back({.name = "two_scales_one_bit",
                   .bases = {{.type = {.bit_width = 1}, .codes = {1}, .per_channel = false}, {.type = {.bit_width = 1, .is_signed = true}, .codes = {-1}, .per_channel = false}},
                   .disjoint = true});
  forms.push_back({.name = "two_scales_folded", .bases = {{.type = ternary, .codes = {1}}, {.type = ternary, .codes = {-1}}}, .disjoint = true, .folded = true});
  forms.push_back({.name = "binary_bases_folded", .bases = std::vector<TrainedBase>(3, {.type = ternary, .codes = {-1, 1}}), .disjoint = false, .folded = true});
  forms.push_back({.name = "wide_bases",
                   .bases = {{.type = {.bit_width = 4, .is_signed = true, .narrow_range = true}, .codes = every(-7, 7)},
                             {.type = {.bit_width = 3, .is_signed = true, .narrow_range = true}, .codes = every(-3, 3)}}});
  return forms;
}

void expect_one_result(const QuantizedGraph& model, std::span<const Tensor> inputs) {
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

// The integers stand for what the float network computes: a mean difference of a few steps of the output at most.
void expect_near(const Graph& graph, const QuantizedGraph& model, std::span<const Tensor> inputs, double most) {
  Interpreter interpreter(graph, {.threads = 1, .mode = ExecMode::kFixedOrder});
  const auto real = interpreter.run(inputs);
  const auto ours = simulate(model, inputs);
  double error = 0;
  double size = 0;
  for (std::int64_t i = 0; i < real[0].size(); ++i) {
    const auto k = static_cast<std::size_t>(i);
    error += std::pow(static_cast<double>(real[0].data<float>()[k] - ours[0].data<float>()[k]), 2);
    size += std::pow(static_cast<double>(real[0].data<float>()[k]), 2);
  }
  EXPECT_LT(std::sqrt(error / size), most);
}

std::int64_t count_base_products(const QuantizedGraph& model) {
  return std::count_if(model.graph.nodes().begin(), model.graph.nodes().end(), is_base_products);
}

// Codes times scales are the trained weights, up to the rounding of float32.
void expect_same_weights(const Graph& graph, const QuantizedGraph& model) {
  for (const Node& layer : graph.nodes()) {
    if (!graph.is_constant(layer.input(1)) || graph.value(layer.input(1)).constant->rank() < 2) continue;
    const auto node = std::find_if(model.graph.nodes().begin(), model.graph.nodes().end(), [&](const Node& n) { return n.name == layer.name; });
    ASSERT_NE(node, model.graph.nodes().end()) << layer.name;
    const Tensor& expected = *graph.value(layer.input(1)).constant;
    std::vector<float> sum(static_cast<std::size_t>(expected.size()), 0.0F);
    const BaseOperands operands = is_base_products(*node) ? base_operands(*node) : BaseOperands();
    for (std::size_t j = 0; j < operands.weights; ++j) {
      const ValueId w = operands.weight(*node, j);
      std::vector<float> reals(sum.size());
      dequantize(codes_of(*model.graph.value(w).constant), expected.shape(), *model.params_of(w), reals);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += reals[i];
    }
    for (std::size_t i = 0; i < sum.size(); ++i) ASSERT_NEAR(sum[i], expected.data<float>()[i], 2e-6F) << layer.name << " " << i;
  }
}

class TrainedWeightForm : public testing::TestWithParam<TrainedWeights> {};

TEST_P(TrainedWeightForm, RuntimeAndFileGiveTheSimulationsBits) {
  for (const char* text : {kResidual, kMatrices, kTransposed}) {
    for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint, RequantizeLaw::kShift}) {
      SCOPED_TRACE(to_string(law));
      QuantScheme scheme;
      scheme.law = law;
      scheme.fine_bias = law != RequantizeLaw::kShift;
      const auto trained = test::trained_network(parse_graph_text(text), GetParam(), scheme, {}, 7);
      const QuantizedGraph model = quantize(trained.graph, trained.ranges, scheme);
      for (const LayerInfo& layer : model.layers) EXPECT_TRUE(layer.integer) << layer.name << ": " << layer.reason;
      // (With powers of two as scales, some bases are one.)
      if (law != RequantizeLaw::kShift) {
        EXPECT_EQ(count_base_products(model) > 0, GetParam().bases.size() > 1);
      }
      const auto inputs = test::random_inputs(model.graph, 5, -1.0F, 1.0F, 2);
      expect_one_result(model, inputs);
      // 8-bit activations on ranges of two other samples.
      expect_near(trained.graph, model, inputs, law == RequantizeLaw::kShift ? 0.25 : 0.15);
      expect_same_weights(trained.graph, model);
      if (testing::Test::HasFailure()) return;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(All, TrainedWeightForm, testing::ValuesIn(weight_forms()), [](const auto& p) { return p.param.name; });

TEST(TrainedActivations, OneToEightBits) {
  const TrainedWeights weights{.name = "", .bases = {{.type = {.bit_width = 3, .is_signed = true, .narrow_range = true}, .codes = every(-3, 3)}}};
  for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
    for (const bool is_signed : {false, true}) {
      for (const bool narrow : {false, true}) {
        if (narrow && (!is_signed || bits == 1)) continue;
        for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint, RequantizeLaw::kShift}) {
          SCOPED_TRACE(std::to_string(bits) + (is_signed ? " signed" : " unsigned") + (narrow ? " narrow " : " ") + to_string(law));
          QuantScheme scheme;
          scheme.law = law;
          scheme.fine_bias = true;
          scheme.defaults.activations.type = {.bit_width = bits, .is_signed = is_signed, .narrow_range = narrow};
          scheme.defaults.activations.symmetric = narrow;
          for (const char* text : {kResidual, kMatrices}) {
            const auto trained = test::trained_network(parse_graph_text(text), weights, scheme, {}, 3);
            const QuantizedGraph model = quantize(trained.graph, trained.ranges, scheme);
            expect_one_result(model, test::random_inputs(model.graph, 5, -1.0F, 1.0F, 2));
            if (testing::Test::HasFailure()) return;
          }
        }
      }
    }
  }
}

// BatchNormalization is folded; sign stands before or behind a pool, and once the other way round.
const char* const kBinary = R"(graph g
opset ai.onnx 13
input x float32[batch,3,12,10]
const w1 float32[16,3,3,3] splat 0
const b1 float32[16] splat 0.0625
const w2 float32[16,16,3,3] splat 0
const b2 float32[16] splat -0.125
const w3 float32[12,16,3,3] splat 0
const b3 float32[12] splat 0.3
const w4 float32[5,12] splat 0
const b4 float32[5] splat 0.1
const zero float32[] = {0.0}
const up float32[] = {1.0}
const down float32[] = {-1.0}
const half float32[1] = {0.5}
a = Conv(x, w1, b1) [pads=[1, 1, 1, 1]] name "first"
ca = GreaterOrEqual(a, zero)
sa = Where(ca, up, down)
b = Conv(sa, w2, b2) [pads=[1, 1, 1, 1]] name "second"
p = MaxPool(b) [kernel_shape=[2, 2], strides=[2, 2]]
cp = GreaterOrEqual(p, zero)
sp = Where(cp, up, down)
c = Conv(sp, w3, b3) name "third"
r = Relu(c)
cr = Less(half, r)
sr = Where(cr, up, down)
q = MaxPool(sr) [kernel_shape=[2, 2]]
g = GlobalAveragePool(q)
l = Flatten(g)
y = Gemm(l, w4, b4) [transB=1] name "last"
output y)";

QuantParams sign_grid(float scale = 1) {
  return {.type = {.bit_width = 8, .is_signed = true}, .granularity = PerTensor{}, .scale = {scale}, .zero_point = {0}};
}
QuantParams fine_grid(int bits, float scale) {
  return {.type = {.bit_width = bits, .is_signed = true}, .granularity = PerTensor{}, .scale = {scale}, .zero_point = {0}};
}

TEST(TrainedSigns, AreIntegerTables) {
  const TrainedWeights weights{.name = "", .bases = {{.type = {.bit_width = 8, .is_signed = true, .narrow_range = true}, .codes = {-1, 1}}}};
  for (const int bits : {8, 16}) {
    for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint, RequantizeLaw::kShift}) {
      SCOPED_TRACE(std::to_string(bits) + " " + to_string(law));
      QuantScheme scheme;
      scheme.law = law;
      scheme.fine_bias = true;
      const float fine = bits == 8 ? 0x1p-5F : 0x1p-12F;
      const std::map<std::string, QuantParams> pins = {{"a", fine_grid(bits, fine)}, {"b", fine_grid(bits, fine)}, {"p", fine_grid(bits, fine)}, {"r", fine_grid(bits, fine)},
                                                       {"sa", sign_grid()}, {"sp", sign_grid()}, {"sr", sign_grid()}, {"q", sign_grid()}};
      const auto trained = test::trained_network(parse_graph_text(kBinary), weights, scheme, pins, 5);
      const QuantizedGraph model = quantize(trained.graph, trained.ranges, scheme);
      for (const LayerInfo& layer : model.layers) EXPECT_TRUE(layer.integer) << layer.name << ": " << layer.reason;
      EXPECT_EQ(std::count_if(model.graph.nodes().begin(), model.graph.nodes().end(), is_step), 3);
      const auto inputs = test::random_inputs(model.graph, 9, -1.0F, 1.0F, 2);
      expect_one_result(model, inputs);
      if (testing::Test::HasFailure()) return;
      int seen = 0;
      simulate(model, inputs, [&](ValueId v, const Tensor& tensor) {
        if (model.graph.value(v).producer == kNoNode || !is_step(model.graph.node(model.graph.value(v).producer))) return;
        ++seen;
        for (const std::int64_t q : to_int64s(tensor)) ASSERT_TRUE(q == 1 || q == -1) << q;
      });
      EXPECT_EQ(seen, 3);
    }
  }
}

// Activations that are sums of signs, before weights of one base and of several.
const char* const kSumsOfSigns = R"(graph g
opset ai.onnx 13
input x float32[batch,3,8,7]
const w1 float32[12,3,3,3] splat 0
const b1 float32[12] splat 0.0625
const w2 float32[12,12,3,3] splat 0
const b2 float32[12] splat -0.125
const w3 float32[5,12] splat 0
const b3 float32[5] = {0.1, 0.2, -0.3, 0.4, 0}
const t1 float32[] = {0.4}
const t2 float32[] = {-0.1}
const t3 float32[] = {0.0}
const u1 float32[] = {0.75}
const d1 float32[] = {-0.75}
const u2 float32[] = {0.3}
const d2 float32[] = {-0.3}
const u3 float32[] = {0.125}
const d3 float32[] = {-0.125}
a = Conv(x, w1, b1) [pads=[1, 1, 1, 1]] name "first"
c1 = GreaterOrEqual(a, t1)
s1 = Where(c1, u1, d1)
c2 = GreaterOrEqual(a, t2)
s2 = Where(c2, u2, d2)
c3 = GreaterOrEqual(a, t3)
s3 = Where(c3, u3, d3)
s12 = Add(s1, s2)
s123 = Add(s12, s3)
b = Conv(s123, w2, b2) [pads=[1, 1, 1, 1], strides=[2, 2]] name "second"
r = Relu(b)
g = GlobalAveragePool(r)
l = Flatten(g)
k1 = GreaterOrEqual(l, t1)
z1 = Where(k1, u1, d1)
k2 = GreaterOrEqual(l, t2)
z2 = Where(k2, u2, d2)
z = Add(z1, z2)
y = Gemm(z, w3, b3) [transB=1] name "last"
output y)";

std::map<std::string, QuantParams> sums_of_signs_pins() {
  return {{"a", fine_grid(16, 0x1p-12F)}, {"l", fine_grid(16, 0x1p-12F)}, {"g", fine_grid(16, 0x1p-12F)}, {"s1", sign_grid(0.75F)},
          {"s2", sign_grid(0.3F)},        {"s3", sign_grid(0.125F)},      {"z1", sign_grid(0.75F)},       {"z2", sign_grid(0.3F)}};
}
RangeTable with_sums(RangeTable ranges) {
  for (const char* sum : {"s12", "s123", "z"}) ranges.entries.erase(sum);
  ranges.entries["s123"].bases = {sign_grid(0.75F), sign_grid(0.3F), sign_grid(0.125F)};
  ranges.entries["z"].bases = {sign_grid(0.75F), sign_grid(0.3F)};
  return ranges;
}

TEST(TrainedActivations, SumsOfSigns) {
  const QuantType ternary{.bit_width = 2, .is_signed = true, .narrow_range = true};
  for (const std::size_t bases : {1U, 2U, 3U}) {
    for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint}) {
      SCOPED_TRACE(std::to_string(bases) + " " + to_string(law));
      const TrainedWeights weights{.name = "", .bases = std::vector<TrainedBase>(bases, {.type = ternary, .codes = {-1, 1}})};
      QuantScheme scheme;
      scheme.law = law;
      const auto trained = test::trained_network(parse_graph_text(kSumsOfSigns), weights, scheme, sums_of_signs_pins(), 5);
      const QuantizedGraph model = quantize(trained.graph, with_sums(trained.ranges), scheme);
      for (const LayerInfo& layer : model.layers) EXPECT_TRUE(layer.integer) << layer.name << ": " << layer.reason;
      EXPECT_EQ(count_base_products(model), bases > 1 ? 3 : 2);
      const auto inputs = test::random_inputs(model.graph, 9, -1.0F, 1.0F, 2);
      expect_one_result(model, inputs);
      if (testing::Test::HasFailure()) return;
    }
  }
}

// Weights alone: the float layer adds its bases up.
TEST(TrainedWeightOnly, BasesAreAddedUp) {
  for (const TrainedWeights& form : weight_forms()) {
    if (form.bases.size() < 2) continue;
    SCOPED_TRACE(form.name);
    QuantScheme scheme;
    scheme.defaults.form = NodeForm::kWeightOnly;
    for (const char* text : {kResidual, kTransposed}) {
      auto trained = test::trained_network(parse_graph_text(text), form, {}, {}, 7);
      const QuantizedGraph model = quantize(trained.graph, trained.ranges, scheme);
      EXPECT_EQ(std::count_if(model.layers.begin(), model.layers.end(), [](const LayerInfo& l) { return l.integer; }), 0);
      const auto inputs = test::random_inputs(model.graph, 5, -1.0F, 1.0F, 2);
      expect_one_result(model, inputs);
      if (testing::Test::HasFailure()) return;
    }
  }
}

// XNOR-Net: the outputs of a binary layer times the box-filtered mean of |x|, which depends on the data and stays float.
TEST(TrainedSigns, ScalesOfTheDataAreAFloatIsland) {
  const char* const text = R"(graph g
opset ai.onnx 13
input x float32[batch,3,8,7]
const w1 float32[12,3,3,3] splat 0
const b1 float32[12] splat 0.0625
const w2 float32[10,12,3,3] splat 0
const w3 float32[5,10] splat 0
const zero float32[] = {0.0}
const up float32[] = {1.0}
const down float32[] = {-1.0}
a = Conv(x, w1, b1) [pads=[1, 1, 1, 1]] name "first"
c = GreaterOrEqual(a, zero)
s = Where(c, up, down)
b = Conv(s, w2) [pads=[1, 1, 1, 1]] name "binary"
m = Abs(a) name "magnitude"
n = ReduceMean(m) [axes=[1], keepdims=1] name "mean"
k = AveragePool(n) [kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1] name "box"
p = Mul(b, k) name "scaled"
r = Relu(p)
g = GlobalAveragePool(r)
l = Flatten(g)
y = Gemm(l, w3) [transB=1] name "last"
output y)";
  const TrainedWeights weights{.name = "", .bases = {{.type = {.bit_width = 8, .is_signed = true, .narrow_range = true}, .codes = {-1, 1}}}};
  QuantScheme scheme;
  NodeRule island;
  island.node_regex = "magnitude|mean|box|scaled";
  island.quantized = false;
  island.reason = "the scale of the input depends on the data";
  scheme.rules.push_back(island);
  const std::map<std::string, QuantParams> pins = {{"a", fine_grid(16, 0x1p-12F)}, {"s", sign_grid()}, {"b", fine_grid(16, 0x1p-10F)}};
  const auto trained = test::trained_network(parse_graph_text(text), weights, scheme, pins, 5);
  const QuantizedGraph model = quantize(trained.graph, trained.ranges, scheme);
  int islands = 0;
  for (const LayerInfo& layer : model.layers) {
    const bool named = layer.name == "magnitude" || layer.name == "mean" || layer.name == "box" || layer.name == "scaled";
    if (layer.op_type == "Conv" || layer.op_type == "Gemm" || layer.op_type == "Step") {
      EXPECT_TRUE(layer.integer) << layer.name << ": " << layer.reason;
    }
    if (!named) continue;
    EXPECT_FALSE(layer.integer) << layer.name;
    ++islands;
    EXPECT_EQ(layer.reason, island.reason);
  }
  EXPECT_EQ(islands, 4);
  const auto inputs = test::random_inputs(model.graph, 9, -1.0F, 1.0F, 2);
  expect_one_result(model, inputs);
}

TEST(TrainedGrids, WhatDoesNotFitIsNamed) {
  const QuantType ternary{.bit_width = 2, .is_signed = true, .narrow_range = true};
  const TrainedWeights weights{.name = "", .bases = std::vector<TrainedBase>(2, {.type = ternary, .codes = {-1, 1}})};
  const auto good = test::trained_network(parse_graph_text(kResidual), weights, {}, {}, 7);
  const auto message = [&](const std::function<void(RangeTable&)>& change) -> std::string {
    RangeTable ranges = good.ranges;
    change(ranges);
    try {
      quantize(good.graph, ranges, {});
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const std::string w = good.graph.value(good.graph.node(0).inputs[1]).name;
  EXPECT_EQ(message([](RangeTable&) {}), "no error");
  EXPECT_NE(message([&](RangeTable& r) { r.entries[w].bases[0].scale.pop_back(); }).find("'" + w + "'"), std::string::npos);
  EXPECT_NE(message([&](RangeTable& r) { r.entries[w].bases[0].zero_point[0] = 1; }).find("zero points 0"), std::string::npos);
  EXPECT_NE(message([&](RangeTable& r) {
              for (QuantParams& base : r.entries[w].bases) base.type = {.bit_width = 8, .is_signed = true};
            }).find("sums of codes"),
            std::string::npos);
  // A value that is no sum, and one that is read by more than layers.
  EXPECT_NE(message([&](RangeTable& r) { r.entries["x"].bases = {sign_grid(), sign_grid()}; }).find("'x' has 2 bases"), std::string::npos);
  // The sum that a Relu is fused into is an output of its own grid.
  EXPECT_NE(message([&](RangeTable& r) { r.entries[good.graph.value(good.graph.node(2).inputs[0]).name].bases = {sign_grid()}; }).find("bases"), std::string::npos);
}

// Models, inputs and outputs for another runtime (tools/results/trained_forms.sh); skipped where nobody asks for them.
TEST(TrainedGrids, AreWrittenForOtherRuntimes) {
  const char* folder = std::getenv("NIBBLE_TRAINED_FORMS");
  if (folder == nullptr) GTEST_SKIP() << "NIBBLE_TRAINED_FORMS names no folder";
  const auto write = [&](const std::string& name, const QuantizedGraph& model) {
    const std::string path = std::string(folder) + "/" + name;
    export_onnx(model, path + ".onnx", {});
    const auto inputs = test::random_inputs(model.graph, 9, -1.0F, 1.0F, 16);
    const auto floats = [&](const std::string& file, const Tensor& tensor) {
      std::ofstream out(file, std::ios::binary);
      out.write(reinterpret_cast<const char*>(tensor.bytes()), static_cast<std::streamsize>(tensor.size_bytes()));
      std::ofstream(file + ".shape") << to_string(tensor.shape());
    };
    floats(path + ".input", inputs[0]);
    floats(path + ".output", simulate(model, inputs)[0]);
  };
  QuantScheme scheme;
  scheme.fine_bias = true;
  for (const TrainedWeights& form : weight_forms()) {
    const auto trained = test::trained_network(parse_graph_text(kResidual), form, scheme, {}, 7);
    write(form.name, quantize(trained.graph, trained.ranges, scheme));
  }
  for (const int bits : {1, 2, 3, 4, 8}) {
    QuantScheme narrow = scheme;
    narrow.defaults.activations.type.bit_width = bits;
    const TrainedWeights weights{.name = "", .bases = {{.type = {.bit_width = 3, .is_signed = true, .narrow_range = true}, .codes = every(-3, 3)}}};
    const auto trained = test::trained_network(parse_graph_text(kResidual), weights, narrow, {}, 3);
    write("activations" + std::to_string(bits), quantize(trained.graph, trained.ranges, narrow));
  }
  const QuantType ternary{.bit_width = 2, .is_signed = true, .narrow_range = true};
  for (const std::size_t bases : {1U, 3U}) {
    const TrainedWeights weights{.name = "", .bases = std::vector<TrainedBase>(bases, {.type = ternary, .codes = {-1, 1}})};
    const auto trained = test::trained_network(parse_graph_text(kSumsOfSigns), weights, scheme, sums_of_signs_pins(), 5);
    write("sums_of_signs" + std::to_string(bases), quantize(trained.graph, with_sums(trained.ranges), scheme));
  }
}

// Zero, of either sign, is +1; so is everything that rounds to it on the grid before.
TEST(TrainedSigns, ZeroIsUp) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[7]
const zero float32[] = {0.0}
const up float32[] = {0.5}
const down float32[] = {-0.5}
const w float32[1,1] = {1.0}
const dims int64[2] = {7, 1}
c = GreaterOrEqual(x, zero)
s = Where(c, up, down)
shape = Identity(s)
r = Reshape(shape, dims)
y = MatMul(r, w)
output y)");
  RangeTable ranges;
  ranges.entries["x"].pinned = fine_grid(8, 0x1p-4F);
  for (const char* name : {"s", "r", "shape"}) ranges.entries[name].pinned = sign_grid(0.5F);
  ranges.entries["y"].pinned = fine_grid(8, 0.5F);
  ranges.entries["w"].pinned = fine_grid(8, 1.0F);
  const QuantizedGraph model = quantize(graph, ranges, {});
  const std::vector<Tensor> inputs = {Tensor::from<float>({7}, std::vector<float>{0.0F, -0.0F, 1e-30F, -1e-30F, -0.07F, 0.07F, -1000.0F})};
  const Tensor signs = simulate(model, inputs)[0];
  const auto values = signs.data<float>();
  EXPECT_EQ(std::vector<float>(values.begin(), values.end()), (std::vector<float>{0.5F, 0.5F, 0.5F, 0.5F, -0.5F, 0.5F, -0.5F}));
  expect_one_result(model, inputs);
}

}  // namespace
}  // namespace nibble
