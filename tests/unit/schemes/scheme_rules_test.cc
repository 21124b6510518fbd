#include "schemes/scheme_rules.h"

#include <gtest/gtest.h>

#include "nibble/error.h"

namespace nibble {
namespace {

Node node(const std::string& name, const std::string& op_type) {
  Node result;
  result.name = name;
  result.op_type = op_type;
  return result;
}

TEST(SchemeRules, LaterRulesWinAndNamesMatchWhole) {
  QuantScheme scheme;
  scheme.rules = {{.node_regex = "conv_.*", .op_type = "", .quantized = false, .weights = {}, .activations = {}},
                  {.node_regex = "conv_1", .op_type = "", .quantized = true, .weights = {}, .activations = {}},
                  {.node_regex = "",
                   .op_type = "Gemm",
                   .quantized = std::nullopt,
                   .weights = TensorScheme{.type = {.bit_width = 4, .is_signed = true}},
                   .activations = {}},
                  {.node_regex = "conv_3", .op_type = "Conv", .quantized = true, .weights = {}, .activations = {}}};
  const SchemeRules rules(scheme);
  EXPECT_TRUE(rules.scheme_for(node("conv_1", "Conv")).quantized);
  EXPECT_FALSE(rules.scheme_for(node("conv_2", "Conv")).quantized);
  EXPECT_FALSE(rules.scheme_for(node("conv_2", "Conv")).reason.empty());
  EXPECT_TRUE(rules.scheme_for(node("my_conv_2", "Conv")).quantized);
  EXPECT_FALSE(rules.scheme_for(node("conv_3", "ConvTranspose")).quantized);
  EXPECT_TRUE(rules.scheme_for(node("conv_3", "Conv")).quantized);
  EXPECT_EQ(rules.scheme_for(node("x", "Gemm")).weights.type.bit_width, 4);
  EXPECT_EQ(rules.scheme_for(node("x", "Conv")).weights.type.bit_width, 8);
}

TEST(SchemeRules, ReduceRangeIsSevenBits) {
  QuantScheme scheme;
  scheme.reduce_range = true;
  EXPECT_EQ(SchemeRules(scheme).scheme_for(node("x", "Conv")).weights.type.bit_width, 7);
  EXPECT_EQ(SchemeRules(scheme).scheme_for(node("x", "Conv")).activations.type.bit_width, 8);
}

TEST(SchemeRules, WrongExpressionsAndHugeNames) {
  QuantScheme scheme;
  scheme.rules = {{.node_regex = "[", .op_type = "", .quantized = false, .weights = {}, .activations = {}}};
  EXPECT_THROW(SchemeRules{scheme}, Error);
  scheme.rules[0].node_regex = ".*";
  const SchemeRules rules(scheme);
  EXPECT_FALSE(rules.scheme_for(node(std::string(5000, 'x'), "Conv")).quantized);
  EXPECT_THROW(rules.scheme_for(node(std::string(10000000, 'x'), "Conv")), Error);
}

}  // namespace
}  // namespace nibble
