#include "schemes/scheme_rules.h"

#include "base/fail.h"

namespace nibble {

namespace {

// The standard library's regular expressions recurse once a character: longer texts could exhaust the stack.
constexpr std::size_t kLongestPattern = 2000, kLongestName = 8000;

bool matches(const std::regex& pattern, const NodeRule& rule, const Node& node) {
  if (node.name.size() > kLongestName) {
    fail(ErrorCode::kUnsupported, "rule '{}': the name of a {} node has {} characters; names up to {} can be matched: select it by op_type",
         rule.node_regex, node.op_type, node.name.size(), kLongestName);
  }
  try {
    return std::regex_match(node.name, pattern);
  } catch (const std::regex_error& error) {
    fail(ErrorCode::kInvalidArgument, "'{}' cannot be matched against node '{}': {}; simplify the expression", rule.node_regex, node.name,
         error.what());
  }
}

}  // namespace

SchemeRules::SchemeRules(const QuantScheme& scheme) : defaults_(scheme.defaults), rules_(scheme.rules) {
  // 7-bit weights keep pairs of products inside 16 bits on targets that saturate there.
  const auto reduce = [&](TensorScheme& weights) {
    if (scheme.reduce_range && weights.type.bit_width == 8) weights.type.bit_width = 7;
  };
  reduce(defaults_.weights);
  for (NodeRule& rule : rules_) {
    if (rule.weights) reduce(*rule.weights);
    if (rule.node_regex.empty()) {
      patterns_.emplace_back(std::nullopt);
      continue;
    }
    if (rule.node_regex.size() > kLongestPattern) {
      fail(ErrorCode::kInvalidArgument,
           "a regular expression of {} characters is too long; expected at most {}: split it into several rules", rule.node_regex.size(),
           kLongestPattern);
    }
    try {
      patterns_.emplace_back(std::regex(rule.node_regex, std::regex::ECMAScript | std::regex::optimize));
    } catch (const std::regex_error& error) {
      fail(ErrorCode::kInvalidArgument, "'{}' is not a regular expression: {}", rule.node_regex, error.what());
    }
  }
}

NodeScheme SchemeRules::scheme_for(const Node& node) const {
  NodeScheme result = defaults_;
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    const NodeRule& rule = rules_[i];
    if (!rule.op_type.empty() && rule.op_type != node.op_type) continue;
    if (patterns_[i] && !matches(*patterns_[i], rule, node)) continue;
    if (rule.quantized) {
      result.quantized = *rule.quantized;
      result.reason = *rule.quantized           ? ""
                      : !rule.reason.empty()    ? rule.reason
                      : rule.node_regex.empty() ? "excluded by op type"
                                                : "excluded by name ('" + rule.node_regex + "')";
    }
    if (rule.form) result.form = *rule.form;
    if (rule.weights) result.weights = *rule.weights;
    if (rule.activations) result.activations = *rule.activations;
  }
  return result;
}

}  // namespace nibble
