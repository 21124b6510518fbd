// quantize(): which nodes become integers, which grids they get, what it repairs and what it refuses.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "nibble/error.h"
#include "quantize/node_arithmetic.h"
#include "quantize/weights.h"
#include "support/quantized.h"

namespace nibble {
namespace {

const char* const kConvNet = R"(graph g
opset ai.onnx 13
input x float32[1,2,4,4]
const w float32[3,2,1,1] = {0.5, -0.25, 1.0, 0.75, -0.5, 0.125}
const b float32[3] = {0.1, -0.2, 0.3}
a = Conv(x, w, b) name "conv"
r = Relu(a) name "relu"
m = MaxPool(r) [kernel_shape=[2, 2], strides=[2, 2]] name "pool"
c = Concat(m, m) [axis=1] name "concat"
s = Softmax(c) [axis=1] name "softmax"
output s)";

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

const QuantParams& params(const QuantizedGraph& model, const std::string& name) {
  const auto id = model.graph.find_value(name);
  if (!id || model.params_of(*id) == nullptr) throw std::runtime_error("no parameters: " + name);
  return *model.params_of(*id);
}

const Node* find_node(const QuantizedGraph& model, const std::string& name) {
  for (const Node& node : model.graph.nodes()) {
    if (node.name == name) return &node;
  }
  return nullptr;
}

const LayerInfo& layer(const QuantizedGraph& model, const std::string& name) {
  for (const LayerInfo& info : model.layers) {
    if (info.name == name) return info;
  }
  throw std::runtime_error("no layer " + name);
}

TEST(Quantize, ChainsAreIntegersAndFloatIslandsHaveReasons) {
  const QuantizedGraph model = test::quantize_on_random(parse_graph_text(kConvNet), {});
  EXPECT_TRUE(layer(model, "conv").integer);
  EXPECT_TRUE(layer(model, "pool").integer);
  EXPECT_TRUE(layer(model, "concat").integer);
  EXPECT_FALSE(layer(model, "softmax").integer);
  EXPECT_FALSE(layer(model, "softmax").reason.empty());
  int quantizes = 0;
  int dequantizes = 0;
  for (const Node& node : model.graph.nodes()) {
    quantizes += node.op_type == "QuantizeLinear" ? 1 : 0;
    dequantizes += node.op_type == "DequantizeLinear" ? 1 : 0;
  }
  EXPECT_EQ(quantizes, 1) << print_graph(model.graph);
  EXPECT_EQ(dequantizes, 1) << print_graph(model.graph);
  EXPECT_EQ(model.graph.value(model.graph.outputs()[0]).name, "s");
}

TEST(Quantize, TiedOpsShareTheirGrid) {
  const QuantizedGraph model = test::quantize_on_random(parse_graph_text(kConvNet), {});
  EXPECT_EQ(params(model, "r"), params(model, "m"));
  EXPECT_EQ(params(model, "m"), params(model, "c"));
  EXPECT_EQ(params(model, "r").zero_point[0], 0) << "a ReLU's output starts at 0";
}

TEST(Quantize, ConcatenatedBranchesGetTheUnionOfTheirRanges) {
  const Graph graph = parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,1,2,2]
const w float32[1,1,1,1] = {1.0}
const v float32[1,1,1,1] = {4.0}
a = Conv(x, w)
b = Conv(x, v)
c = Concat(a, b) [axis=1]
output c)");
  RangeTable ranges;
  ranges.entries["x"].range = Range{-1, 1};
  ranges.entries["a"].range = Range{-1, 0.5};
  ranges.entries["b"].range = Range{-0.5, 4};
  ranges.entries["c"].range = Range{-1, 4};
  const QuantizedGraph model = quantize(graph, ranges, {});
  EXPECT_EQ(params(model, "a"), params(model, "b"));
  EXPECT_FLOAT_EQ(params(model, "a").scale[0], 5.0F / 255);
  EXPECT_EQ(params(model, "a").zero_point[0], 51);
}

