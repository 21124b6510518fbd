#include "methods/rounding.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "numeric/quantize.h"
#include "numeric/rounding.h"
#include "ops/onednn.h"

namespace nibble {
namespace {

constexpr std::int64_t kMaxFloats = 16 << 20;
constexpr std::int64_t kFewestPlaces = 256;
constexpr std::int64_t kPartFloats = 4 << 20, kLargestPart = 4096;

// [outputs][K] from the flat weight tensor.
std::vector<double> as_rows(const Tensor& weights, const LayerView& layer) {
  const auto w = weights.data<float>();
  std::vector<double> rows;
  rows.reserve(w.size());
  for (std::int64_t o = 0; o < layer.outputs(); ++o) {
    for (std::int64_t i = 0; i < layer.group_in; ++i) {
      for (std::int64_t t = 0; t < layer.taps; ++t) rows.push_back(static_cast<double>(w[static_cast<std::size_t>(layer.place(o, i, t))]));
    }
  }
  return rows;
}

// Lower triangular L with a = L L^T in place (the upper part is left as it was). False where a is not positive definite.
bool cholesky(std::vector<double>& a, std::int64_t n) {
  for (std::int64_t j = 0; j < n; ++j) {
    double* row_j = a.data() + j * n;
    double diagonal = row_j[j];
    for (std::int64_t k = 0; k < j; ++k) diagonal -= row_j[k] * row_j[k];
    if (!(diagonal > 0)) return false;
    row_j[j] = std::sqrt(diagonal);
    for (std::int64_t i = j + 1; i < n; ++i) {
      double* row_i = a.data() + i * n;
      double sum = row_i[j];
      for (std::int64_t k = 0; k < j; ++k) sum -= row_i[k] * row_j[k];
      row_i[j] = sum / row_j[j];
    }
  }
  return true;
}

// Takes the mean of each column off. [groups][places][k]
void centre(std::vector<float>& columns, std::span<const double> mean, std::int64_t places, std::int64_t k) {
  const std::vector<float> means(mean.begin(), mean.end());
  for (std::size_t row = 0; row * static_cast<std::size_t>(k) < columns.size(); ++row) {
    float* x = columns.data() + row * static_cast<std::size_t>(k);
    const float* m = means.data() + row / static_cast<std::size_t>(places) * static_cast<std::size_t>(k);
    for (std::int64_t i = 0; i < k; ++i) x[i] -= m[i];
  }
}

// Where output channel o of place p lies in a sample's output.
struct OutputPlaces {
  std::int64_t channels, pixels;
  OutputPlaces(const LayerTurn& turn, const Tensor& y) : channels(turn.view.outputs()), pixels(1) {
    for (std::size_t a = 2; turn.node.op_type == "Conv" && a < y.shape().size(); ++a) pixels *= y.shape()[a];
  }
  std::size_t operator()(std::int64_t place, std::int64_t o) const {
    return static_cast<std::size_t>((place / pixels * channels + o) * pixels + place % pixels);
  }
};

// What the float network's other summand is ahead of the quantized network's. Empty where nothing is carried.
// [groups][places][group_out]
std::vector<float> gather_carried(const LayerTurn& turn, const ColumnDraw& draw) {
  if (turn.real_summands.empty()) return {};
  const std::int64_t outs = turn.view.outputs(), inner = turn.view.group_out, places = std::ssize(draw.places);
  std::vector<float> result(static_cast<std::size_t>(outs * places));
  for (std::int64_t p = 0; p < places; ++p) {
    const ColumnDraw::Place& place = draw.places[static_cast<std::size_t>(p)];
    const Tensor& real = turn.real_summands[static_cast<std::size_t>(place.sample)];
    const Tensor& quantized = turn.quantized_summands[static_cast<std::size_t>(place.sample)];
    const OutputPlaces where(turn, real);
    for (std::int64_t o = 0; o < outs; ++o) {
      const std::size_t at = where(place.place, o);
      result[static_cast<std::size_t>((o / inner * places + p) * inner + o % inner)] = real.data<float>()[at] - quantized.data<float>()[at];
    }
  }
  return result;
}

std::vector<double> carried_mean(const LayerTurn& turn) {
  if (turn.real_summands.empty()) return {};
  std::vector<double> sums(static_cast<std::size_t>(turn.view.outputs()), 0.0);
  double count = 0;
  for (std::size_t s = 0; s < turn.real_summands.size(); ++s) {
    const auto real = turn.real_summands[s].data<float>(), quantized = turn.quantized_summands[s].data<float>();
    const OutputPlaces where(turn, turn.real_summands[s]);
    const std::int64_t places = static_cast<std::int64_t>(real.size()) / where.channels;
    for (std::int64_t p = 0; p < places; ++p) {
      for (std::int64_t o = 0; o < where.channels; ++o) {
        const std::size_t at = where(p, o);
        sums[static_cast<std::size_t>(o)] += static_cast<double>(real[at]) - static_cast<double>(quantized[at]);
      }
    }
    count += static_cast<double>(places);
  }
  for (double& sum : sums) sum /= std::max(count, 1.0);
  return sums;
}

}  // namespace

std::vector<double> inverse_factor(const std::vector<double>& a, std::int64_t n) {
  // With the order of rows and columns turned round, a' = L L^T gives a'^-1 = L^-T L^-1, and L^-1 turned round is upper triangular.
  std::vector<double> turned(a.size());
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j)
      turned[static_cast<std::size_t>(i * n + j)] = a[static_cast<std::size_t>((n - 1 - i) * n + n - 1 - j)];
  }
  if (!cholesky(turned, n)) return {};
  std::vector<double> inverse(a.size(), 0.0);  // of L, row by row
  for (std::int64_t i = 0; i < n; ++i) {
    double* row = inverse.data() + i * n;
    const double* l = turned.data() + i * n;
    for (std::int64_t k = 0; k < i; ++k) {
      const double factor = l[k];
      const double* other = inverse.data() + k * n;
      for (std::int64_t j = 0; j <= k; ++j) row[j] -= factor * other[j];
    }
    row[i] = 1.0;
    for (std::int64_t j = 0; j <= i; ++j) row[j] /= l[i];
  }
  std::vector<double> upper(a.size(), 0.0);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = i; j < n; ++j)
      upper[static_cast<std::size_t>(i * n + j)] = inverse[static_cast<std::size_t>((n - 1 - i) * n + n - 1 - j)];
  }
  return upper;
}

