// Weight clipping: the scale of each weight grid that minimises the error of the layer's outputs as far as it comes from single weights,
//     sum_k E[x_k^2] (w_k - Q(w_k))^2,
// x_k the inputs that the quantized network feeds to weight k. A few large weights that meet small inputs no longer set the step of all
// others. (The weighting is the diagonal of the Hessian in Nagel et al. 2020, Eq. 12; without it this is the MSE clip of Banner et al.
// 2018.)
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "methods/columns.h"
#include "methods/layerwise.h"
#include "methods/method_list.h"
#include "methods/rounding.h"
#include "numeric/qparams.h"
#include "numeric/quantize.h"
#include "numeric/rounding.h"

namespace nibble {
namespace {

constexpr double kSmallest = 0.3;  // of the range that holds all weights
constexpr int kSteps = 71;         // 1.00, 0.99 ... 0.30
constexpr double kBiasLimit = 1073741824.0;

}  // namespace

void clip_weights(MethodState& state, const MethodInputs& inputs, const MethodOptions&) {
  std::vector<std::string> notes;
  for_each_layer(state, inputs, "weight clipping", [&](const LayerTurn& turn, ThreadPool& pool) {
    LayerEdit edit;
    if (!has_columns(turn.node)) {
      notes.push_back(fmt::format("weight_clipping: '{}' ({}) keeps its range", turn.node.name, turn.node.op_type));
      return edit;
    }
    const LayerView& layer = turn.view;
    const QuantParams& base = turn.quantized.params;
    const ColumnMoments moments = column_moments(turn.node, layer, turn.weights().shape(), turn.quantized_inputs, pool);
    const TensorScheme& scheme = turn.plan.schemes[static_cast<std::size_t>(layer.node)].weights;

    // The weights of each scale, with their importance.
    struct Weight {
      double value, importance;
    };
    std::vector<std::vector<Weight>> members(base.scale.size());
    std::vector<double> least(base.scale.size(), 0.0);  // a smaller scale would not hold the bias
    const auto w = turn.weights().data<float>();
    const std::vector<double> bias = bias_of(turn.state.graph, layer);
    for (std::int64_t o = 0; o < layer.outputs(); ++o) {
      for (std::int64_t i = 0; i < layer.group_in; ++i) {
        for (std::int64_t t = 0; t < layer.taps; ++t) {
          const std::int64_t flat = layer.place(o, i, t);
          const std::size_t s = scale_index(base, turn.weights().shape(), flat);
          members[s].push_back({static_cast<double>(w[static_cast<std::size_t>(flat)]),
                                moments.square[static_cast<std::size_t>(o / layer.group_out * layer.columns() + i * layer.taps + t)]});
          least[s] = std::max(least[s], std::abs(bias[static_cast<std::size_t>(o)]) / (static_cast<double>(turn.src_scale) * kBiasLimit));
        }
      }
    }
    QuantParams grid = base;
    pool.parallel_for(static_cast<std::int64_t>(members.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const auto s = static_cast<std::size_t>(i);
        const double lo = static_cast<double>(base.qmin() - base.zero_point[s]) * static_cast<double>(base.scale[s]);
        const double hi = static_cast<double>(base.qmax() - base.zero_point[s]) * static_cast<double>(base.scale[s]);
        double best = std::numeric_limits<double>::infinity();
        for (int step = 0; step < kSteps; ++step) {
          const double share = 1 - (1 - kSmallest) * step / (kSteps - 1);
          const ScaleZeroPoint candidate = step == 0 ? ScaleZeroPoint{base.scale[s], base.zero_point[s]}
                                                     : choose_qparams(lo * share, hi * share, base.type, scheme.symmetric);
          const auto scale = static_cast<double>(candidate.scale);
          if (step > 0 && scale < least[s]) break;
          const auto qlo = static_cast<double>(base.qmin() - candidate.zero_point),
                     qhi = static_cast<double>(base.qmax() - candidate.zero_point);
          double error = 0;
          for (const Weight& weight : members[s]) {
            const double d = weight.value - scale * std::clamp(rne(weight.value / scale), qlo, qhi);
            error += weight.importance * d * d;
          }
          if (error >= best) continue;
          best = error;
          grid.scale[s] = candidate.scale;
          grid.zero_point[s] = candidate.zero_point;
        }
      }
    });
    edit.grid = grid;
    return edit;
  });
  state.notes.insert(state.notes.end(), notes.begin(), notes.end());
}

}  // namespace nibble
