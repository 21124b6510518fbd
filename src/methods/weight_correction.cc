// Weight mean and variance correction (Banner et al. 2019, "Post training 4-bit quantization of convolutional networks for
// rapid-deployment", Eqs. 7-8): rounding changes mean and standard deviation of each output channel's weights, W' = xi (W~ + mu(W) -
// mu(W~)) with xi = sigma(W) / sigma(W~) puts both right.
//
// A grid of integers cannot hold a shift of all weights by part of a step. The mean is put right by moving single codes by one, those first
// that were closest to the other neighbour; what remains is at most half a step divided by the number of weights. xi goes into the
// channel's scale, so it costs nothing at run time; where all channels share one scale, only means are corrected.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "methods/layerwise.h"
#include "methods/method_list.h"
#include "numeric/quantize.h"

namespace nibble {

void correct_weights(MethodState& state, const MethodInputs& inputs, const MethodOptions&) {
  for_each_layer_without_data(state, inputs, "weight correction", [&](const LayerTurn& turn, ThreadPool&) {
    const LayerView& layer = turn.view;
    QuantParams grid = turn.quantized.params;
    const bool own_scales = std::holds_alternative<PerChannel>(grid.granularity);
    const auto w = turn.reference_weights().data<float>();
    std::vector<std::int32_t> codes = codes_of(turn.quantized.codes);
    const Shape& shape = turn.weights().shape();
    const auto count = static_cast<std::size_t>(layer.columns());
    Tensor values(DataType::kFloat32, shape);
    const auto out = values.mutable_data<float>();
    for (std::int64_t o = 0; o < layer.outputs(); ++o) {
      std::vector<std::size_t> flat;
      for (std::int64_t i = 0; i < layer.group_in; ++i) {
        for (std::int64_t t = 0; t < layer.taps; ++t) flat.push_back(static_cast<std::size_t>(layer.place(o, i, t)));
      }
      const auto real = [&](std::size_t at) {
        const std::size_t s = scale_index(grid, shape, static_cast<std::int64_t>(at));
        return static_cast<double>(codes[at] - grid.zero_point[s]) * static_cast<double>(grid.scale[s]);
      };
      // Twice, since xi scales the mean as well.
      for (int round = 0; round < (own_scales ? 2 : 1); ++round) {
        double wanted = 0, found = 0;
        for (const std::size_t at : flat) {
          wanted += static_cast<double>(w[at]);
          found += real(at);
        }
        std::vector<std::size_t> order = flat;
        const double direction = wanted > found ? 1 : -1;
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
          return direction * (static_cast<double>(w[a]) - real(a)) > direction * (static_cast<double>(w[b]) - real(b));
        });
        for (const std::size_t at : order) {
          const auto step = static_cast<double>(grid.scale[scale_index(grid, shape, static_cast<std::int64_t>(at))]);
          if (std::abs(wanted - found) <= step / 2) break;
          const std::int64_t moved = codes[at] + static_cast<std::int64_t>(direction);
          if (moved < grid.qmin() || moved > grid.qmax()) continue;
          codes[at] = static_cast<std::int32_t>(moved);
          found += direction * step;
        }
        if (!own_scales) break;
        double mean_w = wanted / static_cast<double>(count), mean_q = found / static_cast<double>(count), var_w = 0, var_q = 0;
        for (const std::size_t at : flat) {
          var_w += (static_cast<double>(w[at]) - mean_w) * (static_cast<double>(w[at]) - mean_w);
          var_q += (real(at) - mean_q) * (real(at) - mean_q);
        }
        if (!(var_w > 0) || !(var_q > 0)) break;
        float& scale = grid.scale[scale_index(grid, shape, static_cast<std::int64_t>(flat[0]))];
        scale = static_cast<float>(static_cast<double>(scale) * std::sqrt(var_w / var_q));
      }
      for (const std::size_t at : flat) out[at] = static_cast<float>(real(at));
    }
    LayerEdit edit;
    edit.weights = std::move(values);
    edit.grid = std::move(grid);
    return edit;
  });
}

}  // namespace nibble
