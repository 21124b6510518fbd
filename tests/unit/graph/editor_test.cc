#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "graph_test_util.h"
#include "nibble/graph.h"

namespace nibble {
namespace {

using test::body;
using test::id;
using test::make_node;
using test::message;
using test::node_id;
using test::node_names;
using test::output_names;
using testing::ElementsAre;
using testing::HasSubstr;

Graph chain() {
  return parse_graph_text(R"(graph g
input x float32[2]
a = Relu(x) name "A"
b = Sigmoid(a) name "B"
y = Neg(b) name "C"
output y
)");
}

TEST(ReplaceUses, OfAnInnerValue) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.replace_uses(id(graph, "b"), id(graph, "a"));
  editor.finish();
  EXPECT_EQ(body(graph), "input x float32[2]\na = Relu(x) name A\ny = Neg(a) name C\noutput y\n");
}

TEST(ReplaceUses, AGraphOutputKeepsItsName) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.replace_uses(id(graph, "y"), id(graph, "b"));
  editor.finish();
  EXPECT_EQ(body(graph), "input x float32[2]\na = Relu(x) name A\ny = Sigmoid(a) name B\noutput y\n");
  EXPECT_EQ(graph.find_value("y"), graph.outputs()[0]);
  EXPECT_FALSE(graph.find_value("b"));
}

TEST(ReplaceUses, AnOutputListedTwice) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.set_outputs(std::vector<ValueId>{id(graph, "y"), id(graph, "y")});
  editor.replace_uses(id(graph, "y"), id(graph, "b"));
  editor.finish();
  EXPECT_THAT(output_names(graph), ElementsAre("y", "y"));
  EXPECT_THAT(node_names(graph), ElementsAre("A", "B"));
  GraphEditor again(graph);
  again.replace_uses(id(graph, "y"), id(graph, "x"));
  again.finish();
  EXPECT_THAT(output_names(graph), ElementsAre("y", "y"));
  EXPECT_EQ(body(graph), "input x float32[2]\ny = Identity(x) name Identity\noutput y\noutput y\n");
}

TEST(ReplaceUses, ByAnInputNeedsAnIdentity) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.replace_uses(id(graph, "y"), id(graph, "x"));
  editor.finish();
  EXPECT_EQ(body(graph), "input x float32[2]\ny = Identity(x) name Identity\noutput y\n");
}

TEST(ReplaceUses, ByAConstantNeedsAnIdentity) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.replace_uses(id(graph, "y"), editor.add_constant("k", Tensor::from<float>({2}, {1, 2})));
  editor.finish();
  EXPECT_EQ(body(graph), "input x float32[2]\nconst k float32[2] = {1, 2}\ny = Identity(k) name Identity\noutput y\n");
}

TEST(ReplaceUses, ByAnotherOutputNeedsAnIdentity) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.set_outputs(std::vector<ValueId>{id(graph, "y"), id(graph, "a")});
  editor.replace_uses(id(graph, "y"), id(graph, "a"));
  editor.finish();
  EXPECT_EQ(body(graph), "input x float32[2]\na = Relu(x) name A\ny = Identity(a) name Identity\noutput y\noutput a\n");
}

// The usual order of a pass that drops a node: replace, then remove. The output must not go with the node.
TEST(ReplaceUses, ThenTheOldIdentityMayBeRemoved) {
  Graph graph = parse_graph_text("graph g\ninput x float32\ny = Identity(x) name \"old\"\noutput y\n");
  GraphEditor editor(graph);
  editor.replace_uses(id(graph, "y"), id(graph, "x"));
  editor.remove_node(node_id(graph, "old"));
  editor.finish();
  EXPECT_THAT(output_names(graph), ElementsAre("y"));
  ASSERT_EQ(graph.nodes().size(), 1U);
  EXPECT_EQ(graph.nodes()[0].op_type, "Identity");
}

TEST(ReplaceUses, OfAConstantOutput) {
  Graph graph = parse_graph_text("graph g\nconst c float32[1] = {1}\nconst d float32[1] = {2}\noutput c\n");
  GraphEditor editor(graph);
  editor.replace_uses(id(graph, "c"), id(graph, "d"));
  editor.finish();
  EXPECT_EQ(body(graph), "const d float32[1] = {2}\nc = Identity(d) name Identity\noutput c\n");
}

TEST(ReplaceUses, OfAnInputThatIsAnOutput) {
  Graph graph = parse_graph_text("graph g\ninput x float32\ninput z float32\na = Relu(z)\noutput x\noutput a\n");
  GraphEditor editor(graph);
  editor.replace_uses(id(graph, "x"), id(graph, "z"));
  editor.finish();
  EXPECT_THAT(output_names(graph), ElementsAre("z", "a"));
  EXPECT_EQ(graph.value(graph.inputs()[0]).name, "x");
}

TEST(ReplaceUses, OneOfSeveralOutputsOfANode) {
  Graph graph = parse_graph_text("graph g\ninput x float32[4]\np, q = Split(x) name \"S\"\noutput p\noutput q\n");
  GraphEditor editor(graph);
  editor.replace_uses(id(graph, "p"), id(graph, "x"));
  editor.finish();
  EXPECT_EQ(body(graph), "input x float32[4]\n_, q = Split(x) name S\np = Identity(x) name Identity\noutput p\noutput q\n");
}

