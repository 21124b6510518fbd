// Codebooks, blocks and what targets take.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "quantize/codebook.h"
#include "quantize/weight_blocks.h"
#include "support/quantized.h"

namespace nibble {
namespace {

std::vector<float> normal(std::size_t n, float spread, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> draw(0.0F, spread);
  std::vector<float> x(n);
  for (float& v : x) v = draw(random);
  return x;
}

double cost(const std::vector<float>& x, const std::vector<std::int8_t>& book) {
  double sum = 0;
  for (const float v : x) {
    double least = 1e30;
    for (const std::int8_t entry : book) least = std::min(least, std::pow(static_cast<double>(v) - entry, 2));
    const double taken = std::pow(static_cast<double>(v) - nearest_entry(book, v), 2);
    EXPECT_NEAR(taken, least, 1e-4) << v;
    sum += least;
  }
  return sum;
}

TEST(Codebook, KMeansBeatsTheEvenGridAndKeepsZero) {
  for (const int bits : {2, 3, 4, 5}) {
    const std::vector<float> x = normal(3000, 30.0F, 7);
    const std::vector<float> ones(x.size(), 1.0F);
    const auto book = make_codebook(Codebook::kKMeans, bits, x, ones);
    EXPECT_LE(book.size(), std::size_t{1} << bits);
    EXPECT_TRUE(std::is_sorted(book.begin(), book.end()));
    EXPECT_TRUE(std::find(book.begin(), book.end(), 0) != book.end());
    std::vector<std::int8_t> even;
    const int half = (1 << (bits - 1)) - 1;
    for (int i = -half; i <= half; ++i) even.push_back(static_cast<std::int8_t>(std::lround(127.0 * i / half)));
    EXPECT_LT(cost(x, book), cost(x, even)) << bits;
  }
}

TEST(Codebook, KMeansFindsWhatIsThere) {
  std::vector<float> x;
  for (int i = 0; i < 100; ++i) x.insert(x.end(), {-90.0F, -20.0F, 0.0F, 60.0F});
  const std::vector<float> ones(x.size(), 1.0F);
  EXPECT_EQ(make_codebook(Codebook::kKMeans, 2, x, ones), (std::vector<std::int8_t>{-90, -20, 0, 60}));
}

TEST(Codebook, PowersOfTwo) {
  EXPECT_EQ(make_codebook(Codebook::kPowersOfTwo, 2, {}, {}), (std::vector<std::int8_t>{-64, 0, 64}));
  EXPECT_EQ(make_codebook(Codebook::kPowersOfTwo, 3, {}, {}), (std::vector<std::int8_t>{-64, -32, -16, 0, 16, 32, 64}));
  EXPECT_EQ(make_codebook(Codebook::kPowersOfTwo, 4, {}, {}).size(), 15U);
}

Node conv_node() {
  Node node;
  node.op_type = "Conv";
  node.name = "conv";
  return node;
}

TEST(WeightBlocks, WholeFactorsOfOneUnit) {
  const Node node = conv_node();
  for (unsigned seed = 1; seed <= 20; ++seed) {
    const Shape shape = {5, 70, 3, 1};
    std::vector<float> values = normal(static_cast<std::size_t>(element_count(shape)), 0.2F, seed);
    for (std::size_t i = 0; i < 70 * 3; ++i) values[i] *= i < 32 * 3 ? 8.0F : 0.1F;  // blocks of very different size
    const Tensor weights = Tensor::from<float>(shape, values);
    TensorScheme scheme{.type = {.bit_width = 2 + static_cast<int>(seed % 5), .is_signed = seed % 2 == 0, .narrow_range = seed % 2 == 0},
                        .symmetric = seed % 2 == 0,
                        .per_channel = true,
                        .block_size = 32};
    const QuantParams params = choose_block_params(node, weights, scheme, RequantizeLaw::kFloat32, true, {});
    EXPECT_EQ(params.scale.size(), 5U * 3U * 3U);
    const auto units = block_units(node, shape, params);
    ASSERT_TRUE(units) << seed;
    const Tensor codes = quantize_tensor(weights, params);
    const std::vector<std::int32_t> centred = centred_codes(node, codes, params);
    const std::vector<std::int32_t> raw = codes_of(codes);
    for (std::size_t i = 0; i < centred.size(); ++i) {
      ASSERT_LE(std::abs(centred[i]), kLargestBlockWeight);
      const std::size_t o = i / (70 * 3);
      const std::size_t block = (o * 3 + i / 3 % 70 / 32) * 3 + i % 3;
      // The product is exact: unit times whole number is what DequantizeLinear gives.
      ASSERT_EQ(static_cast<float>(centred[i]) * units->unit[o], static_cast<float>(raw[i] - params.zero_point[block]) * params.scale[block]);
    }
  }
}

TEST(WeightBlocks, FewInputsGoPerChannel) {
  const Node node = conv_node();
  EXPECT_EQ(why_no_blocks(node, {8, 64, 3, 3}, 32), "");
  EXPECT_EQ(why_no_blocks(node, {8, 16, 3, 3}, 32), "");
  EXPECT_NE(why_no_blocks(node, {8, 1, 3, 3}, 32).find("1 input channel is too few"), std::string::npos);
  EXPECT_NE(why_no_blocks(node, {8, 3, 3, 3}, 32), "");
}

const char* const kNet = R"(graph g
opset ai.onnx 13
input x float32[1,32,4,4]
const w float32[8,32,1,1] splat 0.3
const v float32[4,8,1,1] splat -0.2
a = Conv(x, w) name "one"
y = Conv(a, v) name "two"
output y)";

std::vector<std::string> findings(const QuantScheme& scheme, const std::string& target) {
  std::vector<std::string> result;
  for (const TargetFinding& f : check_target(test::quantize_on_random(parse_graph_text(kNet), scheme), limits_of_target(target)))
    result.push_back(f.node + ": " + f.reason);
  return result;
}

bool has(const std::vector<std::string>& lines, const std::string& node, const std::string& part) {
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& l) { return l.starts_with(node) && l.find(part) != std::string::npos; });
}

