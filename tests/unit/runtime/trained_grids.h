// Networks as training leaves them: weights that lie on grids, every grid pinned.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "nibble/passes.h"
#include "nibble/quantize.h"
#include "quantize/plan.h"
#include "quantize/step_form.h"
#include "quantize/weights.h"
#include "support/quantized.h"

namespace nibble::test {

// One grid of weights as a method leaves it: the codes that occur, and how scales are drawn.
struct TrainedBase {
  QuantType type;
  std::vector<int> codes;
  bool per_channel = true;
};
// One base, or a sum of several. With `disjoint`, at most one of them is not 0 for a weight.
struct TrainedWeights {
  std::string name;
  std::vector<TrainedBase> bases;
  bool disjoint = false;
  bool folded = false;  // BatchNormalization was folded: some channels have flipped signs, one has nothing but zeros
};

inline std::ostream& operator<<(std::ostream& out, const TrainedWeights& form) { return out << form.name; }

struct TrainedNetwork {
  Graph graph;
  RangeTable ranges;
};

// Draws the weights of every layer of `graph` from `weights` (`exact_scales`: powers of two), then pins every weight and every activation: where `pins`
// has nothing, on the grid that `scheme` gives its range.
inline TrainedNetwork trained_network(Graph graph, const TrainedWeights& weights, const QuantScheme& scheme, const std::map<std::string, QuantParams>& pins,
                                      std::uint64_t seed, const std::string& not_these = "none") {
  std::mt19937_64 random(seed);
  const auto uniform = [&](double lo, double hi) { return lo + (hi - lo) * static_cast<double>(random() >> 11) * 0x1p-53; };
  canonicalize(graph);
  RangeTable pinned;
  GraphEditor editor(graph);
  for (const Node& node : graph.nodes()) {
    const bool layer = node.op_type == "Conv" || node.op_type == "ConvTranspose" || node.op_type == "Gemm" || node.op_type == "MatMul";
    if (!layer || !graph.is_constant(node.input(1)) || node.name.find(not_these) != std::string::npos) continue;
    const ValueId w = node.input(1);
    const Shape shape = graph.value(w).constant->shape();
    const WeightLayout layout = weight_layout(node, shape);
    const std::int64_t axis = node.op_type == "Conv" || (node.op_type == "Gemm" && node.get_int("transB", 0) != 0) ? 0 : 1;
    const bool may_split = node.op_type != "ConvTranspose" || node.get_int("group", 1) == 1;
    std::vector<QuantParams> grids;
    for (const TrainedBase& base : weights.bases) {
      const bool per_channel = base.per_channel && may_split;
      QuantParams grid{.type = base.type, .granularity = PerTensor{}, .scale = {}, .zero_point = {}};
      if (per_channel) grid.granularity = PerChannel{axis};
      const int largest = std::abs(*std::max_element(base.codes.begin(), base.codes.end(), [](int a, int b) { return std::abs(a) < std::abs(b); }));
      for (std::int64_t o = 0; o < (per_channel ? layout.channels : 1); ++o) {
        double scale = uniform(0.2, 1) / largest / std::sqrt(static_cast<double>(layout.reduction));
        if (scheme.law == RequantizeLaw::kShift) scale = std::exp2(std::round(std::log2(scale)));
        grid.scale.push_back(static_cast<float>(scale));
      }
      grid.zero_point.assign(grid.scale.size(), 0);
      grids.push_back(std::move(grid));
    }
    std::vector<int> sign(static_cast<std::size_t>(layout.channels), 1);
    if (weights.folded) {
      for (int& s : sign) s = random() % 3 == 0 ? -1 : 1;
      sign[random() % sign.size()] = 0;
    }
    Tensor tensor = Tensor::zeros(DataType::kFloat32, shape);
    auto values = tensor.mutable_data<float>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto o = static_cast<std::size_t>(layout.channel_of(static_cast<std::int64_t>(i)));
      const std::size_t only = random() % (weights.bases.size() + 1);
      for (std::size_t j = 0; j < grids.size(); ++j) {
        const std::vector<int>& codes = weights.bases[j].codes;
        int code = codes[random() % codes.size()];
        if (weights.disjoint && j != only) code = 0;
        const float scale = grids[j].scale[grids[j].scale.size() == 1 ? 0 : o];
        // A multiplication that rounds, as folding does.
        values[i] += static_cast<float>(sign[o] * code) * scale * 1.0000001F;
      }
    }
    // Whatever a channel of zeros was pinned to: it must not matter.
    for (QuantParams& grid : grids) {
      for (std::size_t o = 0; o < sign.size() && grid.scale.size() > 1; ++o) {
        if (sign[o] == 0) grid.scale[o] = 0x1p-110F;
      }
    }
    editor.set_constant(w, tensor);
    RangeEntry& entry = pinned.entries[graph.value(w).name];
    if (grids.size() == 1) entry.pinned = grids[0];
    else entry.bases = grids;
  }
  editor.finish();

  const std::vector<std::vector<Tensor>> samples = {random_inputs(graph, seed + 1, -1.0F, 1.0F, 2), random_inputs(graph, seed + 2, -1.0F, 1.0F, 2)};
  RangeTable ranges = observe_ranges(graph, samples);
  for (const auto& [name, params] : pins) ranges.entries[name].pinned = params;
  Graph fused = graph;
  fuse_steps(fused);
  const QuantizationPlan plan = plan_quantization(fused, ranges, scheme);
  for (std::size_t v = 0; v < plan.grid.size(); ++v) {
    if (plan.grid[v]) pinned.entries[fused.values()[v].name].pinned = plan.grid[v];
  }
  return {.graph = std::move(graph), .ranges = std::move(pinned)};
}

}  // namespace nibble::test
