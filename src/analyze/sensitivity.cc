#include "analyze/sensitivity.h"

#include <algorithm>
#include <array>

#include "quantize/integer_form.h"
#include "report/for_each_sample.h"
#include "report/scores.h"

namespace nibble {
namespace {

std::size_t index(std::int32_t id) { return static_cast<std::size_t>(id); }

enum Variant : std::size_t { kWeights, kActivations, kAlone, kVariants };

struct Row {
  NodeId node = kNoNode;  // kNoNode: a network input
  ValueId output = kNoValue;
  std::array<bool, kVariants> has = {};
};

struct Sums {
  SquareSums own, output;
  double kl = 0;
  void add(const Sums& other) {
    own.add(other.own);
    output.add(other.output);
    kl += other.kl;
  }
};
struct RowSums {
  std::array<Sums, kVariants> variants;
  SquareSums up_to;
};

// Nodes that add noise: those with weights on a grid, and those whose output is put on a grid of its own. What is tied only moves what is
// there already.
std::vector<Row> rows_of(const Graph& graph, const FakeQuantized& fake) {
  std::vector<Row> rows;
  for (const ValueId v : graph.inputs()) {
    if (fake.grid[index(v)]) rows.push_back({.node = kNoNode, .output = v, .has = {false, true, true}});
  }
  for (NodeId n = 0; n < static_cast<NodeId>(graph.nodes().size()); ++n) {
    const Node& node = graph.node(n);
    const ValueId output = node.output(0);
    if (output == kNoValue || is_tied(node)) continue;
    const bool weights = !fake.constants[index(n)].empty();
    const bool activations = fake.grid[index(output)].has_value();
    if (weights || activations) rows.push_back({.node = n, .output = output, .has = {weights, activations, true}});
  }
  return rows;
}

Interpreter::Change change_for(const FakeQuantized& fake, const Row& row, Variant variant) {
  std::vector<NodeId> nodes;
  std::vector<ValueId> values;
  if (variant != kActivations && row.node != kNoNode) nodes.push_back(row.node);
  if (variant != kWeights) values.push_back(row.output);
  return change_of(fake, nodes, values);
}

}  // namespace

std::vector<LayerSensitivity> layer_sensitivities(const Graph& graph, const FakeQuantized& fake, const Dataset& samples, int threads,
                                                  ProgressSink* progress) {
  const std::vector<Row> rows = rows_of(graph, fake);
  std::vector<std::vector<RowSums>> sums(static_cast<std::size_t>(samples.size()));
  bool scores = true;
  {
    Stage stage(progress, "layer by layer", samples.size());
    for_each_sample(samples, threads, stage, [&]() -> SampleWorker {
      const auto interpreter = std::make_shared<Interpreter>(graph);
      return [&, interpreter](std::int64_t i, const Sample& sample) {
        std::vector<RowSums>& result = sums[static_cast<std::size_t>(i)];
        result.resize(rows.size());
        const std::vector<Tensor> expected = interpreter->keep(sample.inputs);
        const Tensor truth = as_float(expected.at(0));
        const bool scored = score_layout(expected[0]).classes > 1;
        for (std::size_t r = 0; r < rows.size(); ++r) {
          for (const Variant variant : {kWeights, kActivations, kAlone}) {
            if (!rows[r].has[variant]) continue;
            Sums& s = result[r].variants[variant];
            const auto found = interpreter->replay(change_for(fake, rows[r], variant), [&](ValueId v, auto kept, auto changed) {
              if (v == rows[r].output) s.own.add(kept, changed);
            });
            s.output.add(truth.data<float>(), as_float(found[0]).data<float>());
            if (scored) s.kl = mean_kl(expected[0], found[0]);
          }
        }
        std::vector<std::size_t> row_of(graph.values().size(), rows.size());
        for (std::size_t r = 0; r < rows.size(); ++r) row_of[index(rows[r].output)] = r;
        interpreter->replay(change_of_all(fake), [&](ValueId v, auto kept, auto changed) {
          if (row_of[index(v)] < rows.size()) result[row_of[index(v)]].up_to.add(kept, changed);
        });
      };
    });
  }
  if (samples.size() > 0) {
    const Sample sample = samples.sample(0);
    Interpreter interpreter(graph);
    scores = score_layout(interpreter.run(sample.inputs).at(0)).classes > 1;
  }

  std::vector<LayerSensitivity> result;
  const auto n = static_cast<double>(std::max<std::int64_t>(samples.size(), 1));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    RowSums total;
    for (const std::vector<RowSums>& one : sums) {
      for (std::size_t v = 0; v < kVariants; ++v) total.variants[v].add(one[r].variants[v]);
      total.up_to.add(one[r].up_to);
    }
    const Row& row = rows[r];
    LayerSensitivity layer;
    layer.name = row.node == kNoNode ? graph.value(row.output).name : graph.node(row.node).name;
    layer.op_type = row.node == kNoNode ? "Input" : graph.node(row.node).op_type;
    const auto kl = [&](Variant v) { return scores ? std::optional(std::max(total.variants[v].kl / n, 0.0)) : std::nullopt; };
    if (row.has[kWeights]) {
      layer.own_weights_db = total.variants[kWeights].own.sqnr_db();
      layer.output_weights_db = total.variants[kWeights].output.sqnr_db();
      layer.weights_kl = kl(kWeights);
    }
    if (row.has[kActivations]) {
      layer.own_activations_db = total.variants[kActivations].own.sqnr_db();
      layer.output_activations_db = total.variants[kActivations].output.sqnr_db();
      layer.activations_kl = kl(kActivations);
    }
    layer.own_alone_db = total.variants[kAlone].own.sqnr_db();
    layer.output_alone_db = total.variants[kAlone].output.sqnr_db();
    layer.alone_kl = kl(kAlone);
    layer.own_up_to_db = total.up_to.sqnr_db();
    result.push_back(std::move(layer));
  }
  return result;
}

}  // namespace nibble
