// What a network's output says: classes, distances, agreement.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nibble/tensor.h"

namespace nibble {

// An output seen as rows of classes: [N, C] is N rows; [N, C, H, W] has its classes on axis 1 and N H W rows; [N, A, C] has N A rows.
// `classes` is 0 where the output is no score (a scalar, or integers).
struct ScoreLayout {
  std::int64_t rows = 0;
  std::int64_t classes = 0;
  std::int64_t stride = 1;  // between a row's classes
};
ScoreLayout score_layout(const Tensor& output);

// The class of each row: the first of the largest; a NaN never wins. Integer outputs are their own classes.
std::vector<std::int64_t> predictions(const Tensor& output);
// How many classes of a row stand before `label`: 0 is top-1.
std::int64_t rank_of(const Tensor& output, const ScoreLayout& layout, std::int64_t row, std::int64_t label);

// Sums of squares of a signal and of its error; SQNR = 10 log10(signal / error).
struct SquareSums {
  double signal = 0, error = 0;
  std::int64_t count = 0;

  void add(std::span<const float> reference, std::span<const float> found);
  void add(const SquareSums& other);
  double sqnr_db() const;
  double signal_rms() const;
  double error_rms() const;
};
// What sqnr_db() gives where there is no error at all (JSON has no infinity), and -kLargestSqnr where there is no signal but an error.
inline constexpr double kLargestSqnr = 200.0;

// Mean over the rows of KL(softmax(reference) || softmax(found)), nats; outputs that are probabilities already are taken as they are.
double mean_kl(const Tensor& reference, const Tensor& found);

// float32 copy of any numeric tensor.
Tensor as_float(const Tensor& tensor);

}  // namespace nibble
