#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "memory_dataset.h"
#include "nibble/calibrate.h"
#include "nibble/error.h"

namespace nibble {
namespace {

using testing::normal_samples;

Graph relu_graph() {
  return parse_graph_text(R"(graph g
opset ai.onnx 13
input x float32[1,8,n]
y = Relu(x) name relu
output y
)");
}

TEST(SplitForChoice, PartsAreDisjointSortedAndSeeded) {
  for (const std::int64_t samples : {10, 11, 100, 1000}) {
    for (const std::uint64_t seed : {0U, 1U}) {
      const CalibrationSplit split = split_for_choice(samples, seed);
      std::set<std::int64_t> all(split.observe.begin(), split.observe.end());
      all.insert(split.decide.begin(), split.decide.end());
      EXPECT_EQ(static_cast<std::int64_t>(all.size()), samples);
      EXPECT_EQ(static_cast<std::int64_t>(split.observe.size() + split.decide.size()), samples);
      EXPECT_TRUE(std::is_sorted(split.observe.begin(), split.observe.end()));
      EXPECT_TRUE(std::is_sorted(split.decide.begin(), split.decide.end()));
      EXPECT_EQ(static_cast<std::int64_t>(split.decide.size()), std::min<std::int64_t>(32, samples / 4));
      EXPECT_EQ(split_for_choice(samples, seed).decide, split.decide);
    }
  }
  EXPECT_NE(split_for_choice(100, 0).decide, split_for_choice(100, 1).decide);
  EXPECT_EQ(split_for_choice(100, 0, 5).decide.size(), 5U);
  EXPECT_EQ(split_for_choice(3, 0).decide, split_for_choice(3, 0).observe);
}

TEST(ChooseMethod, TakesTheLeastScoreAndTheSimplerOfEquals) {
  const auto data = std::make_shared<testing::MemoryDataset>(normal_samples(20, 1));
  ChooseOptions options;
  options.methods = {"min_max", "percentile", "mse"};
  const auto choice_of = [&](std::map<std::string, double> scores) {
    return choose_method(relu_graph(), data, options, [&](const RangeTable& table, const Dataset&) { return scores.at(table.method); });
  };
  EXPECT_EQ(choice_of({{"min_max", 3}, {"percentile", 1}, {"mse", 2}}).method, "percentile");
  EXPECT_EQ(choice_of({{"min_max", 1}, {"percentile", 1}, {"mse", 0.99}}).method, "min_max");
  EXPECT_EQ(choice_of({{"min_max", 1}, {"percentile", 0.99}, {"mse", 0.97}}).method, "mse");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(choice_of({{"min_max", nan}, {"percentile", 5}, {"mse", nan}}).method, "percentile");
  EXPECT_EQ(choice_of({{"min_max", nan}, {"percentile", nan}, {"mse", nan}}).method, "min_max");
  const MethodChoice choice = choice_of({{"min_max", 3}, {"percentile", 1}, {"mse", 2}});
  ASSERT_EQ(choice.ladder.size(), 3U);
  EXPECT_EQ(choice.ladder[2].method, "mse");
  EXPECT_EQ(choice.ladder[2].score, 2);
}

// The winner's ranges come from all samples, as if they had been calibrated in one go.
TEST(ChooseMethod, RangesAreThoseOfAllSamples) {
  for (const std::int64_t samples : {4, 40}) {
    const auto data = std::make_shared<testing::MemoryDataset>(normal_samples(samples, 2));
    ChooseOptions options;
    for (const std::string method : {"min_max", "percentile", "mse"}) {
      options.methods = {method};
      const MethodChoice choice = choose_method(relu_graph(), data, options, [](const RangeTable& table, const Dataset& decide) {
        EXPECT_GT(decide.size(), 0);
        EXPECT_GT(table.samples, 0);
        return 1.0;
      });
      CalibrateOptions one_pass;
      one_pass.methods = {method};
      EXPECT_EQ(to_json(choice.ranges), to_json(calibrate(relu_graph(), *data, one_pass).front()));
    }
  }
}

}  // namespace
}  // namespace nibble