ColumnFactor column_factor(std::span<const double> square, std::int64_t k, double damping) {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  double trace = 0;
  for (std::int64_t i = 0; i < k; ++i) trace += square[at(i * k + i)];
  ColumnFactor factor;
  if (!(trace > 0)) return factor;
  // Heaviest columns first, while many others can still make up for their errors.
  factor.order.resize(at(k));
  std::iota(factor.order.begin(), factor.order.end(), 0);
  std::stable_sort(factor.order.begin(), factor.order.end(),
                   [&](std::int64_t a, std::int64_t b) { return square[at(a * k + a)] > square[at(b * k + b)]; });
  factor.matrix.resize(at(k * k));
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < k; ++j) factor.matrix[at(i * k + j)] = square[at(factor.order[at(i)] * k + factor.order[at(j)])];
  }
  for (std::int64_t i = 0; i < k; ++i) factor.matrix[at(i * k + i)] += damping * trace / static_cast<double>(k);
  factor.upper = inverse_factor(factor.matrix, k);
  return factor;
}

void fit_weights(const ColumnFactor& factor, std::span<const double> missing, std::int64_t k, std::span<double> weights) {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  if (factor.upper.empty()) return;
  std::vector<double> sorted(at(k)), fitted(at(k));
  for (std::size_t row = 0; row + at(k) <= weights.size(); row += at(k)) {  // r H^-1 = (r U^T) U
    for (std::int64_t i = 0; i < k; ++i) sorted[at(i)] = missing[row + at(factor.order[at(i)])];
    std::fill(fitted.begin(), fitted.end(), 0.0);
    for (std::int64_t i = 0; i < k; ++i) {
      const double* u = factor.upper.data() + i * k;
      double rotated = 0;
      for (std::int64_t j = i; j < k; ++j) rotated += u[j] * sorted[at(j)];
      for (std::int64_t j = i; j < k; ++j) fitted[at(j)] += rotated * u[j];
    }
    for (std::int64_t j = 0; j < k; ++j) weights[row + at(factor.order[at(j)])] += fitted[at(j)];
  }
}

std::vector<double> fitted_weights(const LayerView& layer, const RoundingProblem& problem, const ColumnProducts& products, double damping,
                                   ThreadPool& pool) {
  std::vector<double> fitted = problem.weights;
  const std::int64_t k = layer.columns();
  pool.parallel_for(layer.groups, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      const auto rows = static_cast<std::size_t>(g * layer.group_out * k), size = static_cast<std::size_t>(layer.group_out * k);
      fit_weights(column_factor(products.square[static_cast<std::size_t>(g)], k, damping), std::span(products.missing).subspan(rows, size),
                  k, std::span(fitted).subspan(rows, size));
    }
  });
  return fitted;
}