// What is beyond the bounds is cut off by them, so the grid need not reach it; where somebody else reads it, it must.
TEST(Quantize, ABoundedValueHasTheGridOfWhatTheBoundsLeave) {
  const char* const text = R"(graph g
opset ai.onnx 13
input x float32[1,2,2,2]
const w float32[2,2,1,1] = {0.5, -0.25, 1.0, 0.75}
const k float32[1,2,1,1] = {3.0, 9.0}
a = Conv(x, w) [activation="Relu"] name "conv"
m = Min(a, k) name "clip"
y = Conv(m, w) name "last"
output y)";
  RangeTable ranges;
  ranges.entries["x"].range = Range{-1, 1};
  ranges.entries["a"].range = Range{0, 100};
  ranges.entries["m"].range = Range{0, 5.1};
  ranges.entries["y"].range = Range{-1, 1};
  ranges.entries["s"].range = Range{0, 103};
  const QuantizedGraph model = quantize(parse_graph_text(text), ranges, {});
  EXPECT_EQ(params(model, "a"), params(model, "m"));
  EXPECT_FLOAT_EQ(params(model, "m").scale[0], 5.1F / 255);
  const Node* clip = find_node(model, "clip");
  EXPECT_EQ(to_int64s(*model.graph.value(clip->inputs[1]).constant), (std::vector<std::int64_t>{150, 255})) << "9 is clamped to the grid";
  EXPECT_EQ(layer(model, "clip").notes, std::vector<std::string>{"bounds of 2 channels, at codes 150 to 255"});

  const QuantizedGraph other = quantize(parse_graph_text(std::string(text) + "\ns = Add(a, m)\noutput s"), ranges, {});
  EXPECT_FLOAT_EQ(params(other, "m").scale[0], 100.0F / 255);

  Graph broken = parse_graph_text(text);
  GraphEditor editor(broken);
  editor.set_constant(*broken.find_value("k"), Tensor::from<float>({1, 2, 1, 1}, std::array{1.0F, std::numeric_limits<float>::quiet_NaN()}));
  editor.finish();
  EXPECT_NE(error_of([&] { quantize(broken, ranges, {}); }).find("'clip' (Min): a constant operand holds nan"), std::string::npos);
}

TEST(Quantize, PerChannelWeightsUseEachChannelsMaximum) {
  const QuantizedGraph model = test::quantize_on_random(parse_graph_text(kConvNet), {});
  const QuantParams& w = params(model, "w_quantized");
  ASSERT_EQ(w.scale.size(), 3U);
  EXPECT_FLOAT_EQ(w.scale[0], 0.5F / 127);
  EXPECT_FLOAT_EQ(w.scale[1], 1.0F / 127);
  EXPECT_TRUE(w.symmetric());
  const std::vector<std::int32_t> codes = codes_of(*model.graph.value(*model.graph.find_value("w_quantized")).constant);
  EXPECT_EQ(codes, (std::vector<std::int32_t>{127, -64, 127, 95, -127, 32}));
  // Bias codes live on the product of the scales.
  const float sx = params(model, "x_quantized").scale[0];
  const std::vector<std::int32_t> bias = codes_of(*model.graph.value(*model.graph.find_value("b_quantized")).constant);
  EXPECT_EQ(bias[2], std::lrint(0.3 / static_cast<double>(sx * w.scale[2])));
}

TEST(Quantize, PerTensorAndAffineWeights) {
  QuantScheme scheme;
  scheme.defaults.weights = {.type = {.bit_width = 8, .is_signed = false}, .symmetric = false, .per_channel = false};
  const QuantizedGraph model = test::quantize_on_random(parse_graph_text(kConvNet), scheme);
  const QuantParams& w = params(model, "w_quantized");
  ASSERT_EQ(w.scale.size(), 1U);
  EXPECT_FLOAT_EQ(w.scale[0], 1.5F / 255);
  EXPECT_EQ(w.zero_point[0], 85);
}

TEST(Quantize, ReduceRangeLeavesSevenBits) {
  QuantScheme scheme;
  scheme.reduce_range = true;
  const QuantizedGraph model = test::quantize_on_random(parse_graph_text(kConvNet), scheme);
  for (const std::int32_t q : codes_of(*model.graph.value(*model.graph.find_value("w_quantized")).constant)) EXPECT_LE(std::abs(q), 63);
}

// A channel with weights of 1e-9 and a bias of 3: on its own scale the bias would need 2^38.
TEST(Quantize, AnOverflowingBiasWidensTheWeightScale) {
  const char* text = R"(graph g
opset ai.onnx 13
input x float32[1,1,2,2]
const w float32[2,1,1,1] = {1e-9, 1.0}
const b float32[2] = {3.0, 0.5}
y = Conv(x, w, b) name "conv"
output y)";
  const QuantizedGraph model = test::quantize_on_random(parse_graph_text(text), {});
  ASSERT_FALSE(model.warnings.empty());
  EXPECT_NE(model.warnings[0].find("conv"), std::string::npos);
  EXPECT_NE(model.warnings[0].find("overflow"), std::string::npos);
  const auto inputs = test::random_inputs(model.graph, 5);
  const Tensor y = simulate(model, inputs)[0];
  // Within one output step of the float network.
  const float step = params(model, "y_quantized").scale[0];
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(y.data<float>()[i], 3.0F, step);
  EXPECT_LE(layer(model, "conv").proof->bits_needed, 32);
}

