// A scheme's rules, applied to nodes.
#pragma once

#include <optional>
#include <regex>
#include <vector>

#include "nibble/quantize.h"

namespace nibble {

// Compiles the rules' regular expressions once. Throws Error{kInvalidArgument} naming a rule whose expression is wrong.
class SchemeRules {
 public:
  explicit SchemeRules(const QuantScheme& scheme);
  // The defaults with every matching rule applied in order: later rules win.
  NodeScheme scheme_for(const Node& node) const;

 private:
  NodeScheme defaults_;
  std::vector<NodeRule> rules_;
  std::vector<std::optional<std::regex>> patterns_;
};

}  // namespace nibble
