// Lists of methods: what is read, and which orders are refused.
#include <gtest/gtest.h>

#include "nibble/error.h"
#include "nibble/methods.h"

namespace nibble {
namespace {

std::string error_of(const std::string& text) {
  try {
    parse_methods(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(MethodTable, ReadsListsAndOptions) {
  EXPECT_TRUE(parse_methods("none").empty());
  const auto steps = parse_methods("equalization:rounds=7,bias_correction");
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_EQ(steps[0].options.at("rounds"), 7);
  EXPECT_EQ(to_string(steps), "equalization:rounds=7,bias_correction");
  EXPECT_EQ(parse_methods("equalization")[0].options.at("rounds"), 50) << "what is not given has its default";
}

TEST(MethodTable, RefusesByName) {
  EXPECT_NE(error_of("equalisation").find("equalization, "), std::string::npos) << "lists the known ones";
  EXPECT_NE(error_of("equalization:turns=3").find("its options are: rounds=50"), std::string::npos);
  EXPECT_NE(error_of("equalization:rounds=x").find("rounds=x"), std::string::npos);
  EXPECT_NE(error_of("equalization,equalization").find("named twice"), std::string::npos);
}

TEST(MethodTable, RefusesACorrectionBeforeWhatItCorrects) {
  const std::string error = error_of("bias_correction,equalization");
  EXPECT_NE(error.find("bias_correction"), std::string::npos) << error;
  EXPECT_NE(error.find("name equalization before bias_correction"), std::string::npos) << error;
  // Every pair of rows is allowed in one order at least, and in both only within a phase.
  for (const MethodInfo& a : method_table()) {
    for (const MethodInfo& b : method_table()) {
      if (a.name == b.name) continue;
      const bool fine = error_of(std::string(a.name) + "," + std::string(b.name)) == "no error";
      const bool both_round = a.phase == MethodPhase::kRound && b.phase == MethodPhase::kRound;
      EXPECT_EQ(fine, a.phase <= b.phase && !both_round) << a.name << ", " << b.name;
    }
  }
}

}  // namespace
}  // namespace nibble
