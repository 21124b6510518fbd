#include "nibble/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "nibble/error.h"

namespace nibble {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string message(const std::function<void()>& body, ErrorCode code = ErrorCode::kInvalidModel) {
  try {
    body();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

constexpr std::int64_t kHuge = std::int64_t{1} << 62;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(ElementCount, Products) {
  EXPECT_EQ(element_count(Shape{}), 1);
  EXPECT_EQ(element_count(Shape{2, 3, 4}), 24);
  EXPECT_EQ(element_count(Shape{2, 0, 4}), 0);
  EXPECT_EQ(element_count(Shape{0, 0}), 0);
  EXPECT_EQ(element_count(Shape{kHuge}), kHuge);
}

TEST(ElementCount, NegativeAxesAndOverflowsAreErrors) {
  EXPECT_THAT(message([] { element_count(Shape{3, -1}); }), HasSubstr("[3,-1]"));
  EXPECT_THAT(message([] { element_count(Shape{0, -1}); }), HasSubstr("negative"));
  EXPECT_THAT(message([] { element_count(Shape{kHuge, 2}); }), HasSubstr("64 bits"));
  // A zero does not hide an overflow, wherever it stands.
  for (const Shape& shape : {Shape{0, kHuge, 4}, Shape{kHuge, 0, 4}, Shape{kHuge, 4, 0}})
    EXPECT_THAT(message([&] { element_count(shape); }), HasSubstr("64 bits")) << to_string(shape);
}

TEST(Tensor, SizesThatCannotBeAreErrors) {
  message([] { Tensor(DataType::kFloat32, {kHuge}); });            // the bytes overflow
  message([] { Tensor(DataType::kInt8, {kHuge}); });               // no such memory
  message([] { Tensor::zeros(DataType::kFloat64, {-4}); });
}

TEST(Tensor, TooFewValuesAreAnError) {
  EXPECT_THROW(Tensor::from<float>({2, 2}, {1.0F, 2.0F, 3.0F}), Error);
  EXPECT_EQ(Tensor::from<float>({2}, {1.0F, 2.0F}).data<float>()[1], 2.0F);
}

TEST(Tensor, StorageIsAligned) {
  for (const std::int64_t n : {0, 1, 3, 64, 65, 1000}) {
    const Tensor t(DataType::kInt8, {n});
    ASSERT_NE(t.bytes(), nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.bytes()) % 64, 0U) << n;
    EXPECT_EQ(t.size_bytes(), static_cast<std::size_t>(n));
  }
}

TEST(Tensor, ADefaultOneIsUndefined) {
  Tensor t;
  EXPECT_FALSE(t.defined());
  EXPECT_EQ(t.size_bytes(), 0U);
  EXPECT_EQ(t.mutable_bytes(), nullptr);
  EXPECT_TRUE(bit_equal(t, Tensor()));
  EXPECT_FALSE(bit_equal(t, Tensor::scalar(1.0F)));
}

TEST(Tensor, CopiesShareUntilOneIsWritten) {
  Tensor a = Tensor::from<float>({2, 2}, {1, 2, 3, 4});
  Tensor b = a;
  const Tensor c = a.reshaped({4});
  EXPECT_EQ(a.bytes(), b.bytes());
  EXPECT_EQ(a.bytes(), c.bytes());
  b.mutable_data<float>()[0] = 9;
  EXPECT_NE(a.bytes(), b.bytes());
  EXPECT_THAT(a.data<float>(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(b.data<float>(), ElementsAre(9, 2, 3, 4));
  a.mutable_data<float>()[3] = 7;
  EXPECT_THAT(c.data<float>(), ElementsAre(1, 2, 3, 4));
  // Alone again: written in place.
  const std::byte* before = b.bytes();
  b.mutable_data<float>()[1] = 8;
  EXPECT_EQ(b.bytes(), before);
}

TEST(Tensor, Reshaped) {
  const Tensor t = Tensor::from<std::int32_t>({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor r = t.reshaped({3, 1, 2});
  EXPECT_THAT(r.shape(), ElementsAre(3, 1, 2));
  EXPECT_THAT(r.data<std::int32_t>(), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(Tensor::scalar(5).reshaped({1, 1}).shape(), ElementsAre(1, 1));
  EXPECT_THAT(message([&] { (void)t.reshaped({4}); }), HasSubstr("[2,3] cannot become [4]"));
  message([&] { (void)t.reshaped({-2, -3}); });
  message([&] { (void)t.reshaped({kHuge, kHuge}); });
}

TEST(Tensor, TypedAccess) {
  const Tensor f = Tensor::scalar(1.0F);
  EXPECT_THAT(message([&] { (void)f.data<std::int32_t>(); }), HasSubstr("a float32 tensor was found where int32 is needed"));
  message([&] { (void)f.data<double>(); });
  message([&] { (void)Tensor::zeros(DataType::kInt8, {1}).data<std::uint8_t>(); });
  message([&] { (void)Tensor::zeros(DataType::kUInt8, {1}).data<bool>(); });
  message([&] { (void)Tensor().data<float>(); });
  message([&] { (void)Tensor::zeros(DataType::kInt16, {1}).mutable_data<std::uint16_t>(); });
  // What may be read through another type.
  EXPECT_NO_THROW((void)Tensor::zeros(DataType::kInt4, {1}).data<std::int8_t>());
  EXPECT_NO_THROW((void)Tensor::zeros(DataType::kUInt4, {1}).data<std::uint8_t>());
  EXPECT_NO_THROW((void)Tensor::zeros(DataType::kBool, {1}).data<std::uint8_t>());
  EXPECT_NO_THROW((void)Tensor::zeros(DataType::kFloat16, {1}).data<std::uint16_t>());
  EXPECT_NO_THROW((void)Tensor::zeros(DataType::kBFloat16, {1}).data<std::uint16_t>());
}

TEST(Tensor, BitEqual) {
  EXPECT_TRUE(bit_equal(Tensor::from<float>({1}, {kNan}), Tensor::from<float>({1}, {kNan})));
  EXPECT_FALSE(bit_equal(Tensor::from<float>({1}, {0.0F}), Tensor::from<float>({1}, {-0.0F})));
  EXPECT_FALSE(bit_equal(Tensor::from<float>({1}, {1}), Tensor::from<float>({1, 1}, {1})));
  EXPECT_FALSE(bit_equal(Tensor::from<std::int8_t>({1}, {1}), Tensor::from<std::uint8_t>({1}, {1})));
  EXPECT_TRUE(bit_equal(Tensor(DataType::kFloat32, {0, 2}), Tensor(DataType::kFloat32, {0, 2})));
}

template <typename To>
void expect_limits(DataType type) {
  const Tensor source = Tensor::from<float>({7}, {kInf, -kInf, 1e30F, -1e30F, kNan, 2.9F, -0.9F});
  const Tensor result = cast(source, type);
  const To hi = std::numeric_limits<To>::max(), lo = std::numeric_limits<To>::min();
  EXPECT_THAT(result.data<To>(), ElementsAre(hi, lo, hi, lo, To{0}, To{2}, To{0})) << to_string(type);
  EXPECT_THAT(cast(cast(source, DataType::kFloat64), type).data<To>(), ElementsAre(hi, lo, hi, lo, To{0}, To{2}, To{0})) << to_string(type);
}

TEST(Cast, FloatsSaturateTruncateAndNanIsZero) {
  expect_limits<std::int8_t>(DataType::kInt8);
  expect_limits<std::uint8_t>(DataType::kUInt8);
  expect_limits<std::int16_t>(DataType::kInt16);
  expect_limits<std::uint16_t>(DataType::kUInt16);
  expect_limits<std::int32_t>(DataType::kInt32);
  expect_limits<std::uint32_t>(DataType::kUInt32);
  expect_limits<std::int64_t>(DataType::kInt64);
  expect_limits<std::uint64_t>(DataType::kUInt64);
}

// The limits of the wide integers are no floats: the nearest ones stand just inside and just outside.
TEST(Cast, AtTheEdgesOfInt32) {
  const Tensor t = Tensor::from<float>({4}, {2147483520.0F, 2147483648.0F, -2147483648.0F, -2147483904.0F});
  EXPECT_THAT(cast(t, DataType::kInt32).data<std::int32_t>(), ElementsAre(2147483520, 2147483647, -2147483647 - 1, -2147483647 - 1));
  EXPECT_THAT(cast(Tensor::from<double>({2}, {127.99, -128.99}), DataType::kInt8).data<std::int8_t>(), ElementsAre(127, -128));
}

TEST(Cast, IntegersKeepTheirLowBits) {
  const Tensor t = Tensor::from<std::int32_t>({4}, {200, -1, 256, 300});
  EXPECT_THAT(cast(t, DataType::kInt8).data<std::int8_t>(), ElementsAre(-56, -1, 0, 44));
  EXPECT_THAT(cast(t, DataType::kUInt8).data<std::uint8_t>(), ElementsAre(200, 255, 0, 44));
  EXPECT_THAT(cast(t, DataType::kInt4).data<std::int8_t>(), ElementsAre(-8, -1, 0, -4));
  EXPECT_THAT(cast(t, DataType::kUInt4).data<std::uint8_t>(), ElementsAre(8, 15, 0, 12));
}

TEST(Cast, FloatsSaturateToFourBits) {
  const Tensor t = Tensor::from<float>({8}, {7.9F, 8, -8.5F, -9, 200, -200, kNan, 15.5F});
  EXPECT_THAT(cast(t, DataType::kInt4).data<std::int8_t>(), ElementsAre(7, 7, -8, -8, 7, -8, 0, 7));
  EXPECT_THAT(cast(t, DataType::kUInt4).data<std::uint8_t>(), ElementsAre(7, 8, 0, 0, 15, 0, 0, 15));
  EXPECT_THAT(cast(cast(t, DataType::kFloat16), DataType::kInt4).data<std::int8_t>(), ElementsAre(7, 7, -8, -8, 7, -8, 0, 7));
}

TEST(Cast, Bools) {
  const Tensor t = Tensor::from<float>({5}, {0, -0.0F, 0.25F, -3, kNan});
  EXPECT_THAT(cast(t, DataType::kBool).data<std::uint8_t>(), ElementsAre(0, 0, 1, 1, 1));
  EXPECT_THAT(cast(Tensor::from<std::int32_t>({3}, {0, 256, -1}), DataType::kBool).data<std::uint8_t>(), ElementsAre(0, 1, 1));
  EXPECT_THAT(cast(cast(t, DataType::kBool), DataType::kFloat32).data<float>(), ElementsAre(0, 0, 1, 1, 1));
  EXPECT_THAT(cast(cast(t, DataType::kBFloat16), DataType::kBool).data<std::uint8_t>(), ElementsAre(0, 0, 1, 1, 1));
}

TEST(Cast, TheSameTypeSharesAndTheUndefinedTypeIsRefused) {
  const Tensor t = Tensor::scalar(3.5F);
  EXPECT_EQ(cast(t, DataType::kFloat32).bytes(), t.bytes());
  message([&] { (void)cast(t, DataType::kUndefined); }, ErrorCode::kUnsupported);
  message([&] { (void)cast(Tensor(), DataType::kFloat32); }, ErrorCode::kUnsupported);
}

TEST(Cast, ListsOfNumbers) {
  EXPECT_THAT(to_doubles(Tensor::from<std::int8_t>({2}, {-3, 4})), ElementsAre(-3.0, 4.0));
  EXPECT_THAT(to_int64s(Tensor::from<float>({3}, {-2.7F, 2.7F, kNan})), ElementsAre(-2, 2, 0));
  const std::int64_t big = (std::int64_t{1} << 53) + 1;
  EXPECT_THAT(to_int64s(Tensor::scalar(big)), ElementsAre(big));
  EXPECT_TRUE(to_doubles(Tensor(DataType::kFloat16, {0})).empty());
}

TEST(DataType, NamesAndSizes) {
  EXPECT_EQ(element_size(DataType::kInt4), 1U);
  EXPECT_EQ(element_size(DataType::kUndefined), 0U);
  EXPECT_EQ(to_string(DataType::kBFloat16), "bfloat16");
  EXPECT_TRUE(is_integer(DataType::kUInt4));
  EXPECT_FALSE(is_integer(DataType::kBool));
  EXPECT_FALSE(is_integer(DataType::kFloat16));
  EXPECT_FALSE(is_integer(DataType::kUndefined));
  EXPECT_TRUE(is_float(DataType::kFloat16));
}

}  // namespace
}  // namespace nibble