TEST(ReplaceUses, ChainsInTheMap) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.replace_uses({{id(graph, "y"), id(graph, "b")}, {id(graph, "b"), id(graph, "a")}});
  editor.finish();
  EXPECT_EQ(body(graph), "input x float32[2]\ny = Relu(x) name A\noutput y\n");
}

TEST(ReplaceUses, ChainsThroughOutputs) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.set_outputs(std::vector<ValueId>{id(graph, "y"), id(graph, "b")});
  editor.replace_uses({{id(graph, "y"), id(graph, "b")}, {id(graph, "b"), id(graph, "a")}});
  editor.finish();
  EXPECT_THAT(output_names(graph), ElementsAre("y", "b"));
  EXPECT_EQ(body(graph), "input x float32[2]\ny = Relu(x) name A\nb = Identity(y) name Identity\noutput y\noutput b\n");
}

TEST(ReplaceUses, ByItselfIsNothingAndACircleAnError) {
  Graph graph = chain();
  const std::string before = print_graph(graph);
  GraphEditor editor(graph);
  editor.replace_uses(id(graph, "a"), id(graph, "a"));
  EXPECT_EQ(print_graph(graph), before);
  EXPECT_THAT(message([&] { editor.replace_uses({{id(graph, "a"), id(graph, "b")}, {id(graph, "b"), id(graph, "a")}}); }),
              HasSubstr("replaced by itself"));
}

TEST(Finish, DropsWhatNoOutputNeeds) {
  Graph graph = parse_graph_text(R"(graph g
input x float32
input unused float32
const k float32[] = {1}
const dead_k float32[] = {1}
dead = Add(x, dead_k) name "D1"
deader = Relu(dead) name "D2"
y, side = Op(x, k) name "N"
output y
)");
  GraphEditor editor(graph);
  editor.finish();
  // Inputs are the network's contract and stay; so does the other output of a node that is needed.
  EXPECT_EQ(body(graph), "input x float32\ninput unused float32\nconst k float32[] = {1}\ny, side = Op(x, k) name N\noutput y\n");
  EXPECT_FALSE(graph.find_value("dead_k"));
  EXPECT_TRUE(graph.find_value("side"));
}

TEST(Finish, KeepsAllWhereItShallNotPrune) {
  Graph graph = parse_graph_text("graph g\ninput x float32\ndead = Relu(x)\ny = Neg(x)\noutput y\n");
  GraphEditor editor(graph);
  editor.add_value("loose");
  editor.finish(GraphEditor::Prune::kNo);
  EXPECT_EQ(graph.nodes().size(), 2U);
  EXPECT_TRUE(graph.find_value("loose"));
}

TEST(Finish, SortsAndKeepsTheOrderOfWhatIsSorted) {
  Graph graph;
  GraphEditor editor(graph);
  const ValueId x = editor.add_input("x", {});
  const ValueId a = editor.add_value("a"), b = editor.add_value("b"), c = editor.add_value("c"), y = editor.add_value("y");
  editor.add_node(make_node("Op", {c, b}, {y}, "last"));
  editor.add_node(make_node("Op", {x}, {b}, "free2"));
  editor.add_node(make_node("Op", {a}, {c}, "after"));
  editor.add_node(make_node("Op", {x}, {a}, "free1"));
  editor.set_outputs(std::vector<ValueId>{y});
  editor.finish();
  EXPECT_THAT(node_names(graph), ElementsAre("free2", "free1", "after", "last"));
  const std::string sorted = print_graph(graph);
  GraphEditor(graph).finish();
  EXPECT_EQ(print_graph(graph), sorted);
  for (std::size_t n = 0; n < graph.nodes().size(); ++n) {
    for (const ValueId output : graph.nodes()[n].outputs) EXPECT_EQ(graph.value(output).producer, static_cast<NodeId>(n));
  }
}

TEST(Finish, ACycleNamesANodeInIt) {
  Graph graph;
  GraphEditor editor(graph);
  const ValueId x = editor.add_input("x", {});
  const ValueId a = editor.add_value("a"), b = editor.add_value("b"), y = editor.add_value("y"), z = editor.add_value("z");
  // The first two only read from the cycle.
  editor.add_node(make_node("Relu", {y}, {z}, "behind2"));
  editor.add_node(make_node("Relu", {b}, {y}, "behind1"));
  editor.add_node(make_node("Add", {x, b}, {a}, "ring1"));
  editor.add_node(make_node("Neg", {a}, {b}, "ring2"));
  editor.set_outputs(std::vector<ValueId>{z});
  EXPECT_THAT(message([&] { editor.finish(); }), testing::ContainsRegex("cycle through node 'ring[12]' \\((Add|Neg)\\)"));
}

TEST(Finish, ANodeThatReadsItself) {
  EXPECT_THAT(message([] { parse_graph_text("a = Add(a) name \"self\"\noutput a\n"); }), HasSubstr("cycle through node 'self'"));
}

