// Layers whose outputs never change: all of them, or most channels.
#include <algorithm>

#include "analyze/cause.h"
#include "base/fail.h"
#include "quantize/integer_form.h"

namespace nibble {

void find_dead(const CauseContext& context, std::vector<Cause>& causes, std::vector<std::string>& observations) {
  constexpr double kMost = 0.9;
  for (const Node& node : context.graph.nodes()) {
    const ValueId v = node.output(0);
    if (v == kNoValue || !operands_of(context.graph, node).weights) continue;
    const ValueStats& stats = context.stats[static_cast<std::size_t>(v)];
    if (stats.lo.empty() || stats.per_channel < 2) continue;
    std::int64_t dead = 0;
    for (std::size_t c = 0; c < stats.lo.size(); ++c) dead += stats.lo[c] == stats.hi[c] ? 1 : 0;
    if (dead == 0) continue;
    const auto channels = std::ssize(stats.lo);
    if (static_cast<double>(dead) >= kMost * static_cast<double>(channels)) {
      causes.push_back(
          {.id = "dead_layer",
           .where = node.name,
           .evidence = fmt::format("{} of its {} output channels have one value on all calibration samples", dead, channels),
           .option = "look at the model (weights or bias of this layer) and at the data: nothing that quantization does helps here",
           .measured_on = "the float network",
           .before = std::nullopt,
           .after = std::nullopt,
           .damage = 0});
    } else {
      observations.push_back(fmt::format("{} ({}): {} of {} channels never change", node.name, node.op_type, dead, channels));
    }
  }
}

}  // namespace nibble
