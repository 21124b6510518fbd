// Long graphs: every step here is linear, so a quadratic one would take minutes.
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph_test_util.h"
#include "nibble/graph.h"

namespace nibble {
namespace {

using test::make_node;

constexpr int kNodes = 200000;

// Far above what linear time needs on a slow machine under sanitizers; n * n steps are 4e10.
class Scale : public testing::Test {
 protected:
  void TearDown() override { EXPECT_LT(std::chrono::steady_clock::now() - start_, std::chrono::seconds(60)); }
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Graph long_chain(bool backwards) {
  Graph graph;
  GraphEditor editor(graph);
  std::vector<ValueId> values = {editor.add_input("x", {})};
  for (int i = 0; i < kNodes; ++i) values.push_back(editor.add_value(""));
  for (int i = 0; i < kNodes; ++i) {
    const auto n = static_cast<std::size_t>(backwards ? kNodes - 1 - i : i);
    editor.add_node(make_node("Identity", {values[n]}, {values[n + 1]}));
  }
  editor.set_outputs(std::vector<ValueId>{values.back()});
  editor.finish();
  return graph;
}

TEST_F(Scale, AChainBuiltBackwardsIsSorted) {
  const Graph graph = long_chain(true);
  ASSERT_EQ(graph.nodes().size(), static_cast<std::size_t>(kNodes));
  EXPECT_EQ(graph.value(graph.nodes().front().inputs[0]).name, "x");
  EXPECT_EQ(graph.consumers().size(), static_cast<std::size_t>(kNodes) + 1);
}

TEST_F(Scale, AChainThroughTheText) {
  const std::string text = print_graph(long_chain(false));
  EXPECT_EQ(print_graph(parse_graph_text(text)), text);
}

TEST_F(Scale, AChainOfReplacements) {
  Graph graph = long_chain(false);
  GraphEditor editor(graph);
  std::unordered_map<ValueId, ValueId> replacements;
  for (std::size_t n = 1; n < graph.nodes().size(); ++n) replacements.emplace(graph.nodes()[n].outputs[0], graph.nodes()[n].inputs[0]);
  editor.replace_uses(replacements);
  editor.finish();
  EXPECT_EQ(graph.nodes().size(), 1U);
}

TEST_F(Scale, ACycle) {
  Graph graph = long_chain(false);
  GraphEditor editor(graph);
  editor.set_input(0, 0, graph.outputs()[0]);
  test::message([&] { editor.finish(); });
}

}  // namespace
}  // namespace nibble
