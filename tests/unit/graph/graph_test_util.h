// Helpers of the graph tests.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nibble/error.h"
#include "nibble/graph.h"

namespace nibble::test {

// What `body` throws; a failure where it throws nothing.
template <typename Body>
std::string message(Body&& body) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidModel) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

inline ValueId id(const Graph& graph, std::string_view name) {
  const auto found = graph.find_value(name);
  if (!found) throw std::logic_error("no value " + std::string(name));
  return *found;
}

inline NodeId node_id(const Graph& graph, std::string_view name) {
  for (std::size_t n = 0; n < graph.nodes().size(); ++n) {
    if (graph.nodes()[n].name == name) return static_cast<NodeId>(n);
  }
  throw std::logic_error("no node " + std::string(name));
}

// The graph's lines after the name and operator sets.
inline std::string body(const Graph& graph) {
  const std::string text = print_graph(graph);
  return text.substr(text.find('\n') + 1);
}

inline std::vector<std::string> node_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& node : graph.nodes()) names.push_back(node.name);
  return names;
}

inline std::vector<std::string> output_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const ValueId output : graph.outputs()) names.push_back(graph.value(output).name);
  return names;
}

inline Node make_node(std::string op, std::vector<ValueId> inputs, std::vector<ValueId> outputs, std::string name = "") {
  Node node;
  node.name = std::move(name);
  node.op_type = std::move(op);
  node.inputs = std::move(inputs);
  node.outputs = std::move(outputs);
  return node;
}

}  // namespace nibble::test
