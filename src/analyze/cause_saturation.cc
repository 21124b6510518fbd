// A Clip whose upper bound cuts off what the layers behind it need. A channel that was scaled (by an equalization that forgot the bound, or
// a network that was trained with ReLU) leaves the float network itself wrong, so the fix is tried there: ReLU in the place of the Clip.
#include <algorithm>
#include <limits>

#include "analyze/cause.h"
#include "base/fail.h"
#include "ops/fused_activation.h"

namespace nibble {
namespace {

constexpr std::size_t kTried = 6;     // Clips, the most saturated first
constexpr double kSaturated = 0.005;  // share of elements at the bound below which a Clip is left alone

struct Place {
  NodeId node = kNoNode;
  double share = 0;
  float bound = 0;
};

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

Graph without_bounds(const Graph& graph, const std::vector<NodeId>& nodes) {
  Graph copy = graph;
  GraphEditor editor(copy);
  for (const NodeId n : nodes) editor.set_attribute(n, "activation_max", std::numeric_limits<float>::max());
  editor.finish(GraphEditor::Prune::kNo);
  return copy;
}

}  // namespace

void find_saturation(const CauseContext& context, std::vector<Cause>& causes, std::vector<std::string>&) {
  if (!context.wide.truth().figures.top1) return;  // without labels nothing tells which of two float networks is right
  std::vector<Place> places;
  for (NodeId n = 0; n < static_cast<NodeId>(context.graph.nodes().size()); ++n) {
    const Node& node = context.graph.node(n);
    if (node.get_string("activation", "") != "Clip") continue;
    const FusedActivation activation = fused_activation(node);
    const ValueStats& stats = context.stats[index(node.output(0))];
    const auto seen = static_cast<double>(stats.per_channel) * static_cast<double>(stats.lo.size());
    if (seen <= 0 || activation.high >= std::numeric_limits<float>::max()) continue;
    const double share = static_cast<double>(stats.at_high) / seen;
    if (share >= kSaturated) places.push_back({.node = n, .share = share, .bound = activation.high});
  }
  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return a.share > b.share; });
  if (places.size() > kTried) places.resize(kTried);
  std::vector<Cause> found;
  for (const Place& place : places) {
    const Judgement after = context.wide.of_float(without_bounds(context.graph, {place.node}));
    if (!clearly_better(compare_hits(context.wide.truth(), after))) continue;
    const std::string& name = context.graph.node(place.node).name;
    found.push_back(
        {.id = "clipped_activation",
         .where = name,
         .evidence = fmt::format("{:.1f} % of its output sit at its bound {:g}", 100 * place.share, place.bound),
         .option = fmt::format("ReLU in the place of the Clip behind '{}', or its weights as they were before they were scaled", name),
         .measured_on = "the float network",
         .before = context.wide.truth().figures,
         .after = after.figures,
         .damage = gain_of(context.wide.truth().figures, after.figures)});
  }
  causes.insert(causes.end(), found.begin(), found.end());
}

}  // namespace nibble
