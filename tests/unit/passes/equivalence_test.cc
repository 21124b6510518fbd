// What a pass may never do: change what the network computes, or what the outside knows of it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "nibble/interpreter.h"
#include "nibble/onnx.h"
#include "nibble/passes.h"

namespace nibble {
namespace {

// Folding is done in double and rounded once, so each weight is off by at most half an ulp (2^-24, relative), and the two graphs add the
// same products in float in another order and with other roundings: K products give a relative error of about sqrt(K) 2^-24 of the sum of
// their magnitudes. Through D layers, each of which may cancel a digit, 2e-5 D of the output's largest magnitude leaves a factor of
// some 10.
constexpr double kToleranceALayer = 2e-5;

Tensor random_tensor(const TensorType& type, std::mt19937& rng, std::int64_t batch) {
  Shape shape;
  for (const Dim& dim : type.dims) shape.push_back(dim.known() ? dim.size : batch);
  std::normal_distribution<float> normal;
  Tensor tensor(DataType::kFloat32, shape);
  for (float& v : tensor.mutable_data<float>()) v = normal(rng);
  return cast(tensor, type.dtype);
}

void expect_same(const Graph& before, const Graph& after, std::mt19937& rng, double tolerance, std::int64_t batch) {
  ASSERT_EQ(before.inputs().size(), after.inputs().size());
  ASSERT_EQ(before.outputs().size(), after.outputs().size());
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < before.inputs().size(); ++i) {
    const Value& a = before.value(before.inputs()[i]);
    const Value& b = after.value(after.inputs()[i]);
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.type, b.type);
    inputs.push_back(random_tensor(a.type, rng, batch));
  }
  const auto expected = Interpreter(before, {.threads = 1, .mode = ExecMode::kFast}).run(inputs);
  const auto found = Interpreter(after, {.threads = 1, .mode = ExecMode::kFast}).run(inputs);
  for (std::size_t o = 0; o < expected.size(); ++o) {
    EXPECT_EQ(before.value(before.outputs()[o]).name, after.value(after.outputs()[o]).name);
    ASSERT_EQ(expected[o].type(), found[o].type());
    ASSERT_EQ(expected[o].shape(), found[o].shape());
    const std::vector<double> a = to_doubles(expected[o]);
    const std::vector<double> b = to_doubles(found[o]);
    double largest = 0;
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      ASSERT_FALSE(std::isnan(b[i]) && !std::isnan(a[i]));
      largest = std::max(largest, std::abs(a[i]));
      if (a[i] != b[i]) worst = std::max(worst, std::abs(a[i] - b[i]));
    }
    EXPECT_LE(worst, tolerance * largest) << "output " << after.value(after.outputs()[o]).name << " of largest magnitude " << largest;
  }
}

// A random little network in the text form: layers of the kinds that passes look for, with second readers and residuals here and there.
class RandomNetwork {
 public:
  explicit RandomNetwork(unsigned seed) : rng_(seed) {}

  std::string text() {
    std::string x = "x";
    std::vector<std::string> older;
    const int layers = pick(3, 9);
    for (int i = 0; i < layers; ++i) {
      older.push_back(x);
      x = layer(x, older[static_cast<std::size_t>(pick(0, static_cast<int>(older.size()) - 1))]);
    }
    if (pick(0, 1) != 0) x = node("ReduceMean(" + x + ") [axes=[2, 3], keepdims=" + std::to_string(pick(0, 1)) + "]");
    x = node("Identity(" + x + ")");
    return "graph random\nopset ai.onnx 13\ninput x float32[N,4,5,5]\n" + constants_ + nodes_ + "output " + x + "\n";
  }

