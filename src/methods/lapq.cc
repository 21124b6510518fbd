// Loss-aware clipping (Nahshan et al. 2021, "Loss aware post-training quantization" (LAPQ)). Clips that minimise each tensor's |x - Q(x)|^p
// depend on one number p for the whole network. Three steps:
//   1. for several p all clips are set so, and the loss of the network is measured;
//   2. a parabola through the losses tells the best p (section 4.2);
//   3. from there the loss is minimised over the clips jointly, by line searches along one direction after the other (Powell's method,
//   section 4.3).
//
// Where we depart from the source: the directions are two, all weights' clips and all activations' clips, instead of one a tensor; the loss
// is that of the outputs against the float network's on calibration samples, which needs no labels.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/fail.h"
#include "methods/layerwise.h"
#include "methods/method_list.h"
#include "numeric/qparams.h"
#include "numeric/quantize.h"
#include "numeric/rounding.h"

namespace nibble {
namespace {

constexpr double kPowers[] = {2.0, 2.5, 3.0, 3.5, 4.0};
constexpr double kFactors[] = {0.85, 0.92, 1.08, 1.15};
constexpr int kRounds = 2;
constexpr std::int64_t kSamples = 32;  // whose loss is measured

// The share of a grid's range that minimises sum |w - Q(w)|^p of its weights.
void clip_weights_by_norm(MethodState& state, const MethodInputs& inputs, double p) {
  for_each_layer_without_data(state, inputs, "lapq weights", [&](const LayerTurn& turn, ThreadPool&) {
    LayerEdit edit;
    const QuantParams& base = turn.quantized.params;
    const auto w = turn.weights().data<float>();
    QuantParams grid = base;
    std::vector<double> best(base.scale.size(), std::numeric_limits<double>::infinity());
    for (int step = 0; step < 16; ++step) {
      const double share = 1 - 0.04 * step;
      std::vector<double> errors(base.scale.size(), 0.0);
      for (std::size_t i = 0; i < w.size(); ++i) {
        const std::size_t s = scale_index(base, turn.weights().shape(), static_cast<std::int64_t>(i));
        const double scale = static_cast<double>(base.scale[s]) * share, zero = static_cast<double>(base.zero_point[s]),
                     x = static_cast<double>(w[i]);
        const double q = std::clamp(rne(x / scale), static_cast<double>(base.qmin()) - zero, static_cast<double>(base.qmax()) - zero);
        errors[s] += std::pow(std::abs(x - q * scale), p);
      }
      for (std::size_t s = 0; s < errors.size(); ++s) {
        if (errors[s] >= best[s]) continue;
        best[s] = errors[s];
        grid.scale[s] = static_cast<float>(static_cast<double>(base.scale[s]) * share);
      }
    }
    edit.grid = std::move(grid);
    return edit;
  });
}

void scale_activations(MethodState& state, double factor) {
  for (auto& [name, entry] : state.ranges.entries) {
    if (entry.range) entry.range = Range{entry.range->lo * factor, entry.range->hi * factor};
  }
}

void scale_weights(MethodState& state, double factor) {
  for (auto& [name, entry] : state.ranges.entries) {
    const auto id = state.graph.find_value(name);
    if (!entry.pinned || !id || !state.graph.is_constant(*id)) continue;
    for (float& scale : entry.pinned->scale) scale = static_cast<float>(static_cast<double>(scale) * factor);
  }
}

}  // namespace

void clip_by_loss(MethodState& state, const MethodInputs& inputs, const MethodOptions&) {
  std::vector<std::int64_t> first(static_cast<std::size_t>(std::min(kSamples, inputs.calibration->size())));
  for (std::size_t i = 0; i < first.size(); ++i)
    first[i] = static_cast<std::int64_t>(i) * inputs.calibration->size() / static_cast<std::int64_t>(first.size());
  const MethodJudge judge(state.reference, subset(inputs.calibration, first), inputs.threads, inputs.progress);
  const auto loss_of = [&](const MethodState& candidate) {
    return judge(quantize(candidate.graph, candidate.ranges, candidate.scheme)).loss;
  };
  const auto with_power = [&](double p) {
    MethodState candidate = state;
    CalibrateOptions options;
    options.methods = {fmt::format("mse:p={}", p)};
    options.target = state.ranges.target;
    options.threads = inputs.threads;
    options.keep_states = false;
    options.progress = inputs.progress;
    const std::vector<RangeTable> tables = calibrate(state.graph, *inputs.calibration, options);
    for (const auto& [name, entry] : tables.at(0).entries) candidate.ranges.entries[name].range = entry.range;
    clip_weights_by_norm(candidate, inputs, p);
    return candidate;
  };

  MethodState best = state;
  double least = loss_of(state), best_power = 0;
  const auto offer = [&](MethodState candidate, double p) {
    const double loss = loss_of(candidate);
    if (loss < least) {
      least = loss;
      best = std::move(candidate);
      best_power = p;
    }
    return loss;
  };
  // Least squares of loss = a p^2 + b p + c, with p counted from the middle.
  double s2 = 0, s4 = 0, l0 = 0, l1 = 0, l2 = 0, n = 0;
  for (const double p : kPowers) {
    const double loss = offer(with_power(p), p), x = p - 3;
    s2 += x * x;
    s4 += x * x * x * x;
    l0 += loss;
    l1 += loss * x;
    l2 += loss * x * x;
    n += 1;
  }
  const double a = (n * l2 - s2 * l0) / (n * s4 - s2 * s2), b = l1 / s2;
  if (a > 0 && std::abs(b / (2 * a)) < 1) offer(with_power(3 - b / (2 * a)), 3 - b / (2 * a));
  for (int round = 0; round < kRounds; ++round) {
    const double before = least;
    for (const double factor : kFactors) {
      MethodState candidate = best;
      scale_weights(candidate, factor);
      offer(std::move(candidate), best_power);
    }
    for (const double factor : kFactors) {
      MethodState candidate = best;
      scale_activations(candidate, factor);
      offer(std::move(candidate), best_power);
    }
    if (!(least < before)) break;
  }
  best.notes.push_back(best_power > 0 ? fmt::format("lapq: p = {:.2f}, loss {:.4g} on calibration samples", best_power, least)
                                      : std::string("lapq: no clip lowers the loss; ranges stay"));
  state = std::move(best);
}

}  // namespace nibble
