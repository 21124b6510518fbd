// fail_node(): a model's node is wrong; the message names it.
#pragma once

#include <string>
#include <utility>

#include "base/fail.h"
#include "nibble/graph.h"

namespace nibble {

template <typename... Args>
[[noreturn]] void fail_node(const Node& node, fmt::format_string<Args...> format, Args&&... args) {
  fail(ErrorCode::kInvalidModel, "node '{}' ({}): {}", node.name, node.op_type, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace nibble
