// What the methods that round weights share: the layer's regression problem, and the grid seen weight by weight.
//
// Let mu, mu~ be the means of the columns of the float and of the quantized network. A correction of the bias takes any error of a layer's
// mean away (bias_correction.cc), so rounding should not be chosen for it: with centred columns c~ = x~ - mu~ the layer is
//     z~ = W~ c~ + (b + W mu),          bias b~ = b + W mu - W~ mu~,
// whose mean is right whatever W~ is. Layers that cannot take a bias (MatMul) have mu = mu~ = 0.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "methods/columns.h"
#include "methods/layerwise.h"

namespace nibble {

struct RoundingProblem {
  std::vector<double> shift;    // b + W mu, one an output channel
  std::vector<double> mean;     // mu~ [groups][K]
  std::vector<double> weights;  // W of the float network [outputs][K]
};
RoundingProblem rounding_problem(const LayerTurn& turn, ThreadPool& pool);

// Places drawn of all samples, fewer where the columns would need more than 64 MB.
struct DrawnColumns {
  std::int64_t places = 0;
  std::vector<float> columns;  // c~ [groups][places][K]
  std::vector<float> target;   // W x + b of the float network, before the activation, plus what is carried [groups][places][group_out]
};
DrawnColumns drawn_columns(const LayerTurn& turn, const RoundingProblem& problem, std::int64_t places, std::uint64_t seed,
                           ThreadPool& pool);

// The same as moments, which need no memory for places.
struct ColumnProducts {
  std::vector<std::vector<double>> square;  // E[c~ c~^T] of each group [K][K]
  std::vector<double> missing;  // E[r c~^T] [outputs][K], r = target - shift - W c~: what W leaves of the float network's outputs
};
ColumnProducts column_products(const LayerTurn& turn, const RoundingProblem& problem, std::int64_t places, std::uint64_t seed,
                               ThreadPool& pool);

// H = E[c~ c~^T] + damping mean(diag) I, rows and columns in descending order of the diagonal, and U upper triangular with H^-1 = U^T U.
// `upper` is empty where the columns are all 0.
struct ColumnFactor {
  std::vector<std::int64_t> order;    // order[i]: the column that stands at i
  std::vector<double> matrix, upper;  // [K][K]
};
ColumnFactor column_factor(std::span<const double> square, std::int64_t k, double damping);
// Upper triangular U with a^-1 = U^T U (a is n x n, symmetric). Empty where a is not positive definite.
std::vector<double> inverse_factor(const std::vector<double>& a, std::int64_t n);

// The weights, not rounded, that fit the float network's outputs best on the quantized network's inputs: W + E[r c~^T] H^-1, for the rows
// of one group. Errors of earlier layers are made up for here as far as this layer can.
void fit_weights(const ColumnFactor& factor, std::span<const double> missing, std::int64_t k, std::span<double> weights);
// All groups. [outputs][K]
std::vector<double> fitted_weights(const LayerView& layer, const RoundingProblem& problem, const ColumnProducts& products, double damping,
                                   ThreadPool& pool);

// A weight on its grid: real value step * q, q an integer in [lo, hi] (the zero point is taken off).
struct GridPoint {
  double step = 1;
  double lo = 0, hi = 0;
  std::size_t scale = 0;  // its place among the grid's scales
};
// [outputs][K]
std::vector<GridPoint> grid_points(const LayerTurn& turn);
// Rounded to nearest, [outputs][K].
std::vector<double> nearest(const RoundingProblem& problem, const std::vector<GridPoint>& grid);

// The weights step * q as a tensor, the grid of these points pinned, and the bias b~.
LayerEdit rounded_layer(const LayerTurn& turn, const RoundingProblem& problem, const std::vector<GridPoint>& grid,
                        const std::vector<double>& q);

// Row-major y [m, n] = op(a) [m, k] op(b) [k, n]; one thread.
void matrix_product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b,
                    float* y);

}  // namespace nibble