TEST(Finish, LeftOutInputsAtTheEndGo) {
  Graph graph = parse_graph_text("input x float32\ny = Clip(x, _, _)\noutput y\n");
  EXPECT_EQ(graph.nodes()[0].inputs.size(), 1U);
  EXPECT_EQ(graph.nodes()[0].input(5), kNoValue);
}

TEST(RemoveNode, ItsOutputsLoseTheirProducer) {
  Graph graph = chain();
  GraphEditor editor(graph);
  const ValueId b = id(graph, "b");
  editor.remove_node(node_id(graph, "B"));
  EXPECT_EQ(graph.value(b).producer, kNoNode);
  const NodeId added = editor.add_node(make_node("Tanh", {id(graph, "x")}, {b}, "B"));
  EXPECT_EQ(graph.node(added).name, "B");  // the name is free again
  editor.remove_node(1);                   // once more: nothing
  editor.finish();
  EXPECT_EQ(body(graph), "input x float32[2]\nb = Tanh(x) name B\ny = Neg(b) name C\noutput y\n");
}

TEST(RemoveNode, AnOutputWithoutAProducerIsFound) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.remove_node(node_id(graph, "B"));
  EXPECT_THAT(message([&] { editor.finish(); }), HasSubstr("node 'C' (Neg) reads 'b', which nothing before it produces"));
}

TEST(FreshNames, AreFreeAndKeepAFreeName) {
  Graph graph = chain();
  GraphEditor editor(graph);
  EXPECT_EQ(editor.fresh_value_name("new"), "new");
  EXPECT_EQ(editor.fresh_node_name("new"), "new");
  EXPECT_FALSE(graph.find_value(editor.fresh_value_name("a")));
  EXPECT_FALSE(editor.fresh_value_name("").empty());
  const std::string next = editor.fresh_value_name("a");
  const ValueId taken = editor.add_value(next);
  EXPECT_EQ(graph.value(taken).name, next);
  EXPECT_NE(editor.fresh_value_name("a"), next);
  const ValueId again = editor.add_value("a"), unnamed = editor.add_value("");
  EXPECT_NE(graph.value(again).name, "a");
  EXPECT_NE(graph.value(unnamed).name, "");
  const NodeId node = editor.add_node(make_node("Relu", {id(graph, "x")}, {again}, "A"));
  EXPECT_NE(graph.node(node).name, "A");
  EXPECT_THAT(graph.node(node).name, testing::StartsWith("A_"));
}

TEST(Editor, AValueIsProducedOnce) {
  Graph graph = chain();
  GraphEditor editor(graph);
  EXPECT_THAT(message([&] { editor.add_node(make_node("Relu", {id(graph, "x")}, {id(graph, "a")}, "again")); }),
              HasSubstr("value 'a' is produced twice; the second time by node 'again' (Relu)"));
}

TEST(Editor, TheDefaultDomainHasOneName) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.set_op_type(0, "Tanh", "ai.onnx");
  editor.set_opset("ai.onnx", 13);
  EXPECT_EQ(graph.node(0).domain, "");
  EXPECT_EQ(graph.opset(""), 13);
  EXPECT_EQ(graph.opset("ai.onnx"), 13);
  EXPECT_EQ(graph.opset("com.microsoft"), 0);
}

TEST(Editor, SmallEdits) {
  Graph graph = chain();
  GraphEditor editor(graph);
  editor.set_attribute(0, "k", std::int64_t{3});
  editor.set_attribute(0, "gone", 1.0F);
  editor.remove_attribute(0, "gone");
  editor.remove_attribute(0, "never");
  editor.set_input(0, 2, id(graph, "x"));
  editor.rename_value(id(graph, "a"), "renamed");
  editor.set_outputs(1, {id(graph, "b"), editor.add_value("extra")});
  editor.finish();
  EXPECT_EQ(body(graph), "input x float32[2]\nrenamed = Relu(x, _, x) [k=3] name A\nb, extra = Sigmoid(renamed) name B\ny = Neg(b) name C\noutput y\n");
  EXPECT_EQ(graph.node(0).get_int("k", 0), 3);
  EXPECT_EQ(graph.node(0).get_int("none", 7), 7);
  EXPECT_THAT(message([&] { (void)graph.node(0).get_float("k", 0); }), HasSubstr("node 'A' (Relu): attribute 'k' must be a float"));
}

TEST(Consumers, OneEntryAUseInOrder) {
  const Graph graph = parse_graph_text("input x float32\na = Relu(x) name \"A\"\nb = Add(x, x) name \"B\"\nc = Mul(a, _, x)\noutput c\n");
  const auto consumers = graph.consumers();
  const auto of = [&](const char* name) { return consumers[static_cast<std::size_t>(id(graph, name))]; };
  EXPECT_THAT(of("x"), ElementsAre(0, 1, 1, 2));
  EXPECT_THAT(of("a"), ElementsAre(2));
  EXPECT_THAT(of("b"), ElementsAre());
  EXPECT_TRUE(graph.is_graph_output(id(graph, "c")));
  EXPECT_FALSE(graph.is_graph_output(id(graph, "b")));
}

}  // namespace
}  // namespace nibble
