#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "fake_dataset.h"
#include "nibble/calibrate.h"
#include "nibble/error.h"
#include "nibble/passes.h"
#include "nibble/report.h"

namespace nibble {
namespace {

// Scores are the input itself.
Model identity_model() {
  return {
      .path = "scores",
      .graph = parse_graph_text("graph g\nopset ai.onnx 13\ninput x float32[N,6]\nconst one float32[] = {1}\nconst two float32[] = {2}\n"
                                "y = Max(x, x) name m\noutput y\n"),
      .quantized = std::nullopt,
      .file_bytes = 0};
}

Sample scores(std::initializer_list<float> values, std::optional<std::int64_t> label) {
  return {.inputs = {Tensor::from<float>({1, 6}, values)}, .label = label, .name = "row"};
}

TEST(Evaluate, TopOneTopFiveAndLabelOffset) {
  const Model model = identity_model();
  FakeDataset dataset(
      {scores({9, 1, 2, 3, 4, 5}, 0), scores({9, 1, 2, 3, 4, 5}, 5), scores({9, 1, 2, 3, 4, 5}, 1), scores({0, 9, 0, 0, 0, 0}, 1)});
  const EvaluateResult result = evaluate(model, dataset, {.threads = 2, .as = RunAs::kAuto, .progress = nullptr});
  EXPECT_EQ(result.samples, 4);
  EXPECT_EQ(result.top1, 50.0);
  EXPECT_EQ(result.top5, 75.0);
  EXPECT_FALSE(result.agreement);
  // Class 0 is "background": label 0 is class 1.
  FakeDataset shifted({scores({9, 1, 2, 3, 4, 5}, 0), scores({0, 9, 0, 0, 0, 0}, 0)});
  shifted.offset = 1;
  EXPECT_EQ(evaluate(model, shifted, {}).top1, 50.0);
}

TEST(Evaluate, ALabelThatIsNoClassNamesTheSample) {
  FakeDataset dataset({scores({9, 1, 2, 3, 4, 5}, 6)});
  try {
    evaluate(identity_model(), dataset, {});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("row"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("6 classes"), std::string::npos) << error.what();
  }
}

TEST(Evaluate, WithoutLabelsThereIsNoAccuracyButAgreement) {
  const Model model = identity_model();
  FakeDataset dataset({scores({9, 1, 2, 3, 4, 5}, std::nullopt)});
  const EvaluateResult result = evaluate(model, dataset, {}, &model);
  EXPECT_FALSE(result.top1);
  EXPECT_EQ(result.agreement, 100.0);
  EXPECT_EQ(result.kl, 0.0);
  const auto json = nlohmann::json::parse(to_json(result));
  EXPECT_TRUE(json["top1"].is_null());
  EXPECT_EQ(json["agreement"], 100.0);
  EXPECT_EQ(json["samples"], 1);
}

TEST(Evaluate, SimulatingAFloatModelIsRefused) {
  FakeDataset dataset({scores({9, 1, 2, 3, 4, 5}, 0)});
  EXPECT_THROW(evaluate(identity_model(), dataset, {.threads = 1, .as = RunAs::kSimulation, .progress = nullptr}), Error);
}

class Quantized : public testing::Test {
 protected:
  Quantized() {
    std::mt19937 rng(5);
    std::normal_distribution<float> normal;
    std::string weights = "const w float32[6,3,1,1] = {";
    for (int i = 0; i < 18; ++i) weights += (i > 0 ? ", " : "") + std::to_string(normal(rng));
    float_model_ = {.path = "float",
                    .graph = parse_graph_text(
                        "graph g\nopset ai.onnx 13\ninput x float32[N,3,4,4]\n" + weights +
                        "}\nconst b float32[6] = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}\na = Conv(x, w, b) name conv\nr = Relu(a) name relu\n"
                        "p = GlobalAveragePool(r) name pool\ny = Flatten(p) name flat\noutput y\n"),
                    .quantized = std::nullopt,
                    .file_bytes = 0};
    std::vector<Sample> samples;
    for (int i = 0; i < 12; ++i) {
      Tensor x(DataType::kFloat32, {1, 3, 4, 4});
      for (float& v : x.mutable_data<float>()) v = normal(rng);
      samples.push_back({.inputs = {x}, .label = std::nullopt, .name = std::to_string(i)});
    }
    dataset_ = std::make_unique<FakeDataset>(std::move(samples));
    graph_ = float_model_.graph;
    canonicalize(graph_);
    CalibrateOptions options;
    options.methods = {"min_max"};
    ranges_ = calibrate(graph_, *dataset_, options).at(0);
    scheme_ = scheme_for_target("ort-cpu");
    quantized_model_ = {.path = "quantized", .graph = graph_, .quantized = quantize(graph_, ranges_, scheme_), .file_bytes = 0};
  }
  Model float_model_, quantized_model_;
  Graph graph_;
  RangeTable ranges_;
  QuantScheme scheme_;
  std::unique_ptr<FakeDataset> dataset_;
};

TEST_F(Quantized, RuntimeAndSimulationScoreAlike) {
  const EvaluateResult runtime =
      evaluate(quantized_model_, *dataset_, {.threads = 2, .as = RunAs::kAuto, .progress = nullptr}, &float_model_);
  const EvaluateResult simulation =
      evaluate(quantized_model_, *dataset_, {.threads = 1, .as = RunAs::kSimulation, .progress = nullptr}, &float_model_);
  EXPECT_EQ(runtime.sqnr_db, simulation.sqnr_db);
  EXPECT_EQ(runtime.kl, simulation.kl);
  EXPECT_EQ(runtime.agreement, simulation.agreement);
  // 8 bits of a range of some 4 sigma: about 30 dB and more at each step.
  EXPECT_GT(*runtime.sqnr_db, 25.0);
}

TEST_F(Quantized, CompareMatchesValuesByName) {
  const CompareResult result = compare(float_model_, quantized_model_, *dataset_, {});
  std::vector<std::string> names;
  for (const LayerCompare& layer : result.layers) {
    names.push_back(layer.name);
    EXPECT_GT(layer.sqnr_db, 25.0) << layer.name;
    EXPECT_GT(layer.float_rms, 0) << layer.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"r", "p", "y"}));
  ASSERT_EQ(result.outputs.size(), 1U);
  EXPECT_EQ(result.samples, 12);
  const auto json = nlohmann::json::parse(to_json(result));
  EXPECT_EQ(json["layers"].size(), 3U);
  EXPECT_TRUE(json["layers"][0].contains("sqnr_db"));
  const CompareResult simulated =
      compare(float_model_, quantized_model_, *dataset_, {.threads = 1, .as = RunAs::kSimulation, .progress = nullptr});
  for (std::size_t i = 0; i < result.layers.size(); ++i)
    EXPECT_EQ(result.layers[i].sqnr_db, simulated.layers[i].sqnr_db) << result.layers[i].name;
}