void matrix_product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b,
                    float* y) {
  constexpr std::int64_t kWorthACall = 4096;  // products
  if (m * n * k >= kWorthACall && nn::onednn_gemm(nullptr, transpose_a, transpose_b, m, n, k, 1.0F, a, b, y)) return;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (std::int64_t l = 0; l < k; ++l) sum += a[transpose_a ? l * m + i : i * k + l] * b[transpose_b ? j * k + l : l * n + j];
      y[i * n + j] = sum;
    }
  }
}

RoundingProblem rounding_problem(const LayerTurn& turn, ThreadPool& pool) {
  const LayerView& layer = turn.view;
  const std::int64_t k = layer.columns();
  RoundingProblem problem;
  problem.weights = as_rows(turn.reference_weights(), turn.reference);
  problem.shift = bias_of(turn.state.reference, turn.reference);
  problem.mean.assign(static_cast<std::size_t>(layer.groups * k), 0.0);
  if (!layer.has_bias_input) return problem;
  const Shape& shape = turn.weights().shape();
  problem.mean = column_moments(turn.node, layer, shape, turn.quantized_inputs, pool).mean;
  const std::vector<double> real_mean = column_moments(turn.node, layer, shape, turn.real_inputs, pool).mean;
  const std::vector<double> carried = carried_mean(turn);
  for (std::int64_t o = 0; o < layer.outputs(); ++o) {
    double& shift = problem.shift[static_cast<std::size_t>(o)];
    for (std::int64_t i = 0; i < k; ++i)
      shift += problem.weights[static_cast<std::size_t>(o * k + i)] * real_mean[static_cast<std::size_t>(o / layer.group_out * k + i)];
    if (!carried.empty()) shift += carried[static_cast<std::size_t>(o)];
  }
  return problem;
}

DrawnColumns drawn_columns(const LayerTurn& turn, const RoundingProblem& problem, std::int64_t places, std::uint64_t seed,
                           ThreadPool& pool) {
  const LayerView& layer = turn.view;
  const Shape& shape = turn.weights().shape();
  const std::int64_t k = layer.columns(), out = layer.group_out;
  const std::int64_t most = std::max(kFewestPlaces, kMaxFloats / std::max<std::int64_t>(1, layer.groups * k));
  const ColumnDraw draw = draw_columns(turn.node, layer, shape, turn.quantized_inputs, std::min(places, most), seed);
  const std::int64_t p = std::ssize(draw.places);
  DrawnColumns drawn{.places = p, .columns = {}, .target = std::vector<float>(static_cast<std::size_t>(layer.outputs() * p))};
  {
    const std::vector<float> real = gather_columns(turn.node, layer, shape, turn.real_inputs, draw, pool);
    const std::vector<float> carried = gather_carried(turn, draw);
    const std::vector<float> w(problem.weights.begin(), problem.weights.end());
    const std::vector<double> bias = bias_of(turn.state.reference, turn.reference);
    pool.parallel_for(layer.groups, 1, [&](std::int64_t begin, std::int64_t end) {
      const nn::OnednnThreads one_thread(1);
      for (std::int64_t g = begin; g < end; ++g) {
        float* y = drawn.target.data() + g * p * out;
        matrix_product(false, true, p, out, k, real.data() + g * p * k, w.data() + g * out * k, y);
        for (std::int64_t i = 0; i < p * out; ++i) {
          y[i] += static_cast<float>(bias[static_cast<std::size_t>(g * out + i % out)]);
          if (!carried.empty()) y[i] += carried[static_cast<std::size_t>(g * p * out + i)];
        }
      }
    });
  }
  drawn.columns = gather_columns(turn.node, layer, shape, turn.quantized_inputs, draw, pool);
  centre(drawn.columns, problem.mean, p, k);
  return drawn;
}

