// Each cause: a network that is right, damaged in one way, names that cause first; undamaged it names none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "nibble/analyze.h"
#include "unit/analyze/small_network.h"

namespace nibble {
namespace {

using test::Samples;

std::string all(const AnalyzeResult& result) { return to_text(result); }

class Causes : public testing::Test {
 protected:
  AnalyzeResult run() {
    options.recipe = test::imagenet_recipe();
    options.evaluation = evaluation;
    options.sensitivity_samples = 2;
    return analyze(graph, data, options);
  }
  void expect_first(const std::string& id, const std::string& where) {
    const AnalyzeResult result = run();
    ASSERT_FALSE(result.causes.empty()) << all(result);
    EXPECT_EQ(result.causes[0].id, id) << all(result);
    EXPECT_THAT(result.causes[0].where, testing::HasSubstr(where)) << all(result);
    EXPECT_FALSE(result.causes[0].option.empty());
    if (result.causes[0].before) {
      EXPECT_GT(result.causes[0].damage, 0) << all(result);
    }
  }
  // The labels of the network as it is now.
  void relabel() {
    Interpreter interpreter(graph);
    for (Samples* set : {data.get(), evaluation.get()}) {
      for (Sample& sample : set->samples()) {
        const Tensor y = interpreter.run(sample.inputs)[0];
        sample.label = std::max_element(y.data<float>().begin(), y.data<float>().end()) - y.data<float>().begin();
      }
    }
  }
  // The samples as another preprocessing of the same pixels would give them.
  void redo(const std::function<void(std::span<float>)>& change) {
    for (Samples* set : {data.get(), evaluation.get()}) {
      for (Sample& sample : set->samples()) change(sample.inputs[0].mutable_data<float>());
    }
  }
  static constexpr std::size_t kPlane = static_cast<std::size_t>(test::kSide * test::kSide);

  Graph graph = test::small_network();
  std::shared_ptr<Samples> data = std::make_shared<Samples>(test::samples_of(48, 1));
  std::shared_ptr<Samples> evaluation = std::make_shared<Samples>(test::samples_of(64, 2));
  AnalyzeOptions options;
};

TEST_F(Causes, NoneOnAnIntactNetwork) {
  for (const bool per_channel : {true, false}) {
    options.scheme.defaults.weights.per_channel = per_channel;
    const AnalyzeResult result = run();
    EXPECT_TRUE(result.causes.empty()) << all(result);
    EXPECT_GE(result.float_top1.value_or(0), 95) << "the network is not right by itself";
    EXPECT_GE(result.quantized.agreement.value_or(0), 95);
  }
}

TEST_F(Causes, AWeightChannelTimesThousandPerTensor) {
  options.scheme.defaults.weights.per_channel = false;
  test::scale_output_channel(graph, "w5", 3, 1000);
  // A negative bias keeps the channel at zero: the weights alone are wide.
  Tensor b = test::constant_of(graph, "b5");
  b.mutable_data<float>()[3] = -3000;
  Tensor w = test::constant_of(graph, "w5");
  for (std::size_t i = 0; i < 16; ++i) w.mutable_data<float>()[3 * 16 + i] = -std::abs(w.data<float>()[3 * 16 + i]);
  test::set_constant(graph, "b5", b);
  test::set_constant(graph, "w5", w);
  relabel();
  expect_first("weight_channel_ranges", "conv5");
}

TEST_F(Causes, AnActivationChannelTimesThousand) {
  test::scale_output_channel(graph, "w2", 5, 1000);
  test::scale_output_channel(graph, "b2", 5, 1000);
  test::scale_input_channel(graph, "w3", 5, 0.001F);
  expect_first("activation_channel_ranges", "conv2");
}

TEST_F(Causes, AClippedRelu6) {
  for (std::int64_t c = 0; c < 10; ++c) {
    test::scale_output_channel(graph, "w4", c, 40);
    test::scale_output_channel(graph, "b4", c, 40);
    test::scale_input_channel(graph, "w5", c, 1 / 40.0F);
  }
  expect_first("clipped_activation", "conv4");
}

TEST_F(Causes, AWrongMean) {
  redo([](std::span<float> x) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += static_cast<float>(test::kMean[i / kPlane] / test::kStd[i / kPlane]);
  });
  options.recipe = test::imagenet_recipe();
  AnalyzeOptions& o = options;
  o.evaluation = evaluation;
  o.sensitivity_samples = 2;
  o.recipe->mean = {0};
  const AnalyzeResult result = analyze(graph, data, o);
  ASSERT_FALSE(result.causes.empty()) << all(result);
  EXPECT_EQ(result.causes[0].id, "input_mean") << all(result);
  EXPECT_GT(result.causes[0].damage, 3);
}

TEST_F(Causes, PixelsThatWereNotScaled) {
  redo([](std::span<float> x) {
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<float>(static_cast<double>(x[i]) * test::kStd[i / kPlane] + test::kMean[i / kPlane]);
  });
  options.evaluation = evaluation;
  options.sensitivity_samples = 2;
  for (const bool with_recipe : {true, false}) {
    options.recipe = with_recipe ? std::optional(PreprocessRecipe{}) : std::nullopt;
    const AnalyzeResult result = analyze(graph, data, options);
    ASSERT_FALSE(result.causes.empty()) << all(result);
    EXPECT_EQ(result.causes[0].id, "input_scale") << all(result);
    EXPECT_THAT(result.causes[0].option, testing::HasSubstr("0.485")) << all(result);
  }
}

TEST_F(Causes, SwappedChannels) {
  redo([](std::span<float> x) {
    const std::vector<float> old(x.begin(), x.end());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t c = i / kPlane, other = 2 - c;
      const double pixel = static_cast<double>(old[other * kPlane + i % kPlane]) * test::kStd[other] + test::kMean[other];
      x[i] = static_cast<float>((pixel - test::kMean[c]) / test::kStd[c]);
    }
  });
  expect_first("channel_order", "samples");
}

