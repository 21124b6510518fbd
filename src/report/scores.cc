#include "report/scores.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nibble {
namespace {

// The scores of one row, contiguous.
void copy_row(std::span<const float> values, const ScoreLayout& layout, std::int64_t row, std::vector<double>& out) {
  out.resize(static_cast<std::size_t>(layout.classes));
  const std::int64_t outer = row / layout.stride;
  const std::int64_t inner = row % layout.stride;
  const std::int64_t first = outer * layout.classes * layout.stride + inner;
  for (std::int64_t c = 0; c < layout.classes; ++c)
    out[static_cast<std::size_t>(c)] = static_cast<double>(values[static_cast<std::size_t>(first + c * layout.stride)]);
}

// Whether a row holds probabilities rather than scores. 8-bit probabilities: each of a few classes may be off by half a step of 1/256.
bool are_probabilities(const std::vector<double>& row) {
  constexpr double kSumSlack = 0.02;
  double sum = 0;
  for (const double v : row) {
    if (!(v >= 0 && v <= 1)) return false;
    sum += v;
  }
  return std::abs(sum - 1) < kSumSlack;
}

void normalize(std::vector<double>& row) {
  double sum = 0;
  for (const double v : row) sum += v;
  if (!(sum > 0)) return;
  for (double& v : row) v /= sum;
}

void softmax(std::vector<double>& row) {
  const double top = *std::max_element(row.begin(), row.end());
  for (double& v : row) v = std::exp(v - top);
  normalize(row);
}

}  // namespace

Tensor as_float(const Tensor& tensor) { return tensor.type() == DataType::kFloat32 ? tensor : cast(tensor, DataType::kFloat32); }

ScoreLayout score_layout(const Tensor& output) {
  const Shape& shape = output.shape();
  if (!is_float(output.type()) || shape.empty() || output.size() == 0) return {};
  const std::size_t axis = shape.size() >= 4 ? 1 : shape.size() - 1;
  ScoreLayout layout;
  layout.classes = shape[axis];
  for (std::size_t i = axis + 1; i < shape.size(); ++i) layout.stride *= shape[i];
  layout.rows = output.size() / layout.classes;
  return layout;
}

std::vector<std::int64_t> predictions(const Tensor& output) {
  const ScoreLayout layout = score_layout(output);
  if (layout.classes == 0) return is_integer(output.type()) ? to_int64s(output) : std::vector<std::int64_t>{};
  const Tensor scores = as_float(output);
  const auto values = scores.data<float>();
  std::vector<std::int64_t> result;
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    const std::int64_t first = row / layout.stride * layout.classes * layout.stride + row % layout.stride;
    std::int64_t best = 0;
    float top = -std::numeric_limits<float>::infinity();
    for (std::int64_t c = 0; c < layout.classes; ++c) {
      const float v = values[static_cast<std::size_t>(first + c * layout.stride)];
      if (v > top) {
        top = v;
        best = c;
      }
    }
    result.push_back(best);
  }
  return result;
}

std::int64_t rank_of(const Tensor& output, const ScoreLayout& layout, std::int64_t row, std::int64_t label) {
  const Tensor scores = as_float(output);
  std::vector<double> values;
  copy_row(scores.data<float>(), layout, row, values);
  const double own = values[static_cast<std::size_t>(label)];
  if (std::isnan(own)) return layout.classes;
  std::int64_t before = 0;
  for (std::int64_t c = 0; c < layout.classes; ++c) {
    const double v = values[static_cast<std::size_t>(c)];
    if (v > own || (v == own && c < label)) ++before;
  }
  return before;
}

void SquareSums::add(std::span<const float> reference, std::span<const float> found) {
  const std::size_t n = std::min(reference.size(), found.size());
  for (std::size_t i = 0; i < n; ++i) {
    const double x = static_cast<double>(reference[i]);
    const double e = x - static_cast<double>(found[i]);
    signal += x * x;
    error += e * e;
  }
  count += static_cast<std::int64_t>(n);
}

void SquareSums::add(const SquareSums& other) {
  signal += other.signal;
  error += other.error;
  count += other.count;
}

double SquareSums::sqnr_db() const {
  if (error == 0) return kLargestSqnr;
  if (signal == 0) return -kLargestSqnr;
  return std::clamp(10 * std::log10(signal / error), -kLargestSqnr, kLargestSqnr);
}

double SquareSums::signal_rms() const { return count > 0 ? std::sqrt(signal / static_cast<double>(count)) : 0; }
double SquareSums::error_rms() const { return count > 0 ? std::sqrt(error / static_cast<double>(count)) : 0; }

double mean_kl(const Tensor& reference, const Tensor& found) {
  const ScoreLayout layout = score_layout(reference);
  if (layout.rows == 0) return 0;
  const Tensor a = as_float(reference);
  const Tensor b = as_float(found);
  std::vector<double> p;
  std::vector<double> q;
  double total = 0;
  constexpr double kFloor = 1e-9;  // an 8-bit probability may be 0; the logarithm needs more
  for (std::int64_t row = 0; row < layout.rows; ++row) {
    copy_row(a.data<float>(), layout, row, p);
    copy_row(b.data<float>(), layout, row, q);
    // The reference decides for both: a quantized softmax may sum to anything.
    const bool ready = are_probabilities(p);
    for (std::vector<double>* values : {&p, &q}) ready ? normalize(*values) : softmax(*values);
    for (std::size_t c = 0; c < p.size(); ++c) {
      if (p[c] > 0) total += p[c] * std::log(p[c] / std::max(q[c], kFloor));
    }
  }
  return total / static_cast<double>(layout.rows);
}

}  // namespace nibble
