#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "nibble/error.h"
#include "nibble/quantize.h"

namespace nibble {
namespace {

QuantScheme read(const std::string& text) { return apply_scheme_recipe({}, text, "recipe.json"); }

TEST(Recipe, ChangesWhatItNames) {
  const QuantScheme scheme = read(R"({
    // comments are welcome
    "law": "fixed_point", "first_last": "8bit", "reduce_range": true,
    "op_types_to_quantize": ["Conv"], "unsupported_ops": ["Sigmoid"],
    "defaults": {"weights": {"bit_width": 4, "narrow_range": false}, "activations": {"signed": true, "symmetric": true}},
    "rules": [
      {"node": "head/.*", "quantized": false},
      {"op_type": "Gemm", "weights": {"per_channel": false, "signed": false, "symmetric": false}},
      {"node": "a|b", "op_type": "Conv", "quantized": true, "activations": {"bit_width": 16}}
    ]})");
  EXPECT_EQ(scheme.law, RequantizeLaw::kFixedPoint);
  EXPECT_EQ(scheme.first_last, FirstLastPolicy::k8Bit);
  EXPECT_TRUE(scheme.reduce_range);
  EXPECT_THAT(scheme.op_types_to_quantize, ::testing::ElementsAre("Conv"));
  EXPECT_THAT(scheme.unsupported_ops, ::testing::ElementsAre("Sigmoid"));
  EXPECT_EQ(scheme.defaults.weights.type, (QuantType{.bit_width = 4, .is_signed = true}));
  EXPECT_TRUE(scheme.defaults.weights.per_channel);  // untouched
  EXPECT_EQ(scheme.defaults.activations.type, (QuantType{.bit_width = 8, .is_signed = true}));
  EXPECT_TRUE(scheme.defaults.activations.symmetric);
  ASSERT_EQ(scheme.rules.size(), 3U);
  EXPECT_EQ(scheme.rules[0].node_regex, "head/.*");
  EXPECT_EQ(scheme.rules[0].quantized, false);
  EXPECT_FALSE(scheme.rules[0].weights.has_value());
  // What a rule leaves out is as in the defaults.
  EXPECT_EQ(scheme.rules[1].weights->type, (QuantType{.bit_width = 4, .is_signed = false}));
  EXPECT_FALSE(scheme.rules[1].weights->per_channel);
  EXPECT_EQ(scheme.rules[2].activations->type, (QuantType{.bit_width = 16, .is_signed = true}));
  EXPECT_TRUE(scheme.rules[2].activations->symmetric);
}

TEST(Recipe, TextGivesTheSchemeBack) {
  const QuantScheme scheme =
      read(R"({"law": "shift", "defaults": {"weights": {"signed": false}}, "rules": [{"op_type": "Add", "quantized": false}]})");
  EXPECT_FALSE(scheme.defaults.weights.type.narrow_range);  // unsigned types have none
  EXPECT_EQ(to_json(read(to_json(scheme))), to_json([&] {
              QuantScheme twice = scheme;
              return twice;
            }()));
  EXPECT_EQ(to_json(read("{}")), to_json(QuantScheme{}));
}

TEST(Recipe, RulesAddUp) {
  QuantScheme scheme = read(R"({"rules": [{"op_type": "Add", "quantized": false}]})");
  scheme = apply_scheme_recipe(scheme, R"({"rules": [{"op_type": "Mul", "quantized": false}]})", "second.json");
  EXPECT_EQ(scheme.rules.size(), 2U);
}

std::string refusal(const std::string& text) {
  try {
    read(text);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidData);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("recipe.json"));
    return e.what();
  }
  return "nothing was thrown";
}

TEST(Recipe, SaysWhatIsWrong) {
  using ::testing::AllOf;
  using ::testing::HasSubstr;
  EXPECT_THAT(refusal(""), HasSubstr("JSON"));
  EXPECT_THAT(refusal("[]"), HasSubstr("object"));
  EXPECT_THAT(refusal(R"({"laws": "x"})"), AllOf(HasSubstr("laws"), HasSubstr("law, first_last")));
  EXPECT_THAT(refusal(R"({"law": "float"})"), AllOf(HasSubstr("float32, fixed_point, shift"), HasSubstr("\"float\"")));
  EXPECT_THAT(refusal(R"({"law": 3})"), HasSubstr("float32"));
  EXPECT_THAT(refusal(R"({"first_last": "8"})"), HasSubstr("8bit"));
  EXPECT_THAT(refusal(R"({"reduce_range": 1})"), HasSubstr("true or false"));
  EXPECT_THAT(refusal(R"({"op_types_to_quantize": "Conv"})"), HasSubstr("array of strings"));
  EXPECT_THAT(refusal(R"({"op_types_to_quantize": [1]})"), HasSubstr("array of strings"));
  EXPECT_THAT(refusal(R"({"name": "mine"})"), HasSubstr("name"));
  EXPECT_THAT(refusal(R"({"defaults": 3})"), HasSubstr("defaults"));
  EXPECT_THAT(refusal(R"({"defaults": {"weight": {}}})"), HasSubstr("weight"));
  for (const char* bits : {"0", "17", "-1", "8.5", "\"8\"", "1e99", "18446744073709551615"}) {
    EXPECT_THAT(refusal(std::string(R"({"defaults": {"weights": {"bit_width": )") + bits + "}}}"), HasSubstr("1 to 16"));
  }
  EXPECT_THAT(refusal(R"({"defaults": {"activations": {"per_channel": true}}})"), HasSubstr("per_channel"));
  EXPECT_THAT(refusal(R"({"defaults": {"activations": {"narrow_range": true}}})"), HasSubstr("signed"));
  EXPECT_THAT(refusal(R"({"rules": {}})"), HasSubstr("array"));
  EXPECT_THAT(refusal(R"({"rules": [{"op_type": "Add", "quantized": false}, {"quantized": false}]})"),
              AllOf(HasSubstr("rule 2"), HasSubstr("op_type")));
  EXPECT_THAT(refusal(R"({"rules": [{"node": "x"}]})"), AllOf(HasSubstr("rule 1"), HasSubstr("quantized")));
  EXPECT_THAT(refusal(R"({"rules": [{"node": "(", "quantized": false}]})"), AllOf(HasSubstr("rule 1"), HasSubstr("regular expression")));
  EXPECT_THAT(refusal(R"({"rules": [{"node": ")" + std::string(100000, '(') + R"(", "quantized": false}]})"), HasSubstr("too long"));
  EXPECT_THAT(refusal(R"({"rules": [{"node": "x", "weights": {"bits": 4}}]})"), AllOf(HasSubstr("rule 1: weights"), HasSubstr("bits")));
}

TEST(Recipe, DamagedTextIsRefusedOrRead) {
  const std::string good = to_json(read(R"({"rules": [{"node": "a(b|c)*", "op_type": "Add", "quantized": false, "weights": {}}]})"));
  const std::uint64_t seed = 3;
  std::mt19937_64 random(seed);
  for (int i = 0; i < 2000; ++i) {
    std::string text = good;
    for (std::uint64_t flips = 1 + random() % 3; flips > 0; --flips) text[random() % text.size()] = static_cast<char>(random());
    try {
      to_json(read(text));
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace nibble