TEST_F(Quantized, CompareWantsAFloatAndAQuantizedModel) {
  EXPECT_THROW(compare(quantized_model_, quantized_model_, *dataset_, {}), Error);
  EXPECT_THROW(compare(float_model_, float_model_, *dataset_, {}), Error);
}

TEST_F(Quantized, LossDoesNotDependOnThreads) {
  QuantizationLoss one(graph_, scheme_, {.threads = 1, .as = RunAs::kAuto, .progress = nullptr});
  QuantizationLoss three(graph_, scheme_, {.threads = 3, .as = RunAs::kAuto, .progress = nullptr});
  const double loss = one(ranges_, *dataset_);
  EXPECT_EQ(loss, three(ranges_, *dataset_));
  EXPECT_EQ(loss, one(ranges_, *dataset_));  // kept float outputs
  RangeTable narrow = ranges_;
  for (auto& [name, entry] : narrow.entries) {
    if (entry.range) entry.range = Range{entry.range->lo / 8, entry.range->hi / 8};
  }
  EXPECT_GT(one(narrow, *dataset_), 10 * loss);
}

TEST_F(Quantized, InspectShowsTheProof) {
  const InspectResult result = inspect(quantized_model_);
  bool found = false;
  for (const LayerSummary& layer : result.layers) {
    if (layer.name != "conv") continue;
    found = true;
    EXPECT_TRUE(layer.integer);
    ASSERT_TRUE(layer.proof);
    EXPECT_EQ(layer.macs, 6 * 16 * 3);
    EXPECT_LE(layer.proof->bits_needed, layer.proof->worst_case_bits + 1);
  }
  EXPECT_TRUE(found);
  EXPECT_EQ(result.parameters, 18 + 6);
}

TEST_F(Quantized, BenchmarkTimesBothKinds) {
  for (const Model* model : {&float_model_, &quantized_model_}) {
    const BenchmarkResult result = benchmark(*model, {.threads = 1, .batch = 2, .per_op = true, .min_seconds = 0.01});
    EXPECT_GT(result.median_ms, 0);
    EXPECT_LE(result.p10_ms, result.median_ms);
    EXPECT_LE(result.median_ms, result.p90_ms);
    EXPECT_EQ(result.batch, 2);
    EXPECT_FALSE(result.steps.empty());
  }
}

TEST_F(Quantized, ReportIsJson) {
  const QuantizeReport report{.input = "a.onnx",
                              .output = "b.onnx",
                              .method = "min_max",
                              .ladder = {{"min_max", 0.1}, {"mse", std::nan("")}},
                              .scheme = scheme_,
                              .format = "qdq",
                              .data = "fake",
                              .data_hash = "0",
                              .samples = 12,
                              .passes = {},
                              .float_bytes = 100,
                              .quantized_bytes = 60,
                              .metadata = {}};
  const auto json = nlohmann::json::parse(to_json(report, *quantized_model_.quantized, ranges_));
  for (const char* key : {"layers", "ranges", "params", "ladder", "warnings", "scheme", "law"}) EXPECT_TRUE(json.contains(key)) << key;
  EXPECT_TRUE(json["ladder"][1]["score"].is_null());
  EXPECT_NE(to_text(report, *quantized_model_.quantized).find("more than a quarter"), std::string::npos);
}

}  // namespace
}  // namespace nibble
