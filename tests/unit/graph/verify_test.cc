// Every broken invariant is found and named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "graph_test_util.h"
#include "nibble/graph.h"

namespace nibble {
namespace {

using test::id;
using test::message;
using testing::HasSubstr;

// What verify() says of a sound graph after one change.
std::string after(const std::function<void(Graph&, GraphEditor&)>& change) {
  Graph graph = parse_graph_text(R"(graph g
input x float32
const k float32[] = {1}
a = Add(x, k) name "A"
y = Relu(a) name "B"
output y
)");
  EXPECT_NO_THROW(verify(graph));
  GraphEditor editor(graph);
  change(graph, editor);
  return message([&] { verify(graph); });
}

// A node as only a bug could leave it: the editor has no such edit.
Node& broken(Graph& graph, NodeId n) { return const_cast<Node&>(graph.node(n)); }

TEST(Verify, Values) {
  EXPECT_EQ(after([](Graph& g, GraphEditor& e) { e.rename_value(id(g, "a"), ""); }), "value 2 has no name");
  EXPECT_EQ(after([](Graph& g, GraphEditor& e) { e.rename_value(id(g, "a"), "k"); }), "two values are named 'k'");
  EXPECT_EQ(after([](Graph& g, GraphEditor& e) { e.set_constant(id(g, "a"), Tensor::scalar(1.0F)); }),
            "value 'a' is an initializer and also the output of a node");
  EXPECT_EQ(after([](Graph& g, GraphEditor& e) { e.set_outputs(1, {id(g, "y"), id(g, "y")}); }),
            "value 'y' is produced twice; the second time by node 'B' (Relu)");
  EXPECT_EQ(after([](Graph& g, GraphEditor& e) { e.set_outputs(1, {id(g, "y"), id(g, "a")}); }), "value 'a' does not know its producer 'A'");
  EXPECT_THAT(after([](Graph& g, GraphEditor& e) { e.clear_constant(id(g, "k")); }),
              HasSubstr("node 'A' (Add) reads 'k', which nothing before it produces"));
}

TEST(Verify, Inputs) {
  EXPECT_EQ(after([](Graph&, GraphEditor& e) { e.set_inputs(std::vector<ValueId>{99}); }), "a graph input has the impossible id 99");
  EXPECT_EQ(after([](Graph&, GraphEditor& e) { e.set_inputs(std::vector<ValueId>{kNoValue}); }), "a graph input has the impossible id -1");
  EXPECT_EQ(after([](Graph& g, GraphEditor& e) { e.set_constant(id(g, "x"), Tensor::scalar(1.0F)); }),
            "graph input 'x' is also an initializer or the output of a node");
  EXPECT_EQ(after([](Graph& g, GraphEditor& e) { e.set_outputs(0, {id(g, "a"), id(g, "x")}); }),
            "graph input 'x' is also an initializer or the output of a node");
  EXPECT_EQ(after([](Graph& g, GraphEditor& e) { e.set_inputs(std::vector<ValueId>{id(g, "x"), id(g, "x")}); }),
            "graph input 'x' is listed twice");
}

TEST(Verify, Nodes) {
  EXPECT_EQ(after([](Graph& g, GraphEditor&) { broken(g, 1).name.clear(); }), "node 1 (Relu) has no name");
  EXPECT_EQ(after([](Graph& g, GraphEditor&) { broken(g, 1).name = "A"; }), "two nodes are named 'A'");
  EXPECT_EQ(after([](Graph&, GraphEditor& e) { e.set_input(1, 0, 99); }), "node 'B' (Relu) reads the impossible value id 99");
  EXPECT_EQ(after([](Graph&, GraphEditor& e) { e.set_input(1, 0, -2); }), "node 'B' (Relu) reads the impossible value id -2");
  EXPECT_EQ(after([](Graph& g, GraphEditor&) { broken(g, 1).outputs = {99}; }), "node 'B' (Relu) writes the impossible value id 99");
  EXPECT_EQ(after([](Graph& g, GraphEditor& e) { e.set_input(0, 0, id(g, "y")); }),
            "node 'A' (Add) reads 'y', which nothing before it produces");
}

TEST(Verify, Outputs) {
  EXPECT_EQ(after([](Graph&, GraphEditor& e) { e.set_outputs(std::vector<ValueId>{e.add_value("loose")}); }),
            "graph output 'loose' is produced by nothing");
  EXPECT_EQ(after([](Graph&, GraphEditor& e) { e.set_outputs(std::vector<ValueId>{99}); }), "graph output '?' is produced by nothing");
  EXPECT_EQ(after([](Graph&, GraphEditor& e) { e.set_outputs(std::vector<ValueId>{kNoValue}); }), "graph output '?' is produced by nothing");
}

TEST(Verify, AnInputOrAConstantMayBeAnOutput) {
  EXPECT_NO_THROW(verify(parse_graph_text("input x float32\nconst k float32[] = {1}\noutput x\noutput k\n")));
  EXPECT_NO_THROW(verify(Graph()));
}

}  // namespace
}  // namespace nibble