TEST(Quantize, AChannelWithoutWeightsKeepsItsBias) {
  const char* text = R"(graph g
opset ai.onnx 13
input x float32[1,1,2,2]
const w float32[2,1,1,1] = {0.0, 0.01}
const b float32[2] = {0.013, 0.0}
y = Conv(x, w, b) name "conv"
output y)";
  const QuantizedGraph model = test::quantize_on_random(parse_graph_text(text), {});
  const Tensor y = simulate(model, test::random_inputs(model.graph, 5))[0];
  const float step = params(model, "y_quantized").scale[0];
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(y.data<float>()[i], 0.013F, step);
}

// The proof against all inputs of a tiny layer.
TEST(AccumulatorProof, IsExact) {
  const char* text = R"(graph g
opset ai.onnx 13
input x float32[1,2]
const w float32[2,2] = {0.5, -1.0, 0.25, 0.75}
const b float32[2] = {0.125, -0.5}
y = Gemm(x, w, b) name "gemm"
output y)";
  const QuantizedGraph model = test::quantize_on_random(parse_graph_text(text), {});
  const LayerInfo& info = layer(model, "gemm");
  ASSERT_TRUE(info.proof);
  const std::vector<std::int32_t> w = codes_of(*model.graph.value(*model.graph.find_value("w_quantized")).constant);
  const std::vector<std::int32_t> b = codes_of(*model.graph.value(*model.graph.find_value("b_quantized")).constant);
  const std::int32_t zx = params(model, "x_quantized").zero_point[0];
  std::int64_t lo = 0;
  std::int64_t hi = 0;
  for (std::size_t n = 0; n < 2; ++n) {
    for (int q0 = 0; q0 < 256; ++q0) {
      for (int q1 = 0; q1 < 256; ++q1) {
        // Every partial sum, in both orders, the bias first or last.
        const std::int64_t p0 = std::int64_t{q0 - zx} * w[n];
        const std::int64_t p1 = std::int64_t{q1 - zx} * w[2 + n];
        for (const std::int64_t sum : {p0, p1, p0 + p1, p0 + b[n], p1 + b[n], p0 + p1 + b[n], std::int64_t{b[n]}}) {
          lo = std::min(lo, sum);
          hi = std::max(hi, sum);
        }
      }
    }
  }
  EXPECT_EQ(info.proof->lo, lo);
  EXPECT_EQ(info.proof->hi, hi);
  EXPECT_EQ(info.proof->worst_case_bits, 8 + 8 + 1);
  const auto fits = [&](int bits) { return lo >= -(std::int64_t{1} << (bits - 1)) && hi < (std::int64_t{1} << (bits - 1)); };
  EXPECT_TRUE(fits(info.proof->bits_needed));
  EXPECT_FALSE(fits(info.proof->bits_needed - 1));
}

TEST(Quantize, ExcludedNodesStayFloatBetweenEdges) {
  QuantScheme scheme;
  scheme.rules.push_back({.node_regex = "po.l", .op_type = "", .quantized = false, .weights = {}, .activations = {}});
  const QuantizedGraph model = test::quantize_on_random(parse_graph_text(kConvNet), scheme);
  EXPECT_FALSE(layer(model, "pool").integer);
  EXPECT_NE(layer(model, "pool").reason.find("po.l"), std::string::npos);
  EXPECT_FALSE(layer(model, "concat").integer) << "integers no longer reach it";
  EXPECT_EQ(find_node(model, "pool")->inputs.size(), 1U);
  EXPECT_EQ(model.params_of(find_node(model, "pool")->input(0)), nullptr);
}

TEST(Quantize, FirstAndLastLayersCanStayFloat) {
  QuantScheme scheme;
  scheme.first_last = FirstLastPolicy::kFloat;
  const QuantizedGraph model = test::quantize_on_random(parse_graph_text(kConvNet), scheme);
  EXPECT_FALSE(layer(model, "conv").integer);
  EXPECT_NE(layer(model, "conv").reason.find("first"), std::string::npos);
}

TEST(Quantize, FirstAndLastLayersCanKeepEightBits) {
  QuantScheme scheme;
  scheme.defaults.weights.type.bit_width = 4;
  EXPECT_EQ(params(test::quantize_on_random(parse_graph_text(kConvNet), scheme), "w_quantized").type.bit_width, 4);
  scheme.first_last = FirstLastPolicy::k8Bit;
  EXPECT_EQ(params(test::quantize_on_random(parse_graph_text(kConvNet), scheme), "w_quantized").type.bit_width, 8);
}

