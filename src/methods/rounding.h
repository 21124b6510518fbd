// What the methods that round weights share: the layer's regression problem, and the grid seen weight by weight.
//
// Let mu, mu~ be the means of the columns of the float and of the quantized network. A correction of the bias takes any error of a layer's
// mean away (bias_correction.cc), so rounding should not be chosen for it: with centred columns c~ = x~ - mu~ the layer is
//     z~ = W~ c~ + (b + W mu),          bias b~ = b + W mu - W~ mu~,
// whose mean is right whatever W~ is. Layers that cannot take a bias (MatMul) have mu = mu~ = 0.
#pragma once

#include <cstdint>
#include <vector>

#include "methods/columns.h"
#include "methods/layerwise.h"

namespace nibble {

struct RoundingProblem {
  std::int64_t places = 0;
  std::vector<float> columns;   // c~ [groups][places][K]
  std::vector<float> target;    // W x + b of the float network, before the activation [groups][places][group_out]
  std::vector<double> shift;    // b + W mu, one an output channel
  std::vector<double> mean;     // mu~ [groups][K]
  std::vector<double> weights;  // W of the float network [outputs][K]
};
// At most `places` places of all samples, fewer where the columns would need more than 64 MB.
RoundingProblem rounding_problem(const LayerTurn& turn, std::int64_t places, std::uint64_t seed, ThreadPool& pool);

// H = E[c~ c~^T] + damping mean(diag H) I of one group's columns, rows and columns in descending order of the diagonal, and U upper
// triangular with H^-1 = U^T U. `upper` is empty where the columns are all 0.
struct ColumnFactor {
  std::vector<std::int64_t> order;    // order[i]: the column that stands at i
  std::vector<double> matrix, upper;  // [K][K]
};
ColumnFactor column_factor(const float* columns, std::int64_t places, std::int64_t k, double damping);
// Upper triangular U with a^-1 = U^T U (a is n x n, symmetric). Empty where a is not positive definite.
std::vector<double> inverse_factor(const std::vector<double>& a, std::int64_t n);

// The weights, not rounded, that fit the float network's outputs best on the quantized network's inputs: W + E[(W c - W c~) c~^T] H^-1.
// Errors of earlier layers are made up for here as far as this layer can. [outputs][K]
std::vector<double> fitted_weights(const LayerView& layer, const RoundingProblem& problem, double damping, ThreadPool& pool);

// A weight on its grid: real value step * q, q an integer in [lo, hi] (the zero point is taken off).
struct GridPoint {
  double step = 1;
  double lo = 0, hi = 0;
};
// [outputs][K]
std::vector<GridPoint> grid_points(const LayerTurn& turn);
// Rounded to nearest, [outputs][K].
std::vector<double> nearest(const RoundingProblem& problem, const std::vector<GridPoint>& grid);

// The weights step * q as a tensor, the grid pinned, and the bias b~.
LayerEdit rounded_layer(const LayerTurn& turn, const RoundingProblem& problem, const std::vector<GridPoint>& grid,
                        const std::vector<double>& q);

// Row-major y [m, n] = op(a) [m, k] op(b) [k, n]; one thread.
void matrix_product(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const float* a, const float* b,
                    float* y);

}  // namespace nibble
