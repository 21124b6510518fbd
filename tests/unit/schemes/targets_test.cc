#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nibble/error.h"
#include "nibble/quantize.h"

namespace nibble {
namespace {

TEST(Targets, AreTheFiles) {
  std::vector<std::string> names;
  for (const TargetInfo& info : list_targets()) {
    names.push_back(info.name);
    EXPECT_FALSE(info.summary.empty());
    EXPECT_EQ(scheme_for_target(info.name).target, info.name);
  }
  EXPECT_THAT(names, ::testing::ElementsAre("ort-cpu", "integer-only", "tensorrt", "openvino", "qnn", "tflite", "ort-cpu-avx2", "power-of-two"));
}

TEST(Targets, Ort) {
  const QuantScheme scheme = scheme_for_target("ort-cpu");
  EXPECT_EQ(to_json(scheme), to_json(QuantScheme{}));  // the library's defaults are this target's
  EXPECT_EQ(scheme.law, RequantizeLaw::kFloat32);
  EXPECT_TRUE(scheme.defaults.weights.per_channel);
  EXPECT_TRUE(scheme.defaults.weights.type.narrow_range);
  EXPECT_FALSE(scheme.defaults.activations.type.is_signed);
}

TEST(Targets, IntegerOnly) { EXPECT_EQ(scheme_for_target("integer-only").law, RequantizeLaw::kFixedPoint); }

TEST(Targets, UnknownListsTheKnown) {
  try {
    scheme_for_target("gpu");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(e.what(),
                ::testing::AllOf(::testing::HasSubstr("gpu"), ::testing::HasSubstr("ort-cpu"), ::testing::HasSubstr("integer-only")));
  }
}

}  // namespace
}  // namespace nibble