TEST(Quantize, AnExcludedModelIsTheFloatModel) {
  QuantScheme scheme;
  scheme.defaults.quantized = false;
  const Graph graph = parse_graph_text(kConvNet);
  const QuantizedGraph model = test::quantize_on_random(graph, scheme);
  const auto inputs = test::random_inputs(graph, 3);
  Interpreter interpreter(graph, {.threads = 1, .mode = ExecMode::kFixedOrder});
  EXPECT_TRUE(bit_equal(simulate(model, inputs)[0], interpreter.run(inputs)[0]));
}

TEST(Quantize, PinnedParametersComeThroughExactly) {
  Graph graph = parse_graph_text(kConvNet);
  canonicalize(graph);
  const std::vector<std::vector<Tensor>> samples = {test::random_inputs(graph, 1)};
  RangeTable ranges = test::observe_ranges(graph, samples);
  const QuantParams pinned{.type = {}, .granularity = PerTensor{}, .scale = {0.01234567F}, .zero_point = {93}};
  const QuantParams weights{.type = {.bit_width = 4, .is_signed = true}, .granularity = PerChannel{0}, .scale = {0.1F, 0.2F, 0.3F}, .zero_point = {0, 0, 0}};
  ranges.entries["x"].pinned = pinned;
  ranges.entries["w"].pinned = weights;
  const QuantizedGraph model = quantize(graph, ranges, {});
  EXPECT_EQ(params(model, "x_quantized"), pinned);
  EXPECT_EQ(params(model, "w_quantized"), weights);
}

TEST(Quantize, PinnedParametersThatDoNotFitAreRefused) {
  Graph graph = parse_graph_text(kConvNet);
  canonicalize(graph);
  const std::vector<std::vector<Tensor>> samples = {test::random_inputs(graph, 1)};
  const RangeTable good = test::observe_ranges(graph, samples);
  const auto message = [&](const std::string& value, const Granularity& granularity, std::size_t scales) {
    RangeTable ranges = good;
    ranges.entries[value].pinned = QuantParams{.type = {.bit_width = 8, .is_signed = true},
                                               .granularity = granularity,
                                               .scale = std::vector<float>(scales, 0.1F),
                                               .zero_point = std::vector<std::int32_t>(scales, 0)};
    return error_of([&] { quantize(graph, ranges, {}); });
  };
  EXPECT_EQ(message("w", PerTensor{}, 1), "no error");
  EXPECT_EQ(message("w", PerChannel{0}, 3), "no error");
  for (const auto& [granularity, scales] : std::vector<std::pair<Granularity, std::size_t>>{
           {PerTensor{}, 2}, {PerChannel{0}, 2}, {PerChannel{1}, 2}, {PerChannel{7}, 3}, {PerBlock{0, 3}, 2}, {PerChannel{0}, 0}}) {
    EXPECT_NE(message("w", granularity, scales).find("conv"), std::string::npos) << message("w", granularity, scales);
    EXPECT_NE(message("x", granularity, scales).find("'x'"), std::string::npos) << message("x", granularity, scales);
  }
}

// A model put together by hand: what an integer node needs and lacks is named before anything runs.
TEST(Quantize, VerifyNamesOperandsWithoutParameters) {
  const QuantizedGraph good = test::quantize_on_random(parse_graph_text(kConvNet), {});
  for (const char* operand : {"x_quantized", "w_quantized", "b_quantized"}) {
    QuantizedGraph model = good;
    model.params[static_cast<std::size_t>(*model.graph.find_value(operand))].reset();
    EXPECT_NE(error_of([&] { verify(model); }).find("'"), std::string::npos) << operand;
  }
  QuantizedGraph wrong = good;
  wrong.params[static_cast<std::size_t>(*wrong.graph.find_value("w_quantized"))]->granularity = PerChannel{3};
  EXPECT_NE(error_of([&] { verify(wrong); }).find("w_quantized"), std::string::npos);
}