ColumnProducts column_products(const LayerTurn& turn, const RoundingProblem& problem, std::int64_t places, std::uint64_t seed,
                               ThreadPool& pool) {
  const LayerView& layer = turn.view;
  const Shape& shape = turn.weights().shape();
  const std::int64_t k = layer.columns(), out = layer.group_out;
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  // A part of the places at a time: their sums in float32, the total in double.
  ColumnDraw draw = draw_columns(turn.node, layer, shape, turn.quantized_inputs, places, seed);
  const std::int64_t count = std::ssize(draw.places);
  const std::int64_t part = std::clamp<std::int64_t>(kPartFloats / std::max<std::int64_t>(1, layer.groups * (k + out)), 1, kLargestPart);
  ColumnProducts sums{.square = std::vector<std::vector<double>>(at(layer.groups), std::vector<double>(at(k * k), 0.0)),
                      .missing = std::vector<double>(at(layer.outputs() * k), 0.0)};
  const std::vector<float> w(problem.weights.begin(), problem.weights.end());
  const std::vector<double> bias = bias_of(turn.state.reference, turn.reference);
  for (std::int64_t first = 0; first < count; first += part) {
    const std::int64_t p = std::min(part, count - first);
    const ColumnDraw drawn{.places = {draw.places.begin() + first, draw.places.begin() + first + p}};
    std::vector<float> columns = gather_columns(turn.node, layer, shape, turn.quantized_inputs, drawn, pool);
    const std::vector<float> carried = gather_carried(turn, drawn);
    std::vector<float> change = gather_columns(turn.node, layer, shape, turn.real_inputs, drawn, pool);  // c - c~ in the end
    centre(columns, problem.mean, p, k);
    for (std::size_t i = 0; i < change.size(); ++i) change[i] -= columns[i];
    pool.parallel_for(layer.groups, 1, [&](std::int64_t begin, std::int64_t end) {
      const nn::OnednnThreads one_thread(1);
      std::vector<float> square(at(k * k)), residual(at(p * out)), missing(at(out * k));
      for (std::int64_t g = begin; g < end; ++g) {
        const float* x = columns.data() + g * p * k;
        matrix_product(true, false, k, k, p, x, x, square.data());
        for (std::size_t i = 0; i < square.size(); ++i)
          sums.square[at(g)][i] += static_cast<double>(square[i]) / static_cast<double>(count);
        matrix_product(false, true, p, out, k, change.data() + g * p * k, w.data() + g * out * k, residual.data());
        for (std::int64_t i = 0; i < p * out; ++i) {
          residual[at(i)] += static_cast<float>(bias[at(g * out + i % out)] - problem.shift[at(g * out + i % out)]);
          if (!carried.empty()) residual[at(i)] += carried[at(g * p * out + i)];
        }
        matrix_product(true, false, out, k, p, residual.data(), x, missing.data());
        for (std::int64_t i = 0; i < out * k; ++i)
          sums.missing[at(g * out * k + i)] += static_cast<double>(missing[at(i)]) / static_cast<double>(count);
      }
    });
  }
  return sums;
}

std::vector<GridPoint> grid_points(const LayerTurn& turn) {
  const QuantParams& params = turn.quantized.params;
  const Shape& shape = turn.weights().shape();
  std::vector<GridPoint> points;
  points.reserve(static_cast<std::size_t>(turn.weights().size()));
  for (std::int64_t o = 0; o < turn.view.outputs(); ++o) {
    for (std::int64_t i = 0; i < turn.view.group_in; ++i) {
      for (std::int64_t t = 0; t < turn.view.taps; ++t) {
        const std::size_t s = scale_index(params, shape, turn.view.place(o, i, t));
        const auto zero = static_cast<double>(params.zero_point[s]);
        points.push_back({.step = static_cast<double>(params.scale[s]),
                          .lo = static_cast<double>(params.qmin()) - zero,
                          .hi = static_cast<double>(params.qmax()) - zero,
                          .scale = s});
      }
    }
  }
  return points;
}

std::vector<double> nearest(const RoundingProblem& problem, const std::vector<GridPoint>& grid) {
  std::vector<double> q(grid.size());
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = std::clamp(rne(problem.weights[i] / grid[i].step), grid[i].lo, grid[i].hi);
  return q;
}

LayerEdit rounded_layer(const LayerTurn& turn, const RoundingProblem& problem, const std::vector<GridPoint>& grid,
                        const std::vector<double>& q) {
  const LayerView& layer = turn.view;
  LayerEdit edit;
  Tensor weights(DataType::kFloat32, turn.weights().shape());
  const auto w = weights.mutable_data<float>();
  std::vector<double> bias = problem.shift;
  const std::int64_t k = layer.columns();
  for (std::int64_t o = 0; o < layer.outputs(); ++o) {
    for (std::int64_t i = 0; i < layer.group_in; ++i) {
      for (std::int64_t t = 0; t < layer.taps; ++t) {
        const std::int64_t column = i * layer.taps + t;
        const auto at = static_cast<std::size_t>(o * k + column);
        const auto value = static_cast<float>(q[at] * grid[at].step);
        w[static_cast<std::size_t>(layer.place(o, i, t))] = value;
        bias[static_cast<std::size_t>(o)] -=
            static_cast<double>(value) * problem.mean[static_cast<std::size_t>(o / layer.group_out * k + column)];
      }
    }
  }
  edit.weights = std::move(weights);
  edit.grid = turn.quantized.params;
  for (const GridPoint& point : grid) {
    edit.grid->scale[point.scale] = static_cast<float>(point.step);
    edit.grid->zero_point[point.scale] = static_cast<std::int32_t>(static_cast<double>(edit.grid->qmin()) - point.lo);
  }
  if (layer.has_bias_input) edit.bias.emplace(bias.begin(), bias.end());
  return edit;
}

}  // namespace nibble