TEST(CheckTarget, TakesWhatItsOwnPresetMakes) {
  for (const TargetInfo& info : list_targets()) EXPECT_TRUE(findings(scheme_for_target(info.name), info.name).empty()) << info.name;
}

TEST(CheckTarget, NamesTheNodeAndTheReason) {
  const QuantScheme plain;
  EXPECT_TRUE(has(findings(plain, "tensorrt"), "one", "output has uint8"));
  EXPECT_TRUE(has(findings(plain, "tensorrt"), "one", "zero point"));
  EXPECT_TRUE(has(findings(plain, "power-of-two"), "two", "no power of two"));
  EXPECT_TRUE(has(findings(plain, "ort-cpu-avx2"), "one", "saturate"));
  EXPECT_TRUE(findings(plain, "openvino").empty());
  QuantScheme blocks;
  blocks.defaults.form = NodeForm::kWeightOnly;
  blocks.defaults.weights.type.bit_width = 4;
  blocks.defaults.weights.block_size = 32;
  EXPECT_TRUE(has(findings(blocks, "tensorrt"), "one", "blocks of 32; the target takes 64, 128"));
  EXPECT_TRUE(has(findings(blocks, "qnn"), "one", "takes no such layers"));
  EXPECT_TRUE(findings(blocks, "openvino").empty());
  QuantScheme dynamic;
  dynamic.defaults.form = NodeForm::kDynamic;
  EXPECT_FALSE(findings(dynamic, "qnn").empty());
  QuantScheme wide;
  wide.defaults.activations.type.bit_width = 16;
  EXPECT_TRUE(findings(wide, "qnn").empty());
  EXPECT_TRUE(has(findings(wide, "openvino"), "one", "uint16"));
}

}  // namespace
}  // namespace nibble