 private:
  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(rng_); }
  std::string number(float low, float high) { return std::to_string(std::uniform_real_distribution<float>(low, high)(rng_)); }
  std::string node(const std::string& call) {
    const std::string name = "v" + std::to_string(count_++);
    nodes_ += name + " = " + call + " name n_" + name + "\n";
    return name;
  }
  std::string constant(const std::string& type, int count, float low, float high) {
    const std::string name = "c" + std::to_string(count_++);
    constants_ += "const " + name + " " + type + " = {";
    for (int i = 0; i < count; ++i) constants_ += (i > 0 ? ", " : "") + number(low, high);
    constants_ += "}\n";
    return name;
  }
  std::string vector(float low, float high) { return constant("float32[4]", 4, low, high); }
  std::string channels(float low, float high) {
    return pick(0, 2) == 0 ? constant("float32[]", 1, low, high)
                           : constant(pick(0, 1) != 0 ? "float32[4,1,1]" : "float32[1,4,1,1]", 4, low, high);
  }

  std::string layer(const std::string& x, const std::string& other) {
    switch (pick(0, 12)) {
      case 0: return node("Conv(" + x + ", " + constant("float32[4,4,1,1]", 16, -1, 1) + ", " + vector(-1, 1) + ")");
      case 1: return node("Conv(" + x + ", " + constant("float32[4,1,3,3]", 36, -1, 1) + ") [group=4, pads=[1, 1, 1, 1]]");
      case 2: return node("ConvTranspose(" + x + ", " + constant("float32[4,2,1,1]", 8, -1, 1) + ") [group=2]");
      case 3:
      case 4:
        return node("BatchNormalization(" + x + ", " + vector(0.5F, 2) + ", " + vector(-1, 1) + ", " + vector(-1, 1) + ", " +
                    vector(0.1F, 2) + ")");
      case 5: return node("Relu(" + x + ")");
      case 6:
        return node("Min(" + node("Max(" + x + ", " + constant("float32[]", 1, -1, 0) + ")") + ", " + constant("float32[]", 1, 0.5F, 2) +
                    ")");
      case 7: return node("Mul(" + x + ", " + channels(0.5F, 2) + ")");
      case 8: return node("Sub(" + channels(-1, 1) + ", " + x + ")");
      case 9: return node("Div(" + x + ", " + channels(0.5F, 2) + ")");
      case 10: return node("Add(" + x + ", " + other + ")");
      case 11: {
        const std::string last = node("Transpose(" + x + ") [perm=[0, 2, 3, 1]]");
        const std::string scaled = pick(0, 1) != 0 ? node("Mul(" + last + ", " + vector(0.5F, 2) + ")") : last;
        return node("Transpose(" + node("Relu(" + scaled + ")") + ") [perm=[0, 3, 1, 2]]");
      }
      default: return node("Dropout(" + node("Clip(" + x + ", " + constant("float32[]", 1, -2, 0) + ")") + ")");
    }
  }

  std::mt19937 rng_;
  int count_ = 0;
  std::string constants_, nodes_;
};

TEST(PassesEquivalence, RandomNetworksComputeTheSame) {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const std::string text = RandomNetwork(seed).text();
    SCOPED_TRACE(text);
    const Graph before = parse_graph_text(text);
    Graph after = before;
    canonicalize(after);
    std::mt19937 rng(seed);
    expect_same(before, after, rng, kToleranceALayer * 10, 2);
    if (HasFailure()) return;
    // Canonical means that there is nothing left to do.
    Graph again = after;
    canonicalize(again);
    EXPECT_EQ(print_graph(again), print_graph(after));
    if (HasFailure()) return;
  }
}

// Forms of Gemm that the random networks do not draw.
TEST(PassesEquivalence, RareGemms) {
  for (const char* nodes : {"y = Gemm(x, w, row) [transA=1, alpha=0.5, beta=2.0]", "y = Gemm(x, w, column) [transA=1, transB=1, alpha=0.5]",
                            "g = Gemm(x, w, column)\ny = Mul(g, row)", "g = Gemm(x, w, one)\ny = Add(g, row)", "g = Gemm(x, w)\ny = Sub(column, g)"}) {
    SCOPED_TRACE(nodes);
    const Graph before = parse_graph_text(std::string("graph g\nopset ai.onnx 13\ninput x float32[3,3]\n"
                                                      "const w float32[3,3] = {0.5, -1, 2, 0.25, 3, -0.75, 1, 1.5, -2}\n"
                                                      "const row float32[3] = {1, -2, 0.5}\nconst column float32[3,1] = {2, -1, 3}\nconst one float32[1] = {0.5}\n") +
                                          nodes + "\noutput y");
    Graph after = before;
    canonicalize(after);
    std::mt19937 rng(1);
    expect_same(before, after, rng, kToleranceALayer, 1);
  }
}

std::string assets() {
  if (const char* env = std::getenv("NIBBLE_ASSETS")) return env;
  return std::string(NIBBLE_SOURCE_DIR) + "/../shared/assets";
}

class PassesOnAssets : public testing::TestWithParam<const char*> {};

TEST_P(PassesOnAssets, ComputeTheSame) {
  const std::string path = assets() + "/models/" + GetParam() + ".onnx";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is missing";
  const Graph before = import_onnx(path);
  Graph after = before;
  canonicalize(after);
  for (const Node& node : after.nodes()) {
    EXPECT_NE(node.op_type, "BatchNormalization") << node.name;
    EXPECT_NE(node.op_type, "Identity") << node.name;
    EXPECT_NE(node.op_type, "Constant") << node.name;
  }
  std::mt19937 rng(7);
  expect_same(before, after, rng, kToleranceALayer * 60, 1);
}

INSTANTIATE_TEST_SUITE_P(Models, PassesOnAssets,
                         testing::Values("mobilenet_v2_1.0_224", "mobilenet_v1_0.75_224", "squeezenet1.1_gluon", "cifar10_resnet20",
                                         "cifar10_resnet56", "mlperf_resnet8", "mnist_cntk", "ultraface_RFB-320", "yolox_nano_coco",
                                         "deeplabv3_mnv2_257", "kws_dscnn", "kwt1_keyword_transformer"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
                           return name;
                         });

}  // namespace
}  // namespace nibble