TEST(Quantize, RefusesByName) {
  Graph graph = parse_graph_text(kConvNet);
  canonicalize(graph);
  const std::vector<std::vector<Tensor>> samples = {test::random_inputs(graph, 1)};
  const RangeTable good = test::observe_ranges(graph, samples);

  RangeTable missing = good;
  missing.entries.erase("r");
  EXPECT_NE(error_of([&] { quantize(graph, missing, {}); }).find("no range for value 'r'"), std::string::npos);

  RangeTable infinite = good;
  infinite.entries["x"].range = Range{0, std::numeric_limits<double>::infinity()};
  EXPECT_NE(error_of([&] { quantize(graph, infinite, {}); }).find("'x'"), std::string::npos);

  Graph poisoned = graph;
  GraphEditor editor(poisoned);
  Tensor w = *poisoned.value(*poisoned.find_value("w")).constant;
  w.mutable_data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  editor.set_constant(*poisoned.find_value("w"), w);
  editor.finish();
  const std::string message = error_of([&] { quantize(poisoned, good, {}); });
  EXPECT_NE(message.find("conv"), std::string::npos) << message;
  EXPECT_NE(message.find("nan"), std::string::npos) << message;

  QuantScheme fixed;
  fixed.law = RequantizeLaw::kFixedPoint;
  RangeTable extreme = good;
  extreme.entries["x"].pinned = QuantParams{.type = {}, .granularity = PerTensor{}, .scale = {1e15F}, .zero_point = {0}};
  const std::string law = error_of([&] { quantize(graph, extreme, fixed); });
  EXPECT_NE(law.find("conv"), std::string::npos) << law;
  EXPECT_NE(law.find("fixed_point"), std::string::npos) << law;
}

TEST(Quantize, AConstantRangeIsWarnedOf) {
  Graph graph = parse_graph_text(kConvNet);
  canonicalize(graph);
  const std::vector<std::vector<Tensor>> samples = {{Tensor::zeros(DataType::kFloat32, {1, 2, 4, 4})}};
  const QuantizedGraph model = quantize(graph, test::observe_ranges(graph, samples), {});
  ASSERT_FALSE(model.warnings.empty());
  EXPECT_NE(model.warnings[0].find("'x'"), std::string::npos);
  EXPECT_EQ(params(model, "x_quantized").scale[0], 1.0F);
}

TEST(Quantize, FusedActivationTightensTheGrid) {
  QuantParams p{.type = {}, .granularity = PerTensor{}, .scale = {0.1F}, .zero_point = {100}};
  Node node;
  node.name = "n";
  node.op_type = "Conv";
  EXPECT_EQ(output_grid(p, node).qmin, 0);
  node.attributes["activation"] = std::string("Relu");
  EXPECT_EQ(output_grid(p, node).qmin, 100);
  EXPECT_EQ(output_grid(p, node).qmax, 255);
  node.attributes["activation"] = std::string("Clip");
  node.attributes["activation_min"] = -1.0F;
  node.attributes["activation_max"] = 6.0F;
  EXPECT_EQ(output_grid(p, node).qmin, 90);
  EXPECT_EQ(output_grid(p, node).qmax, 160);
}

TEST(Quantize, SameInputGivesTheSameGraph) {
  const Graph graph = parse_graph_text(kConvNet);
  EXPECT_EQ(print_graph(test::quantize_on_random(graph, {}).graph), print_graph(test::quantize_on_random(graph, {}).graph));
}

// The quantized network follows the float one: within the steps that its grids allow.
TEST(Quantize, FollowsTheFloatNetwork) {
  const char* text = R"(graph g
opset ai.onnx 13
input x float32[1,2,4,4]
const w float32[3,2,1,1] = {0.5, -0.25, 1.0, 0.75, -0.5, 0.125}
a = Conv(x, w)
b = Add(a, a)
output b)";
  for (const RequantizeLaw law : {RequantizeLaw::kFloat32, RequantizeLaw::kFixedPoint}) {
    QuantScheme scheme;
    scheme.law = law;
    const Graph graph = parse_graph_text(text);
    const QuantizedGraph model = test::quantize_on_random(graph, scheme);
    const auto inputs = test::random_inputs(graph, 1);
    Interpreter interpreter(graph, {.threads = 1, .mode = ExecMode::kFixedOrder});
    const Tensor exact = interpreter.run(inputs)[0];
    const Tensor y = simulate(model, inputs)[0];
    // Half a step of the input through weights of at most 1.75 in sum, half a weight step each, half an output step twice doubled.
    const float tolerance = 2 * (0.5F * params(model, "x_quantized").scale[0] * 1.75F + 2 * 0.5F * 0.008F + 0.5F * params(model, "a").scale[0]) + 0.5F * params(model, "b_quantized").scale[0];
    for (std::size_t i = 0; i < y.data<float>().size(); ++i) EXPECT_NEAR(y.data<float>()[i], exact.data<float>()[i], tolerance);
  }
}

}  // namespace
}  // namespace nibble
