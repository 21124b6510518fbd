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

ColumnFactor column_factor(const float* columns, std::int64_t places, std::int64_t k, double damping) {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::vector<float> products(at(k * k));
  matrix_product(true, false, k, k, places, columns, columns, products.data());
  double trace = 0;
  for (std::int64_t i = 0; i < k; ++i) trace += static_cast<double>(products[at(i * k + i)]) / static_cast<double>(places);
  ColumnFactor factor;
  if (!(trace > 0)) return factor;
  // Heaviest columns first, while many others can still make up for their errors.
  factor.order.resize(at(k));
  std::iota(factor.order.begin(), factor.order.end(), 0);
  std::stable_sort(factor.order.begin(), factor.order.end(),
                   [&](std::int64_t a, std::int64_t b) { return products[at(a * k + a)] > products[at(b * k + b)]; });
  factor.matrix.resize(at(k * k));
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < k; ++j)
      factor.matrix[at(i * k + j)] =
          static_cast<double>(products[at(factor.order[at(i)] * k + factor.order[at(j)])]) / static_cast<double>(places);
  }
  for (std::int64_t i = 0; i < k; ++i) factor.matrix[at(i * k + i)] += damping * trace / static_cast<double>(k);
  factor.upper = inverse_factor(factor.matrix, k);
  return factor;
}

std::vector<double> fitted_weights(const LayerView& layer, const RoundingProblem& problem, double damping, ThreadPool& pool) {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::vector<double> fitted = problem.weights;
  const std::int64_t k = layer.columns(), outs = layer.group_out, places = problem.places;
  pool.parallel_for(layer.groups, 1, [&](std::int64_t begin, std::int64_t end) {
    const nn::OnednnThreads one_thread(1);
    for (std::int64_t g = begin; g < end; ++g) {
      const float* columns = problem.columns.data() + g * places * k;
      const ColumnFactor factor = column_factor(columns, places, k, damping);
      if (factor.upper.empty()) continue;
      // What the weights as they are leave of the float network's outputs, and its products with the columns.
      std::vector<float> residual(at(places * outs)), correlation(at(outs * k));
      const std::vector<float> rows(problem.weights.begin() + g * outs * k, problem.weights.begin() + (g + 1) * outs * k);
      matrix_product(false, true, places, outs, k, columns, rows.data(), residual.data());
      for (std::int64_t i = 0; i < places * outs; ++i)
        residual[at(i)] =
            problem.target[at(g * places * outs + i)] - static_cast<float>(problem.shift[at(g * outs + i % outs)]) - residual[at(i)];
      matrix_product(true, false, outs, k, places, residual.data(), columns, correlation.data());
      std::vector<double> rotated(at(k));
      for (std::int64_t o = 0; o < outs; ++o) {  // r H^-1 = (r U^T) U
        for (std::int64_t i = 0; i < k; ++i) {
          rotated[at(i)] = 0;
          for (std::int64_t j = i; j < k; ++j)
            rotated[at(i)] += factor.upper[at(i * k + j)] * static_cast<double>(correlation[at(o * k + factor.order[at(j)])]) /
                              static_cast<double>(places);
        }
        double* w = fitted.data() + (g * outs + o) * k;
        for (std::int64_t i = 0; i < k; ++i) {
          for (std::int64_t j = i; j < k; ++j) w[factor.order[at(j)]] += rotated[at(i)] * factor.upper[at(i * k + j)];
        }
      }
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

RoundingProblem rounding_problem(const LayerTurn& turn, std::int64_t places, std::uint64_t seed, ThreadPool& pool) {
  const LayerView& layer = turn.view;
  const std::int64_t k = layer.columns();
  RoundingProblem problem;
  const std::int64_t most = std::max(kFewestPlaces, kMaxFloats / std::max<std::int64_t>(1, layer.groups * k));
  const Shape& shape = turn.weights().shape();
  const ColumnDraw draw = draw_columns(turn.node, layer, shape, turn.quantized_inputs, std::min(places, most), seed);
  problem.places = std::ssize(draw.places);
  problem.weights = as_rows(turn.reference_weights(), turn.reference);
  problem.shift = bias_of(turn.state.reference, turn.reference);
  problem.mean.assign(static_cast<std::size_t>(layer.groups * k), 0.0);

  const std::int64_t p = problem.places, out = layer.group_out;
  problem.target.resize(static_cast<std::size_t>(layer.outputs() * p));
  {
    const std::vector<float> real = gather_columns(turn.node, layer, shape, turn.real_inputs, draw, pool);
    const std::vector<float> w(problem.weights.begin(), problem.weights.end());
    pool.parallel_for(layer.groups, 1, [&](std::int64_t begin, std::int64_t end) {
      const nn::OnednnThreads one_thread(1);
      for (std::int64_t g = begin; g < end; ++g) {
        float* y = problem.target.data() + g * p * out;
        matrix_product(false, true, p, out, k, real.data() + g * p * k, w.data() + g * out * k, y);
        for (std::int64_t i = 0; i < p * out; ++i) y[i] += static_cast<float>(problem.shift[static_cast<std::size_t>(g * out + i % out)]);
      }
    });
  }
  problem.columns = gather_columns(turn.node, layer, shape, turn.quantized_inputs, draw, pool);
  if (!layer.has_bias_input) return problem;

  problem.mean = column_moments(turn.node, layer, shape, turn.quantized_inputs, pool).mean;
  const std::vector<double> real_mean = column_moments(turn.node, layer, shape, turn.real_inputs, pool).mean;
  for (std::int64_t o = 0; o < layer.outputs(); ++o) {
    for (std::int64_t i = 0; i < k; ++i)
      problem.shift[static_cast<std::size_t>(o)] +=
          problem.weights[static_cast<std::size_t>(o * k + i)] * real_mean[static_cast<std::size_t>(o / out * k + i)];
  }
  pool.parallel_for(layer.groups * p, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t i = 0; i < k; ++i)
        problem.columns[static_cast<std::size_t>(r * k + i)] -= static_cast<float>(problem.mean[static_cast<std::size_t>(r / p * k + i)]);
    }
  });
  return problem;
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
                          .hi = static_cast<double>(params.qmax()) - zero});
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
  if (layer.has_bias_input) edit.bias.emplace(bias.begin(), bias.end());
  return edit;
}

}  // namespace nibble
