#include "kernels/isa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels/lut/lut.h"
#include "kernels/qadd/qadd.h"
#include "kernels/qgemm/qgemm.h"
#include "nibble/error.h"

namespace nibble::kernels {
namespace {

class Forced {
 public:
  explicit Forced(const char* value) {
    if (const char* old = std::getenv("NIBBLE_FORCE_ISA")) old_ = old;
    had_ = std::getenv("NIBBLE_FORCE_ISA") != nullptr;
    setenv("NIBBLE_FORCE_ISA", value, 1);
  }
  ~Forced() {
    if (had_)
      setenv("NIBBLE_FORCE_ISA", old_.c_str(), 1);
    else
      unsetenv("NIBBLE_FORCE_ISA");
  }

 private:
  std::string old_;
  bool had_ = false;
};

TEST(Isa, ForcedOneIsUsed) {
  for (const Isa isa : available_isas()) {
    const Forced forced(std::string(to_string(isa)).c_str());
    EXPECT_EQ(best_isa(), isa);
    EXPECT_THAT(gemm_kernel_name(best_isa(), 48, 64, 256), testing::EndsWith("_" + std::string(to_string(isa))));
    const std::int8_t weight = 1;
    EXPECT_EQ(pack_gemm({.n = 1, .k = 1, .wei = &weight, .stride_k = 1}, best_isa()).isa, isa);
  }
}

TEST(Isa, UnknownNameListsTheChoices) {
  const Forced forced("sse9");
  try {
    best_isa();
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(e.what(), testing::AllOf(testing::HasSubstr("sse9"), testing::HasSubstr("reference")));
  }
}

TEST(Isa, EmptyMeansTheBest) {
  const Forced forced("");
  EXPECT_EQ(best_isa(), available_isas().back());
}

TEST(Isa, ListHasTheReferenceOfEveryFamily) {
  for (const char* family :
       {"qgemm", "qconv_depthwise", "qadd", "qmul", "qpool_max", "qpool_average", "lut", "quantize_linear", "dequantize_linear"}) {
    bool found = false;
    for (const KernelRow& row : list_kernels()) found = found || (row.family == family && row.isa == Isa::kReference && row.usable);
    EXPECT_TRUE(found) << family;
  }
}

TEST(Isa, Names) {
  EXPECT_EQ(gemm_kernel_name(Isa::kReference, 1, 1, 1), "qgemm_u8s8s32_1x1c1_reference");
  EXPECT_EQ(add_kernel_name(Isa::kReference, RequantizeLaw::kFloat32), "qadd_u8u8f32_reference");
  EXPECT_EQ(mul_kernel_name(Isa::kReference, RequantizeLaw::kFixedPoint), "qmul_u8u8s32_reference");
}

}  // namespace
}  // namespace nibble::kernels
