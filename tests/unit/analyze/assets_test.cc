// Real networks: none is said to be damaged; each damage is named first.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <limits>

#include "nibble/analyze.h"
#include "nibble/onnx.h"
#include "ops/fused_activation.h"
#include "unit/analyze/small_network.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

fs::path assets() {
  const char* folder = std::getenv("NIBBLE_ASSETS");
  return folder != nullptr ? fs::path(folder) : fs::path(NIBBLE_SOURCE_DIR) / "../shared/assets";
}

struct Loaded {
  Graph graph;  // canonical
  std::shared_ptr<const Dataset> data;
  AnalyzeOptions options;
};
Loaded load(const std::string& model, const std::string& data, std::int64_t samples,
            const std::function<void(PreprocessRecipe&)>& change = {}) {
  Loaded loaded;
  const std::string path = (assets() / "models" / (model + ".onnx")).string();
  loaded.graph = import_onnx(path);
  loaded.options.recipe = find_recipe("", path);
  if (loaded.options.recipe && change) change(*loaded.options.recipe);
  loaded.data = open_dataset((assets() / data).string(),
                             {.inputs = input_specs(loaded.graph), .recipe = loaded.options.recipe, .max_samples = samples, .seed = 1});
  canonicalize(loaded.graph);
  loaded.options.sensitivity_samples = 1;
  return loaded;
}

void expect_first(const Loaded& loaded, const std::string& id) {
  const AnalyzeResult result = analyze(loaded.graph, loaded.data, loaded.options);
  ASSERT_FALSE(result.causes.empty()) << to_text(result);
  EXPECT_EQ(result.causes[0].id, id) << to_text(result);
}
void expect_none(const Loaded& loaded) {
  const AnalyzeResult result = analyze(loaded.graph, loaded.data, loaded.options);
  EXPECT_TRUE(result.causes.empty()) << to_text(result);
}

#define NEED_ASSETS() \
  if (!fs::exists(assets() / "models")) GTEST_SKIP() << "no assets at " << assets() << " (set NIBBLE_ASSETS)"

constexpr const char* kImages = "imagenet/calibration";
constexpr const char* kDigits = "mnist/t10k-images-idx3-ubyte.gz";

TEST(AnalyzeAssets, IntactModelsHaveNoCause) {
  NEED_ASSETS();
  expect_none(load("mobilenet_v1_0.75_224", kImages, 24));
  expect_none(load("squeezenet1.1_gluon", kImages, 24));
  expect_none(load("mnist_cntk", kDigits, 200));
  expect_none(load("kwt1_keyword_transformer", "speech", 43));
}

TEST(AnalyzeAssets, ChannelOrderOfMobileNet) {
  NEED_ASSETS();
  expect_first(
      load("mobilenet_v1_0.75_224", kImages, 64, [](PreprocessRecipe& r) { r.channel_order = PreprocessRecipe::ChannelOrder::kBgr; }),
      "channel_order");
}

TEST(AnalyzeAssets, ScaleOfMobileNet) {
  NEED_ASSETS();
  expect_first(load("mobilenet_v1_0.75_224", kImages, 24, [](PreprocessRecipe& r) { r.divide = 1, r.mean = {0}, r.std = {1}; }),
               "input_scale");
}

// A node of this op whose output is read by convolutions alone.
NodeId conv_before_convs(const Graph& graph, std::size_t which, const std::function<bool(const Node&)>& fits) {
  const auto consumers = graph.consumers();
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    const Node& node = graph.node(n);
    if (node.op_type != "Conv" || !fits(node)) continue;
    bool convs = true;
    for (const NodeId c : consumers[static_cast<std::size_t>(node.output(0))]) convs = convs && graph.node(c).op_type == "Conv";
    if (convs && which-- == 0) return n;
  }
  return kNoNode;
}

// Output channel `channel` of a convolution times `factor`, taken back by its readers.
void rescale(Graph& graph, NodeId n, std::int64_t channel, float factor) {
  const Node node = graph.node(n);
  const auto name = [&](ValueId v) { return graph.value(v).name; };
  std::vector<std::pair<std::string, bool>> readers;
  const auto consumers = graph.consumers();
  for (const NodeId c : consumers[static_cast<std::size_t>(node.output(0))])
    readers.emplace_back(name(graph.node(c).input(1)), graph.node(c).get_int("group", 1) > 1);
  const std::string weights = name(node.input(1)), bias = node.input(2) == kNoValue ? "" : name(node.input(2));
  test::scale_output_channel(graph, weights, channel, factor);
  if (!bias.empty()) test::scale_output_channel(graph, bias, channel, factor);
  for (const auto& [reader, depthwise] : readers)
    depthwise ? test::scale_output_channel(graph, reader, channel, 1 / factor)
              : test::scale_input_channel(graph, reader, channel, 1 / factor);
}

TEST(AnalyzeAssets, AChannelOfSqueezeNetTimesThousand) {
  NEED_ASSETS();
  Loaded loaded = load("squeezenet1.1_gluon", kImages, 40);
  const NodeId n = conv_before_convs(loaded.graph, 2, [](const Node& node) { return node.has("activation"); });
  ASSERT_NE(n, kNoNode);
  rescale(loaded.graph, n, 3, 1000);
  rescale(loaded.graph, n, 7, 1000);
  expect_first(loaded, "activation_channel_ranges");
}

TEST(AnalyzeAssets, AClippedRelu6OfMobileNet) {
  NEED_ASSETS();
  Loaded loaded = load("mobilenet_v1_0.75_224", kImages, 40);
  const NodeId n = conv_before_convs(loaded.graph, 5, [](const Node& node) { return node.get_string("activation", "") == "Clip"; });
  ASSERT_NE(n, kNoNode);
  const std::string name = loaded.graph.node(n).name;
  const std::int64_t channels = loaded.graph.value(loaded.graph.node(n).input(1)).constant->shape()[0];
  for (std::int64_t c = 0; c < channels; c += 2) rescale(loaded.graph, n, c, 50);
  const AnalyzeResult result = analyze(loaded.graph, loaded.data, loaded.options);
  ASSERT_FALSE(result.causes.empty()) << to_text(result);
  EXPECT_EQ(result.causes[0].id, "clipped_activation") << to_text(result);
  EXPECT_EQ(result.causes[0].where, name) << to_text(result);
}

TEST(AnalyzeAssets, DigitsOfOneClassAndAnOutlier) {
  NEED_ASSETS();
  Loaded loaded = load("mnist_cntk", kDigits, 600);
  std::vector<std::int64_t> ones, some;
  for (std::int64_t i = 0; i < loaded.data->size(); ++i) (loaded.data->sample(i).label == 1 ? ones : some).push_back(i);
  some.resize(100);
  Loaded one_class = loaded;
  one_class.options.evaluation = subset(loaded.data, some);
  one_class.data = subset(loaded.data, ones);
  expect_first(one_class, "one_class_calibration");

  std::vector<Sample> samples;
  for (const std::int64_t i : some) samples.push_back(loaded.data->sample(i));
  loaded.options.evaluation = subset(loaded.data, some);
  samples[50].inputs[0].mutable_data<float>()[400] = 1e6F;
  loaded.data = std::make_shared<test::Samples>(samples);
  expect_first(loaded, "outlier_activation");
}

}  // namespace
}  // namespace nibble
