// A bias that int32 cannot hold at scale s_x s_w: quantize() widens the weight scale until it fits, and the weights pay with their
// resolution. Channels without weights to speak of have such biases in sound networks, too, and lose nothing: the fix decides.
#include <algorithm>

#include "analyze/cause.h"
#include "base/fail.h"

namespace nibble {
namespace {

struct Fix {
  QuantScheme scheme;
  std::string option;
};

// From the cheapest to the dearest.
std::vector<Fix> fixes_for(const CauseContext& context, const Node& node) {
  std::vector<Fix> fixes;
  const QuantScheme& scheme = context.options.scheme;
  if (!scheme.defaults.weights.per_channel) {
    Fix fix{.scheme = scheme, .option = "--per-channel"};
    fix.scheme.defaults.weights.per_channel = true;
    fixes.push_back(std::move(fix));
  }
  Fix alone{.scheme = scheme, .option = fmt::format("--nodes-to-exclude '{}'", exactly(node.name))};
  alone.scheme.rules.push_back(float_rule(node.name));
  fixes.push_back(alone);
  // Where the bias flows into the output, its readers must not put it on a grid either.
  Fix readers = alone;
  const auto consumers = context.graph.consumers();
  for (const NodeId n : consumers[static_cast<std::size_t>(node.output(0))]) {
    const std::string& name = context.graph.node(n).name;
    readers.scheme.rules.push_back(float_rule(name));
    readers.option += fmt::format(" --nodes-to-exclude '{}'", exactly(name));
  }
  fixes.push_back(std::move(readers));
  return fixes;
}

}  // namespace

void find_overflow(const CauseContext& context, std::vector<Cause>& causes, std::vector<std::string>& observations) {
  const Figures& before = context.base.figures;
  for (const LayerInfo& layer : context.quantized.layers) {
    const auto note = std::find_if(layer.notes.begin(), layer.notes.end(), [](const std::string& text) {
      return text.find("bias would have overflowed") != std::string::npos || text.find("biases do not fit") != std::string::npos;
    });
    if (note == layer.notes.end()) continue;
    const auto& nodes = context.graph.nodes();
    const auto node = std::find_if(nodes.begin(), nodes.end(), [&](const Node& n) { return n.name == layer.name; });
    if (node == nodes.end()) continue;
    bool named = false;
    for (const Fix& fix : fixes_for(context, *node)) {
      const Figures after = context.judged(context.ranges, fix.scheme).figures;
      if (!worth_naming(before, after)) continue;
      causes.push_back({.id = "bias_overflow",
                        .where = layer.name,
                        .evidence = *note,
                        .option = fix.option,
                        .measured_on = "the quantized network",
                        .before = before,
                        .after = after,
                        .damage = gain_of(before, after)});
      named = true;
      break;
    }
    if (!named)
      observations.push_back(fmt::format("{} ({}): {}; it costs the network nothing to speak of", layer.name, layer.op_type, *note));
  }
}

}  // namespace nibble
