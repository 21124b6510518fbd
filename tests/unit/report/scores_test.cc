#include "report/scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace nibble {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(Scores, ClassesStandOnTheLastOrTheChannelAxis) {
  const auto layout = [](Shape shape) { return score_layout(Tensor::zeros(DataType::kFloat32, std::move(shape))); };
  EXPECT_EQ(layout({2, 10}).rows, 2);
  EXPECT_EQ(layout({2, 10}).classes, 10);
  EXPECT_EQ(layout({1, 10, 1, 1}).classes, 10);
  EXPECT_EQ(layout({1, 21, 4, 5}).rows, 20);
  EXPECT_EQ(layout({1, 21, 4, 5}).stride, 20);
  EXPECT_EQ(layout({1, 100, 4}).rows, 100);
  EXPECT_EQ(layout({}).classes, 0);
  EXPECT_EQ(layout({0, 10}).classes, 0);
  EXPECT_EQ(score_layout(Tensor::zeros(DataType::kInt64, {3})).classes, 0);
}

TEST(Scores, FirstOfTheLargestWinsAndNanNever) {
  EXPECT_EQ(predictions(Tensor::from<float>({2, 3}, {1, 3, 3, kNan, 0, -1})), (std::vector<std::int64_t>{1, 1}));
  // Channel axis: pixel p takes class c from [c * 2 + p].
  EXPECT_EQ(predictions(Tensor::from<float>({1, 3, 1, 2}, {0, 9, 5, 1, 2, 3})), (std::vector<std::int64_t>{1, 0}));
  EXPECT_EQ(predictions(Tensor::from<std::int64_t>({2}, {7, 4})), (std::vector<std::int64_t>{7, 4}));
  EXPECT_EQ(predictions(Tensor::from<float>({1, 2}, {kNan, kNan})), (std::vector<std::int64_t>{0}));
}

TEST(Scores, RankCountsWhatStandsBefore) {
  const Tensor output = Tensor::from<float>({1, 5}, {0.5F, 2, 2, -1, kNan});
  const ScoreLayout layout = score_layout(output);
  EXPECT_EQ(rank_of(output, layout, 0, 1), 0);
  EXPECT_EQ(rank_of(output, layout, 0, 2), 1);  // a tie: the lower class first, as predictions() has it
  EXPECT_EQ(rank_of(output, layout, 0, 0), 2);
  EXPECT_EQ(rank_of(output, layout, 0, 3), 3);
  EXPECT_EQ(rank_of(output, layout, 0, 4), 5);  // a NaN is never right
}

TEST(Scores, Sqnr) {
  SquareSums sums;
  const float x[] = {10, 0};
  const float y[] = {9, 0};
  sums.add(x, y);
  EXPECT_DOUBLE_EQ(sums.sqnr_db(), 20.0);
  EXPECT_DOUBLE_EQ(sums.signal_rms(), std::sqrt(50.0));
  SquareSums exact;
  exact.add(x, x);
  EXPECT_EQ(exact.sqnr_db(), kLargestSqnr);
  SquareSums silent;
  silent.add(std::span(y).subspan(1), std::span(y).first(1));
  EXPECT_EQ(silent.sqnr_db(), -kLargestSqnr);
}

TEST(Scores, KlOfScoresAndOfProbabilities) {
  const Tensor scores = Tensor::from<float>({1, 2}, {std::log(0.25F), std::log(0.75F)});
  const Tensor probabilities = Tensor::from<float>({1, 2}, {0.25F, 0.75F});
  const Tensor even = Tensor::from<float>({1, 2}, {0.5F, 0.5F});
  const double expected = 0.25 * std::log(0.25 / 0.5) + 0.75 * std::log(0.75 / 0.5);
  constexpr double kFloatSlack = 1e-6;  // the scores are float32
  EXPECT_NEAR(mean_kl(scores, even), expected, kFloatSlack);
  EXPECT_NEAR(mean_kl(probabilities, even), expected, kFloatSlack);
  // A quantized softmax need not sum to 1: it is brought there, not taken for scores.
  EXPECT_NEAR(mean_kl(probabilities, Tensor::from<float>({1, 2}, {0.2F, 0.6F})), 0, kFloatSlack);
  EXPECT_GT(mean_kl(even, Tensor::from<float>({1, 2}, {1, 0})), 5);  // an impossible class is dear, not infinite
}

}  // namespace
}  // namespace nibble