TEST_F(Causes, AnOverflowingBias) {
  // A bias that ReLU takes away whole: the float network is as it was without that channel, and one scale serves all channels.
  options.scheme.defaults.weights.per_channel = false;
  Tensor b = test::constant_of(graph, "b2");
  b.mutable_data<float>()[7] = -1e7F;
  test::set_constant(graph, "b2", b);
  relabel();
  expect_first("bias_overflow", "conv2");
}

TEST_F(Causes, AnOverflowingBiasThatFlowsOn) {
  // One layer adds it, the next takes it away again.
  Tensor b = test::constant_of(graph, "b2"), c = test::constant_of(graph, "b3");
  constexpr float kHuge = 4e6F;
  b.mutable_data<float>()[7] += kHuge;
  Tensor w = test::constant_of(graph, "w3");
  for (std::size_t o = 0; o < 16; ++o) {  // only the centre of the kernel: the borders see the padding
    for (std::size_t k = 0; k < 9; ++k) {
      if (k != 4) w.mutable_data<float>()[(o * 16 + 7) * 9 + k] = 0;
    }
    w.mutable_data<float>()[(o * 16 + 7) * 9 + 4] = 0x1p-20F;
    c.mutable_data<float>()[o] -= kHuge * 0x1p-20F;
  }
  test::set_constant(graph, "b2", b);
  test::set_constant(graph, "w3", w);
  test::set_constant(graph, "b3", c);
  relabel();
  expect_first("bias_overflow", "conv2");
}

TEST_F(Causes, AnOutlierActivation) {
  // One pixel of one calibration sample.
  data->samples()[5].inputs[0].mutable_data<float>()[100] = 400;
  expect_first("outlier_activation", "");
}

TEST_F(Causes, CalibrationOfOneClass) {
  std::vector<Sample> one;
  for (const Sample& sample : test::samples_of(48 * test::kClasses, 3)) {
    if (*sample.label == 2) one.push_back(sample);
  }
  data = std::make_shared<Samples>(one);
  expect_first("one_class_calibration", "");
  // Without labels the float network's own answers tell.
  for (Sample& sample : data->samples()) sample.label.reset();
  expect_first("one_class_calibration", "");
}

TEST_F(Causes, ARangeNarrowerThanWhatFlows) {
  Graph canonical = graph;
  canonicalize(canonical);
  RangeTable ranges = calibrate(canonical, *data, {}).at(0);
  ranges.entries.at("r4").range->hi *= 0.1;
  options.ranges = ranges;
  expect_first("clipped_range", "conv4");
}

TEST_F(Causes, ALayerThatIsDead) {
  Tensor b = test::constant_of(graph, "b2");
  for (float& v : b.mutable_data<float>()) v = -1000;
  test::set_constant(graph, "b2", b);
  const AnalyzeResult result = run();
  const bool found =
      std::any_of(result.causes.begin(), result.causes.end(), [](const Cause& c) { return c.id == "dead_layer" && c.where == "conv2"; });
  EXPECT_TRUE(found) << all(result);
}

}  // namespace
}  // namespace nibble
