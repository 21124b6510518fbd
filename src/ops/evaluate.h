// What infer_types(), evaluate_node() and the interpreter share: looking an op up and checking a node against it.
#pragma once

#include <exception>
#include <string_view>
#include <utility>

#include "nibble/error.h"
#include "ops/fail.h"
#include "ops/op.h"

namespace nibble {

// The op of a node. Throws Error{kUnsupported} naming op, domain, opset and node.
const OpDef& require_op(const Node& node, int opset);

// Throws Error{kInvalidModel} where the node has too few or too many inputs or outputs, or leaves a required input out.
void check_arity(const OpDef& op, const Node& node);

// Runs `body`; any exception comes out as an Error whose message names the node.
template <typename Body>
decltype(auto) naming_node(const Node& node, Body&& body) {
  const std::string prefix = fmt::format("node '{}'", node.name);
  try {
    return std::forward<Body>(body)();
  } catch (const Error& error) {
    if (std::string_view(error.what()).find(prefix) != std::string_view::npos) throw;
    throw Error(error.code(), fmt::format("node '{}' ({}): {}", node.name, node.op_type, error.what()));
  } catch (const std::exception& error) {  // bad_alloc, length_error: sizes that the model made up
    fail_node(node, "cannot be computed ({})", error.what());
  }
}

}  // namespace nibble
