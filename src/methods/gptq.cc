// GPTQ (Frantar et al. 2023, "GPTQ: accurate post-training quantization for generative pre-trained transformers", Algorithm 1), for every
// layer whose outputs are products of weights and columns: Conv, Gemm, MatMul, each group by itself.
//
// The error of one output channel is quadratic in its weights, (w - w~) H (w - w~)^T with H = E[c~ c~^T] + d I, d = damping * mean(diag H).
// Weights are rounded one column after the other, and the columns that are still free take over the error: with H^-1 = U^T U, U upper
// triangular,
//     e = (w_i - q_i s_i) / U_ii,   w_j -= e U_ij for j > i.
//
// Where we depart from the source: columns are centred and the bias follows (rounding.h); the weights first move to where they fit the
// float network's outputs best given the quantized network's inputs (fitted_weights() in rounding.h); columns go in descending order of
// their H_ii; and a channel that does worse than rounding to nearest keeps that.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "methods/method_list.h"
#include "methods/rounding.h"
#include "numeric/rounding.h"
#include "ops/onednn.h"

namespace nibble {

namespace {

// One group: `q` [outs][k] comes in rounded to nearest and leaves as chosen.
void round_group(const float* columns, std::span<const double> fitted, std::span<const GridPoint> grid, std::span<double> q,
                 std::int64_t places, std::int64_t outs, std::int64_t k, double damping) {
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  const ColumnFactor factor = column_factor(columns, places, k, damping);
  if (factor.upper.empty()) return;  // the inputs never change: any rounding is as good
  const std::vector<std::int64_t>& order = factor.order;
  const std::vector<double>& sorted = factor.matrix;
  const std::vector<double>& u = factor.upper;
  std::vector<double> w(at(k)), first(at(k)), error(at(k));
  for (std::int64_t o = 0; o < outs; ++o) {
    for (std::int64_t j = 0; j < k; ++j) first[at(j)] = fitted[at(o * k + order[at(j)])];
    w = first;
    std::vector<double> chosen(at(k));
    for (std::int64_t i = 0; i < k; ++i) {
      const GridPoint& point = grid[at(o * k + order[at(i)])];
      chosen[at(i)] = std::clamp(rne(w[at(i)] / point.step), point.lo, point.hi);
      const double e = (w[at(i)] - chosen[at(i)] * point.step) / u[at(i * k + i)];
      const double* row = u.data() + i * k;
      for (std::int64_t j = i + 1; j < k; ++j) w[at(j)] -= e * row[j];
    }
    // The loss of both, up to the part that no weights can change.
    const auto loss = [&](auto value) {
      double total = 0;
      for (std::int64_t i = 0; i < k; ++i) error[at(i)] = first[at(i)] - value(i);
      for (std::int64_t i = 0; i < k; ++i) {
        double sum = 0;
        for (std::int64_t j = 0; j < k; ++j) sum += sorted[at(i * k + j)] * error[at(j)];
        total += sum * error[at(i)];
      }
      return total;
    };
    const double before = loss([&](std::int64_t i) { return q[at(o * k + order[at(i)])] * grid[at(o * k + order[at(i)])].step; });
    const double after = loss([&](std::int64_t i) { return chosen[at(i)] * grid[at(o * k + order[at(i)])].step; });
    if (!(after < before)) continue;
    for (std::int64_t i = 0; i < k; ++i) q[at(o * k + order[at(i)])] = chosen[at(i)];
  }
}

}  // namespace

void round_with_gptq(MethodState& state, const MethodInputs& inputs, const MethodOptions& options) {
  const double damping = options.at("damping");
  const auto places = static_cast<std::int64_t>(options.at("places"));
  std::vector<std::string> notes;
  for_each_layer(state, inputs, "gptq", [&](const LayerTurn& turn, ThreadPool& pool) {
    if (!has_columns(turn.node)) {
      notes.push_back(fmt::format("gptq: '{}' ({}) is rounded to nearest", turn.node.name, turn.node.op_type));
      return LayerEdit{};
    }
    const LayerView& layer = turn.view;
    const RoundingProblem problem = rounding_problem(turn, places, inputs.seed + static_cast<std::uint64_t>(layer.node), pool);
    const std::vector<GridPoint> grid = grid_points(turn);
    const std::vector<double> fitted = fitted_weights(layer, problem, damping, pool);
    std::vector<double> q = nearest(problem, grid);
    const std::int64_t k = layer.columns(), outs = layer.group_out;
    pool.parallel_for(layer.groups, 1, [&](std::int64_t begin, std::int64_t end) {
      const nn::OnednnThreads one_thread(1);
      for (std::int64_t g = begin; g < end; ++g) {
        const auto rows = static_cast<std::size_t>(g * outs * k), size = static_cast<std::size_t>(outs * k);
        round_group(problem.columns.data() + g * problem.places * k, std::span(fitted).subspan(rows, size),
                    std::span(grid).subspan(rows, size), std::span(q).subspan(rows, size), problem.places, outs, k, damping);
      }
    });
    return rounded_layer(turn, problem, grid, q);
  });
  state.notes.insert(state.notes.end(), notes.begin(), notes.end());
}

}  // namespace nibble
