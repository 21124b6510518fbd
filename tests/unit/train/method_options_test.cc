#include "train/method_options.h"

#include <gtest/gtest.h>

#include <string>

#include "nibble/error.h"

namespace nibble::train {
namespace {

TEST(MethodOptions, OptionsOfTheMethodsAreKnownAndNoOthers) {
  const QuantizerRow* const rows[] = {&find_quantizer("ttq"), &find_quantizer("pact"), nullptr};
  EXPECT_NO_THROW(check_method_options(rows, {{"threshold", 0.1}, {"alpha", 6}, {"dsq_alpha_end", 0.2}}));
  EXPECT_NO_THROW(check_method_options(rows, {}));
  try {
    check_method_options(rows, {{"treshold", 0.1}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    const std::string message = error.what();
    for (const char* part : {"'treshold'", "threshold", "gradient_scale", "alpha_decay"})
      EXPECT_NE(message.find(part), std::string::npos) << part;
  }
}

// Each row's defaults read "name=number,name=number".
TEST(MethodOptions, RowsNameTheirDefaults) {
  for (const QuantizerRow* row : quantizer_table()) {
    if (row->options.empty()) continue;
    const QuantizerRow* const rows[] = {row};
    const std::string_view first = row->options.substr(0, row->options.find('='));
    EXPECT_NO_THROW(check_method_options(rows, {{std::string(first), 0}})) << row->name;
  }
}

}  // namespace
}  // namespace nibble::train
