#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nibble/calibrate.h"
#include "nibble/error.h"

namespace nibble {
namespace {

std::string refusal(const std::string& method) {
  try {
    make_observer(method);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    return e.what();
  }
  return "";
}

TEST(ObserverTable, HasTheNineMethods) {
  std::vector<std::string> names;
  for (const ObserverInfo& info : observer_table()) {
    names.emplace_back(info.name);
    EXPECT_FALSE(info.summary.empty());
    EXPECT_FALSE(info.source.empty());
    EXPECT_NE(make_observer(info.name), nullptr);
    if (info.options.empty()) continue;
    EXPECT_NE(make_observer(std::string(info.name) + ":" + std::string(info.options)), nullptr);
  }
  EXPECT_THAT(names, ::testing::ElementsAre("min_max", "average", "moving_average", "mean_std", "percentile", "entropy", "mse", "aciq",
                                            "power_of_two"));
}

TEST(ObserverTable, UnknownNamesListTheKnown) {
  EXPECT_THAT(refusal("minmax"),
              ::testing::AllOf(::testing::HasSubstr("minmax"), ::testing::HasSubstr("min_max"), ::testing::HasSubstr("aciq")));
  EXPECT_THAT(refusal(""), ::testing::HasSubstr("known"));
  EXPECT_THAT(refusal("percentile:p=3"), ::testing::HasSubstr("percentile=99.99"));
  EXPECT_THAT(refusal("min_max:p=3"), ::testing::HasSubstr("none"));
}

TEST(ObserverTable, WrongOptions) {
  for (const char* method :
       {"percentile:percentile=abc", "percentile:percentile=", "percentile:percentile", "percentile:percentile=49",
        "percentile:percentile=101", "percentile:percentile=nan", "percentile:percentile=inf", "mse:p=0", "mse:p=-1",
        "moving_average:momentum=0", "moving_average:momentum=2", "mean_std:n=0", "percentile:=3", "percentile:percentile=99,,"}) {
    EXPECT_NE(refusal(method), "") << method;
  }
}

}  // namespace
}  // namespace nibble
