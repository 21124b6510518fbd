// Two ways to dynamic fixed point: every scale a power of two, another one in every layer.
//
// `qiu` (Qiu et al. 2016, "Going deeper with embedded FPGA platform for convolutional neural network", section 5.1): first the weights of
// each layer,
//     f = argmin sum |w - w'(n, f)|,
// then, layer by layer with the earlier ones quantized, its features, compared with the float network's: f = argmin sum |x - x'(n, f)|.
//
// `ristretto` (Gysel et al. 2018, section III): integer bits from the largest magnitude, so nothing saturates: the smallest power of two
// that is not below the scale. Then the weights lose bits, all layers together, for as long as the loss on the deciding samples stays below
// `margin`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "methods/layerwise.h"
#include "methods/method_list.h"
#include "numeric/qparams.h"
#include "numeric/quantize.h"
#include "numeric/rounding.h"

namespace nibble {
namespace {

constexpr int kCandidates = 4;        // the power of two that holds everything, and the three below it
constexpr std::size_t kSamples = 16;  // whose features are compared

// Every scale a power of two: that which holds all weights, times 2^-shift.
QuantParams power_of_two_grid(QuantParams grid, int shift) {
  for (float& scale : grid.scale) scale = std::ldexp(power_of_two_scale(scale), -shift);
  return grid;
}

double error_of(double x, double scale, double lo, double hi) { return std::abs(x - scale * std::clamp(rne(x / scale), lo, hi)); }

void pin_activations_by_range(MethodState& state) {
  const QuantizationPlan plan = plan_quantization(state.graph, state.ranges, state.scheme);
  for (std::size_t v = 0; v < plan.grid.size(); ++v) {
    if (!plan.grid[v]) continue;
    QuantParams grid = *plan.grid[v];
    grid.scale[0] = power_of_two_scale(grid.scale[0]);
    state.ranges.entries[state.graph.values()[v].name].pinned = grid;
  }
}

void pin_weights(MethodState& state, const MethodInputs& inputs, int fewer_bits) {
  for_each_layer_without_data(state, inputs, "ristretto", [&](const LayerTurn& turn, ThreadPool&) {
    LayerEdit edit;
    QuantParams grid = turn.quantized.params;
    const double reach = static_cast<double>(grid.qmax());
    grid.type.bit_width -= fewer_bits;
    const double less = reach / std::max(1.0, static_cast<double>(grid.qmax()));
    for (float& scale : grid.scale) scale = static_cast<float>(static_cast<double>(scale) * less);
    for (std::size_t i = 0; i < grid.zero_point.size(); ++i)
      grid.zero_point[i] = static_cast<std::int32_t>(std::clamp<std::int64_t>(grid.zero_point[i] >> fewer_bits, grid.qmin(), grid.qmax()));
    edit.grid = power_of_two_grid(std::move(grid), 0);
    return edit;
  });
}

}  // namespace

void choose_fixed_point_greedily(MethodState& state, const MethodInputs& inputs, const MethodOptions&) {
  for_each_layer(state, inputs, "qiu", [&](const LayerTurn& turn, ThreadPool&) {
    LayerEdit edit;
    const auto w = turn.weights().data<float>();
    const QuantParams base = power_of_two_grid(turn.quantized.params, 0);
    std::vector<double> best(base.scale.size(), std::numeric_limits<double>::infinity());
    QuantParams grid = base;
    for (int shift = 0; shift < kCandidates; ++shift) {
      const QuantParams candidate = power_of_two_grid(turn.quantized.params, shift);
      std::vector<double> errors(best.size(), 0.0);
      for (std::size_t i = 0; i < w.size(); ++i) {
        const std::size_t s = scale_index(candidate, turn.weights().shape(), static_cast<std::int64_t>(i));
        const auto zero = static_cast<double>(candidate.zero_point[s]);
        errors[s] += error_of(static_cast<double>(w[i]), static_cast<double>(candidate.scale[s]),
                              static_cast<double>(candidate.qmin()) - zero, static_cast<double>(candidate.qmax()) - zero);
      }
      for (std::size_t s = 0; s < errors.size(); ++s) {
        if (errors[s] >= best[s]) continue;
        best[s] = errors[s];
        grid.scale[s] = candidate.scale[s];
      }
    }
    edit.grid = grid;

    // The features: what the rounded layer makes of the quantized inputs, on each candidate, against the float network's.
    Tensor rounded(DataType::kFloat32, turn.weights().shape());
    fake_quantize(w, turn.weights().shape(), grid, rounded.mutable_data<float>());
    NodeRunner real(turn.state.reference, turn.view.node, {}), quantized(turn.state.graph, turn.view.node, {.weights = &rounded});
    const QuantParams& output = *turn.plan.grid[static_cast<std::size_t>(turn.view.output)];
    std::vector<double> errors(kCandidates, 0.0);
    for (std::size_t s = 0; s < std::min(kSamples, turn.real_inputs.size()); ++s) {
      const Tensor wanted = real.run(turn.real_inputs.subspan(s, 1))[0], found = quantized.run(turn.quantized_inputs.subspan(s, 1))[0];
      for (int shift = 0; shift < kCandidates; ++shift) {
        const QuantParams candidate = power_of_two_grid(output, shift);
        const auto zero = static_cast<double>(candidate.zero_point[0]), scale = static_cast<double>(candidate.scale[0]);
        for (std::size_t i = 0; i < found.data<float>().size(); ++i) {
          const double q = std::clamp(rne(static_cast<double>(found.data<float>()[i]) / scale),
                                      static_cast<double>(candidate.qmin()) - zero, static_cast<double>(candidate.qmax()) - zero);
          errors[static_cast<std::size_t>(shift)] += std::abs(static_cast<double>(wanted.data<float>()[i]) - q * scale);
        }
      }
    }
    const auto least = std::min_element(errors.begin(), errors.end());
    edit.output = power_of_two_grid(output, static_cast<int>(least - errors.begin()));
    return edit;
  });
  // What no layer makes (inputs, sums) takes the power of two that holds its range.
  const QuantizationPlan plan = plan_quantization(state.graph, state.ranges, state.scheme);
  for (std::size_t v = 0; v < plan.grid.size(); ++v) {
    if (!plan.grid[v] || plan.grid[v]->scale[0] == power_of_two_scale(plan.grid[v]->scale[0])) continue;
    state.ranges.entries[state.graph.values()[v].name].pinned = power_of_two_grid(*plan.grid[v], 0);
  }
}

void trim_fixed_point(MethodState& state, const MethodInputs& inputs, const MethodOptions& options) {
  const double margin = options.at("margin");
  pin_activations_by_range(state);
  const MethodState start = state;
  pin_weights(state, inputs, 0);
  int bits = state.scheme.defaults.weights.type.bit_width, fewer = 0;
  if (inputs.deciding == nullptr || inputs.deciding->size() == 0) {
    state.notes.push_back("ristretto: no samples decide on fewer bits; all are kept");
    return;
  }
  const MethodJudge judge(state.reference, inputs.deciding, inputs.threads, inputs.progress);
  const double first = judge(quantize(state.graph, state.ranges, state.scheme)).loss;
  while (bits - fewer > 3) {
    MethodState candidate = start;
    pin_weights(candidate, inputs, fewer + 1);
    if (!(judge(quantize(candidate.graph, candidate.ranges, candidate.scheme)).loss <= first + margin)) break;
    state = std::move(candidate);
    ++fewer;
  }
  state.notes.push_back(fmt::format("ristretto: weights of {} bits cost less than {} on the deciding samples", bits - fewer, margin));
}

}  // namespace nibble
