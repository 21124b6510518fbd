#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "nibble/report.h"
#include "report/float_twin.h"
#include "report/per_op.h"
#include "support/quantized.h"

namespace nibble {
namespace {

using ::testing::HasSubstr;

const char* const kNetwork = R"(graph g
opset ai.onnx 13
input x float32[N,3,8,8]
const w float32[4,3,3,3] splat 0.1
const b float32[4] splat 0.05
const wt float32[4,5] splat 0.2
a = Conv(x, w, b) [pads=[1, 1, 1, 1]] name conv
r = Relu(a) name relu
p = GlobalAveragePool(r) name pool
f = Flatten(p) name flatten
g = MatMul(f, wt) name product
y = Softmax(g) name softmax
output y
)";

Model quantized_model() {
  Model model{.path = "text", .graph = parse_graph_text(kNetwork), .quantized = std::nullopt, .file_bytes = 0};
  model.quantized = test::quantize_on_random(model.graph, scheme_for_target("ort-cpu"));
  return model;
}

TEST(FloatTwin, ComputesWhatTheQuantizedModelStandsFor) {
  const Model model = quantized_model();
  const Graph twin = float_twin(*model.quantized, TwinConstants::kDequantized);
  const std::vector<Tensor> inputs = test::random_inputs(twin, 5);
  Interpreter interpreter(twin, {.threads = 1, .mode = ExecMode::kFixedOrder});
  const Tensor ours = interpreter.run(inputs)[0], theirs = simulate(*model.quantized, inputs)[0];
  ASSERT_EQ(ours.shape(), theirs.shape());
  // Probabilities; three layers whose activations are rounded to 8 bits each.
  constexpr float kTolerance = 0.02F;
  for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(ours.data<float>()[i], theirs.data<float>()[i], kTolerance);
  for (const Node& node : twin.nodes()) EXPECT_NE(node.op_type, "QuantizeLinear");
}

TEST(Interpreter, TimedRunsGiveTheSameBits) {
  const Graph graph = parse_graph_text(kNetwork);
  Interpreter interpreter(graph);
  const std::vector<Tensor> inputs = test::random_inputs(graph, 3);
  std::vector<double> microseconds;
  EXPECT_TRUE(bit_equal(interpreter.run(inputs)[0], interpreter.run_timed(inputs, microseconds)[0]));
  ASSERT_EQ(microseconds.size(), graph.nodes().size());
  for (const double us : microseconds) EXPECT_GT(us, 0);
}

StepProfile step(std::string node, std::string op, std::string kernel, double us, std::int64_t macs = 0) {
  return {.node = std::move(node), .op_type = std::move(op), .kernel = std::move(kernel), .microseconds = us, .macs = macs};
}

TEST(PerOp, KindsPeaksAndReasons) {
  QuantizedGraph model;
  model.layers.push_back(
      {.name = "soft", .op_type = "Softmax", .integer = false, .reason = "needs exponentials", .proof = {}, .notes = {}});
  const std::vector<StepProfile> steps = {
      step("q", "QuantizeLinear", "quantize_linear_f32u8_avx2", 5),
      step("swap", "Conv", "nchw_to_nhwc", 2),
      step("fast", "Conv", "qgemm_u8s8s32_6x16c4_avxvnni+pack", 10, 1000000),
      step("slow", "Conv", "qgemm_u8s8s32_5x16c2_avx2", 100, 1000000),
      step("plain", "MaxPool", "qpool_max_u8u8_reference", 30),
      step("table", "Sigmoid", "lut_u8u8_avx2", 30),
      step("soft", "Softmax", "float:Softmax", 40),
      step("shape", "Shape", "constant", 1),
      step("close", "Conv", "qgemm_u8s8s32_5x16c2_avx2", 10.5, 1000000),
  };
  const std::map<std::string, double> float_us = {{"q", 1},     {"fast", 30}, {"slow", 50}, {"plain", 3},
                                                  {"table", 9}, {"soft", 8},  {"close", 10}};
  const auto all = explain_steps(model, steps, float_us, {{"avx2", 200}, {"avxvnni", 400}});
  ASSERT_EQ(all.size(), steps.size());
  const StepKind kinds[] = {StepKind::kConversion, StepKind::kConversion,  StepKind::kInteger,  StepKind::kInteger, StepKind::kInteger,
                            StepKind::kInteger,    StepKind::kFloatIsland, StepKind::kConstant, StepKind::kInteger};
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].kind, kinds[i]) << all[i].node;
  // 10^6 multiply-adds in 10 us are 200 GOPS: half of the peak of the instruction set that the kernel's name ends in.
  EXPECT_DOUBLE_EQ(all[2].gops, 200);
  EXPECT_DOUBLE_EQ(all[2].peak_percent, 50);
  EXPECT_DOUBLE_EQ(all[3].peak_percent, 10);
  EXPECT_FALSE(all[0].float_us.has_value()) << "a conversion has no counterpart, whatever its name";
  EXPECT_EQ(all[2].note, "");
  EXPECT_THAT(all[3].note, HasSubstr("10 % of the peak"));
  EXPECT_THAT(all[4].note, HasSubstr("no kernel"));
  EXPECT_THAT(all[5].note, HasSubstr("no multiply-adds"));
  EXPECT_THAT(all[6].note, HasSubstr("needs exponentials"));
  EXPECT_EQ(all[8].note, "") << "half a microsecond is noise";
}

TEST(Benchmark, PerOpOfAQuantizedModel) {
  const BenchmarkResult result = benchmark(quantized_model(), {.threads = 1, .batch = 1, .per_op = true, .min_seconds = 0});
  ASSERT_TRUE(result.beside.has_value());
  EXPECT_GT(result.beside->speedup, 0);
  EXPECT_GT(result.arena_bytes, 0);
  EXPECT_GT(result.weight_bytes, 0);
  const auto json = nlohmann::json::parse(to_json(result));
  for (const char* key : {"median_ms", "arena_bytes", "weight_bytes", "peak_gops", "float_ms", "speedup", "steps"})
    EXPECT_TRUE(json.contains(key)) << key;
  bool island = false, conv = false;
  for (const auto& each : json["steps"]) {
    island = island || (each["node"] == "softmax" && each["kind"] == "float island" && each["float_us"].is_number());
    conv = conv || (each["node"] == "conv" && each["kind"] == "integer" && each["gops"] > 0);
  }
  EXPECT_TRUE(island);
  EXPECT_TRUE(conv);
  EXPECT_THAT(to_text(result), HasSubstr("float islands"));
  EXPECT_THAT(to_text(result), HasSubstr("the same network in float"));
}

TEST(Benchmark, PerOpOfAFloatModel) {
  const Model model{.path = "text", .graph = parse_graph_text(kNetwork), .quantized = std::nullopt, .file_bytes = 0};
  const BenchmarkResult result = benchmark(model, {.threads = 1, .batch = 1, .per_op = true, .min_seconds = 0});
  ASSERT_FALSE(result.steps.empty());
  for (const BenchmarkStep& each : result.steps) EXPECT_EQ(each.kind, StepKind::kFloat) << each.node;
  EXPECT_FALSE(result.beside.has_value());
}

}  // namespace
}  // namespace nibble
