// .npz and .npy whose first axis counts samples; conversion to the inputs' types.
#include <gtest/gtest.h>

#include "data/fit.h"
#include "data/npy.h"
#include "nibble/dataset.h"
#include "unit/data/test_files.h"

namespace nibble {
namespace {

using testing::TempDir;
using testing::ZipItem;

InputSpec spec(const std::string& name, DataType type, const Shape& shape, bool symbolic_batch = true) {
  InputSpec result{name, make_type(type, shape)};
  if (symbolic_batch) result.type.dims[0] = {-1, "N"};
  return result;
}

TEST(Arrays, SeveralInputsByName) {
  const TempDir dir;
  const std::string path =
      dir.write("a.npz", testing::zip_bytes({ZipItem{"b.npy", npy_bytes(Tensor::from<std::int64_t>({3}, {7, 8, 9}))},
                                             ZipItem{"extra.npy", npy_bytes(Tensor::scalar(1.0F))},
                                             ZipItem{"a.npy", npy_bytes(Tensor::from<float>({3, 2}, {1, 2, 3, 4, 5, 6})), true}}));
  DatasetOptions options;
  options.inputs = {spec("a", DataType::kFloat32, {1, 2}), spec("b", DataType::kInt64, {1})};
  const auto data = open_dataset(path, options);
  ASSERT_EQ(data->size(), 3);
  EXPECT_FALSE(data->has_labels());
  EXPECT_NE(data->description().find("not used: 'extra'"), std::string::npos) << data->description();
  const Sample sample = data->sample(1);
  EXPECT_TRUE(bit_equal(sample.inputs.at(0), Tensor::from<float>({1, 2}, {3, 4})));
  EXPECT_TRUE(bit_equal(sample.inputs.at(1), Tensor::from<std::int64_t>({1}, {8})));
  EXPECT_EQ(sample.name, "a.npz[1]");
}

TEST(Arrays, OneArrayForOneInputNeedsNoName) {
  const TempDir dir;
  const Tensor values = Tensor::from<double>({2, 2}, {1, 2, 3, 4});
  DatasetOptions options;
  options.inputs = {spec("x", DataType::kFloat32, {1, 2})};
  for (const std::string& path :
       {dir.write("a.npz", testing::zip_bytes({ZipItem{"arr_0.npy", npy_bytes(values)}})), dir.write("a.npy", npy_bytes(values))}) {
    const auto data = open_dataset(path, options);
    ASSERT_EQ(data->size(), 2);
    EXPECT_TRUE(bit_equal(data->sample(1).inputs.at(0), Tensor::from<float>({1, 2}, {3, 4})));
  }
}

TEST(Arrays, LabelsInTheArchive) {
  const TempDir dir;
  const auto make = [&](const Tensor& labels) {
    return dir.write("a.npz", testing::zip_bytes({ZipItem{"x.npy", npy_bytes(Tensor::from<float>({2, 1}, {1, 2}))},
                                                  ZipItem{"labels.npy", npy_bytes(labels)}}));
  };
  DatasetOptions options;
  options.inputs = {spec("x", DataType::kFloat32, {1, 1})};
  const auto data = open_dataset(make(Tensor::from<std::uint8_t>({2}, {5, 3})), options);
  EXPECT_TRUE(data->has_labels());
  EXPECT_EQ(data->sample(1).label, 3);
  testing::error_of(ErrorCode::kInvalidData, [&] { open_dataset(make(Tensor::from<float>({2}, {5, 3})), options); });
  testing::error_of(ErrorCode::kInvalidData, [&] { open_dataset(make(Tensor::from<std::int32_t>({3}, {5, 3, 1})), options); });
  testing::error_of(ErrorCode::kInvalidData, [&] { open_dataset(make(Tensor::from<std::int32_t>({2}, {5, -3})), options); });
}

TEST(Arrays, AFixedBatchTakesSoManyRows) {
  const TempDir dir;
  const std::string path = dir.write("a.npy", npy_bytes(Tensor::from<float>({4, 1}, {1, 2, 3, 4})));
  DatasetOptions options;
  options.inputs = {spec("x", DataType::kFloat32, {2, 1}, false)};
  const auto data = open_dataset(path, options);
  ASSERT_EQ(data->size(), 2);
  EXPECT_TRUE(bit_equal(data->sample(1).inputs.at(0), Tensor::from<float>({2, 1}, {3, 4})));
  options.inputs = {spec("x", DataType::kFloat32, {3, 1}, false)};
  testing::error_of(ErrorCode::kInvalidData, [&] { open_dataset(path, options); });
}

TEST(Arrays, ErrorsNameArrayFoundAndExpected) {
  const TempDir dir;
  const std::string path = dir.write("a.npz", testing::zip_bytes({ZipItem{"x.npy", npy_bytes(Tensor::zeros(DataType::kFloat32, {3, 2}))},
                                                                  ZipItem{"y.npy", npy_bytes(Tensor::zeros(DataType::kFloat32, {2, 2}))}}));
  DatasetOptions options;
  options.inputs = {spec("x", DataType::kFloat32, {1, 2}), spec("z", DataType::kFloat32, {1, 2})};
  std::string message = testing::error_of(ErrorCode::kInvalidData, [&] { open_dataset(path, options); });
  EXPECT_NE(message.find("no array for the network's input 'z'; found 'x', 'y'"), std::string::npos) << message;
  options.inputs[1].name = "y";
  message = testing::error_of(ErrorCode::kInvalidData, [&] { open_dataset(path, options); });
  EXPECT_NE(message.find("has 2 samples"), std::string::npos) << message;
  options.inputs = {spec("x", DataType::kFloat32, {1, 5})};
  message = testing::error_of(ErrorCode::kInvalidData, [&] { open_dataset(path, options); });
  EXPECT_NE(message.find("[3,2]"), std::string::npos) << message;
  EXPECT_NE(message.find("float32[N,5]"), std::string::npos) << message;
}

TEST(FitInput, AddsTheBatchAxisAndNothingElse) {
  const InputSpec input = spec("mfcc", DataType::kFloat32, {1, 98, 40});
  EXPECT_EQ(fit_input(Tensor::zeros(DataType::kFloat32, {98, 40}), input, ValueKind::kArray, "f").shape(), (Shape{1, 98, 40}));
  EXPECT_EQ(fit_input(Tensor::zeros(DataType::kFloat32, {5, 98, 40}), input, ValueKind::kArray, "f").shape(), (Shape{5, 98, 40}));
  for (const Shape& shape : {Shape{40, 98}, Shape{98, 40, 1}, Shape{98}, Shape{1, 1, 98, 40}, Shape{}, Shape{3920}}) {
    const std::string message = testing::error_of(
        ErrorCode::kInvalidData, [&] { fit_input(Tensor::zeros(DataType::kFloat32, shape), input, ValueKind::kArray, "x.npy"); });
    EXPECT_EQ(message, "x.npy: the array is " + to_string(shape) + ", but the network's input 'mfcc' takes float32[N,98,40]");
  }
}

TEST(FitInput, OneGrayPlaneMayLoseOrGainAxesOfSizeOne) {
  const Tensor image = Tensor::zeros(DataType::kFloat32, {1, 1, 4, 6});
  for (const Shape& shape : {Shape{1, 24}, Shape{1, 4, 6}, Shape{1, 4, 6, 1}, Shape{1, 1, 4, 6}})
    EXPECT_EQ(fit_input(image, spec("x", DataType::kFloat32, shape), ValueKind::kImage, "f").shape(), shape);
  for (const Shape& shape : {Shape{1, 25}, Shape{1, 6, 4}, Shape{1, 2, 12}, Shape{1, 3, 4, 6}})
    EXPECT_THROW(fit_input(image, spec("x", DataType::kFloat32, shape), ValueKind::kImage, "f"), Error) << to_string(shape);
}

TEST(FitInput, ElementsMustSurviveTheConversion) {
  const auto convert = [](const Tensor& tensor, DataType type) { return convert_elements(tensor, type, ValueKind::kArray, "x.npy"); };
  EXPECT_TRUE(bit_equal(convert(Tensor::from<double>({2}, {-3, 250}), DataType::kInt64), Tensor::from<std::int64_t>({2}, {-3, 250})));
  EXPECT_TRUE(bit_equal(convert(Tensor::from<std::int64_t>({2}, {0, 255}), DataType::kUInt8), Tensor::from<std::uint8_t>({2}, {0, 255})));
  EXPECT_TRUE(bit_equal(convert(Tensor::from<std::uint8_t>({2}, {0, 255}), DataType::kFloat32), Tensor::from<float>({2}, {0, 255})));
  EXPECT_TRUE(bit_equal(convert(Tensor::from<bool>({2}, {false, true}), DataType::kInt32), Tensor::from<std::int32_t>({2}, {0, 1})));
  EXPECT_TRUE(bit_equal(convert(Tensor::from<float>({1}, {-128}), DataType::kInt8), Tensor::from<std::int8_t>({1}, {-128})));
  EXPECT_TRUE(
      bit_equal(convert(cast(Tensor::from<float>({1}, {3}), DataType::kFloat16), DataType::kUInt8), Tensor::from<std::uint8_t>({1}, {3})));
  EXPECT_THROW(convert(Tensor::from<double>({1}, {0.5}), DataType::kInt64), Error);
  EXPECT_THROW(convert(Tensor::from<float>({1}, {256}), DataType::kUInt8), Error);
  EXPECT_THROW(convert(Tensor::from<float>({1}, {-1}), DataType::kUInt8), Error);
  EXPECT_THROW(convert(Tensor::from<float>({1}, {-129}), DataType::kInt8), Error);
  EXPECT_THROW(convert(Tensor::from<double>({1}, {0x1p63}), DataType::kInt64), Error);
  EXPECT_THROW(convert(Tensor::from<float>({1}, {std::numeric_limits<float>::quiet_NaN()}), DataType::kInt8), Error);
  EXPECT_THROW(convert(Tensor::from<std::int64_t>({1}, {-1}), DataType::kUInt64), Error);
  EXPECT_THROW(convert(Tensor::from<std::uint64_t>({1}, {std::uint64_t{1} << 63}), DataType::kInt64), Error);
  // Pixels are rounded instead.
  EXPECT_TRUE(bit_equal(convert_elements(Tensor::from<float>({2}, {113.6F, 0.4F}), DataType::kUInt8, ValueKind::kImage, "x"),
                        Tensor::from<std::uint8_t>({2}, {114, 0})));
}

}  // namespace
}  // namespace nibble
