#include "tune/metric.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nibble/error.h"
#include "nibble/tune.h"

namespace nibble {
namespace {

// Newcombe 1998, Table I, method 3: 81 of 263 and 0 of 20.
TEST(Wilson, EqualsPublishedIntervals) {
  EXPECT_NEAR(wilson_interval(81, 263).low, 25.53, 0.01);
  EXPECT_NEAR(wilson_interval(81, 263).high, 36.62, 0.01);
  EXPECT_NEAR(wilson_interval(0, 20).low, 0, 1e-9);
  EXPECT_NEAR(wilson_interval(0, 20).high, 16.11, 0.01);
  EXPECT_NEAR(wilson_interval(20, 20).low, 100 - 16.11, 0.01);
  EXPECT_EQ(wilson_interval(0, 0).high, 100);
}

TEST(Metric, IsParsedOrRefused) {
  std::string command;
  EXPECT_EQ(parse_metric("top1", command), TuneMetric::kTop1);
  EXPECT_EQ(parse_metric("sqnr", command), TuneMetric::kSqnr);
  EXPECT_EQ(parse_metric("command:python3 judge.py --fast", command), TuneMetric::kCommand);
  EXPECT_EQ(command, "python3 judge.py --fast");
  for (const char* wrong : {"top2", "", "command:", "command:  "}) EXPECT_THROW(parse_metric(wrong, command), Error) << wrong;
}

Judgement judged(const std::vector<std::pair<bool, double>>& samples) {
  Judgement result;
  std::int64_t right = 0;
  for (const auto& [hit, loss] : samples) {
    Verdict v;
    v.labelled = true;
    v.right = hit;
    v.log_loss = loss;
    v.rows = v.agreeing = 1;
    v.kl = 0.01;
    result.samples.push_back(v);
    right += hit ? 1 : 0;
  }
  result.figures.top1 = 100.0 * static_cast<double>(right) / static_cast<double>(samples.size());
  result.figures.agreement = 100;
  result.figures.kl = 0.01;
  return result;
}

TEST(Metric, TopOneCountsWhatIsLostWhateverIsWon) {
  const Judgement truth = judged({{true, 0.1}, {true, 0.1}, {false, 2}, {true, 0.1}});
  TuneTrial same, lucky, fewer;
  rate(same, TuneMetric::kTop1, 1, truth, truth, 75, std::nullopt, 0);
  EXPECT_TRUE(same.passes);
  EXPECT_LT(same.low, 75);
  EXPECT_GT(same.high, 75);
  rate(lucky, TuneMetric::kTop1, 1, truth, judged({{false, 2}, {true, 0.1}, {true, 0.1}, {true, 0.1}}), 75, std::nullopt, 0);
  EXPECT_FALSE(lucky.passes) << "one came right for one that was lost";
  rate(fewer, TuneMetric::kTop1, 1, truth, judged({{true, 0.1}, {true, 0.1}, {false, 2}, {false, 0.1}}), 75, std::nullopt, 0);
  EXPECT_FALSE(fewer.passes);
}

TEST(Metric, KlSqnrAndCommand) {
  const Judgement truth = judged({{true, 0.1}, {true, 0.1}});
  TuneTrial trial;
  rate(trial, TuneMetric::kKl, 0.02, truth, truth, 0, std::nullopt, 0);
  EXPECT_TRUE(trial.passes);
  rate(trial, TuneMetric::kKl, 0.005, truth, truth, 0, std::nullopt, 0);
  EXPECT_FALSE(trial.passes);
  Judgement noisy = truth;
  noisy.figures.sqnr_db = 20;
  rate(trial, TuneMetric::kSqnr, 3, truth, noisy, 200, 22, 0);
  EXPECT_TRUE(trial.passes);
  rate(trial, TuneMetric::kSqnr, 3, truth, noisy, 200, 24, 0);
  EXPECT_FALSE(trial.passes);
  rate(trial, TuneMetric::kCommand, 0.5, truth, truth, 10, std::nullopt, 9.6);
  EXPECT_TRUE(trial.passes);
  rate(trial, TuneMetric::kCommand, 0.5, truth, truth, 10, std::nullopt, 9.4);
  EXPECT_FALSE(trial.passes);
}

}  // namespace
}  // namespace nibble
