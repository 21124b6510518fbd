// Float -> float rewrites that make a graph canonical.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nibble/graph.h"

namespace nibble {

// What a pass did: one entry for each place it changed or declined to change.
struct PassReport {
  std::string pass;
  struct Item {
    std::string node;
    std::string what;  // applied: what was done; declined: why not
  };
  std::vector<Item> applied;
  std::vector<Item> declined;
};

struct PassInfo {
  std::string_view name;
  std::string_view summary;
  void (*run)(Graph& graph, PassReport& report);
};
// eliminate_identity, fold_constants, fold_batch_norm, fuse_activation ... in the order of the pipeline.
std::span<const PassInfo> pass_table();
// Runs the whole pipeline; the graph is verified after each pass. Values that remain keep their names; graph inputs and outputs keep names and types.
std::vector<PassReport> canonicalize(Graph& graph);
PassReport run_pass(std::string_view name, Graph& graph);

}  // namespace nibble
