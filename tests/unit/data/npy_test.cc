#include "data/npy.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>

#include "data/draw.h"
#include "nibble/dataset.h"
#include "unit/data/test_files.h"

namespace nibble {
namespace {

using testing::npy_with_header;
using testing::TempDir;

std::string header(const std::string& descr, const std::string& shape, const char* fortran = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }";
}

TEST(Npy, EveryTypeSurvivesWritingAndReading) {
  const TempDir dir;
  const DataType types[] = {DataType::kFloat32, DataType::kFloat64, DataType::kFloat16, DataType::kInt8,
                            DataType::kUInt8,   DataType::kInt16,   DataType::kUInt16,  DataType::kInt32,
                            DataType::kUInt32,  DataType::kInt64,   DataType::kUInt64,  DataType::kBool};
  const Shape shapes[] = {{}, {0}, {1}, {5}, {2, 3}, {2, 0, 4}, {1, 2, 3, 4, 5}};
  SplitMix64 random(11);
  for (const DataType type : types) {
    for (const Shape& shape : shapes) {
      Tensor tensor(type, shape);
      for (std::size_t i = 0; i < tensor.size_bytes(); ++i)
        tensor.mutable_bytes()[i] = static_cast<std::byte>(random.below(type == DataType::kBool ? 2 : 256));
      write_npy(dir / "a.npy", tensor);
      EXPECT_TRUE(bit_equal(read_npy(dir / "a.npy"), tensor)) << to_string(type) << to_string(shape);
    }
  }
}

TEST(Npy, NarrowTypesAreWrittenAsTheNextThatNumPyHas) {
  EXPECT_TRUE(bit_equal(parse_npy(npy_bytes(cast(Tensor::from<float>({2}, {-8, 7}), DataType::kInt4)), "a"),
                        Tensor::from<std::int8_t>({2}, {-8, 7})));
  EXPECT_TRUE(bit_equal(parse_npy(npy_bytes(cast(Tensor::from<float>({2}, {0, 15}), DataType::kUInt4)), "a"),
                        Tensor::from<std::uint8_t>({2}, {0, 15})));
  EXPECT_TRUE(bit_equal(parse_npy(npy_bytes(cast(Tensor::from<float>({2}, {0.5F, 2}), DataType::kBFloat16)), "a"),
                        Tensor::from<float>({2}, {0.5F, 2})));
  EXPECT_THROW(npy_bytes(Tensor()), Error);
}

TEST(Npy, TheHeaderIsAlignedAndEndsWithANewline) {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{1234567, 0}, Shape{1, 1, 1, 1, 1, 1, 1, 1, 1, 0}}) {
    const std::string bytes = npy_bytes(Tensor(DataType::kInt8, shape));
    const std::size_t data = bytes.size() - static_cast<std::size_t>(element_count(shape));
    EXPECT_EQ(data % 64, 0U);
    EXPECT_EQ(bytes[data - 1], '\n');
  }
}

TEST(Npy, FortranOrderIsTurned) {
  // A[i][j] = 10 i + j, columns first.
  const std::string columns("\x00\x0A\x01\x0B\x02\x0C", 6);
  EXPECT_TRUE(bit_equal(parse_npy(npy_with_header(header("|u1", "(2, 3)", "True"), columns), "a"),
                        Tensor::from<std::uint8_t>({2, 3}, {0, 1, 2, 10, 11, 12})));
  // Three axes: element (i, j, k) lies at i + 2 j + 6 k.
  std::string data;
  for (int n = 0; n < 12; ++n) data += static_cast<char>(n);
  const Tensor tensor = parse_npy(npy_with_header(header("|i1", "(2, 3, 2)", "True"), data), "a");
  const auto values = tensor.data<std::int8_t>();
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 2; ++k) EXPECT_EQ(values[static_cast<std::size_t>((i * 3 + j) * 2 + k)], i + 2 * j + 6 * k);
    }
  }
  EXPECT_EQ(parse_npy(npy_with_header(header("|i1", "(3,)", "True"), "abc"), "a").shape(), Shape{3});
  EXPECT_EQ(parse_npy(npy_with_header(header("|i1", "(0, 3)", "True"), ""), "a").shape(), (Shape{0, 3}));
}

TEST(Npy, BigEndianIsTurned) {
  EXPECT_TRUE(bit_equal(parse_npy(npy_with_header(header(">i4", "(2,)"), std::string("\x01\x02\x03\x04\xFF\xFF\xFF\xFE", 8)), "a"),
                        Tensor::from<std::int32_t>({2}, {0x01020304, -2})));
  EXPECT_TRUE(bit_equal(parse_npy(npy_with_header(header(">f8", "()"), std::string("\x3F\xF8\0\0\0\0\0\0", 8)), "a"), Tensor::scalar(1.5)));
  EXPECT_TRUE(bit_equal(parse_npy(npy_with_header(header(">f2", "(1,)"), std::string("\x3C\x00", 2)), "a"),
                        cast(Tensor::from<float>({1}, {1.0F}), DataType::kFloat16)));
}

TEST(Npy, BoolsBecomeZeroAndOne) {
  const Tensor tensor = parse_npy(npy_with_header(header("|b1", "(3,)"), std::string("\x00\x01\x07", 3)), "a");
  EXPECT_EQ(tensor.type(), DataType::kBool);
  EXPECT_EQ(to_int64s(tensor), (std::vector<std::int64_t>{0, 1, 1}));
}

TEST(Npy, HeadersOfEveryWriterAreRead) {
  const std::string data(6, 'x');
  for (const char* text :
       {"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }", "{\"shape\":(2,3),\"descr\":\"|u1\",\"fortran_order\":False}",
        "  {'descr': '<u1', 'fortran_order': False, 'shape': (2L, 3L)}   ", "{'descr':'=u1','fortran_order':False,'shape':(2,3,),}"})
    EXPECT_EQ(parse_npy(npy_with_header(text, data), "a").shape(), (Shape{2, 3})) << text;
  // Format 2 has four bytes of header length.
  const std::string text = header("|u1", "(6,)");
  std::string bytes("\x93NUMPY\x02\x00", 8);
  bytes += static_cast<char>(text.size());
  bytes += std::string(3, '\0') + text + data;
  EXPECT_EQ(parse_npy(bytes, "a").shape(), Shape{6});
}

TEST(Npy, WritingReplacesAFileWholeOrNotAtAll) {
  const TempDir dir;
  write_npy(dir / "a.npy", Tensor::scalar(1.0F));
  write_npy(dir / "a.npy", Tensor::scalar(2.0F));
  EXPECT_TRUE(bit_equal(read_npy(dir / "a.npy"), Tensor::scalar(2.0F)));
  testing::error_of(ErrorCode::kIo, [&] { write_npy(dir / "none/a.npy", Tensor::scalar(1.0F)); });
  testing::error_of(ErrorCode::kInvalidArgument, [&] { write_npy(dir.path(), Tensor::scalar(1.0F)); });
}

TEST(Npz, StoredAndDeflatedArraysAreRead) {
  const TempDir dir;
  const Tensor a = Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  Tensor b = Tensor::zeros(DataType::kInt64, {100, 100});
  b.mutable_data<std::int64_t>()[77] = -5;
  const auto arrays = read_npz(dir.write("a.npz", testing::zip_bytes({{"x.npy", npy_bytes(a), false}, {"dir/y.npy", npy_bytes(b), true}})));
  ASSERT_EQ(arrays.size(), 2U);
  EXPECT_EQ(arrays[0].first, "x");
  EXPECT_TRUE(bit_equal(arrays[0].second, a));
  EXPECT_EQ(arrays[1].first, "dir/y");
  EXPECT_TRUE(bit_equal(arrays[1].second, b));
}

TEST(Npz, ArchivesOfNumPyAreRead) {
  if (std::system("/usr/bin/python3 -c 'import numpy' >/dev/null 2>&1") != 0) GTEST_SKIP() << "skipped: /usr/bin/python3 has no NumPy";
  const TempDir dir;
  const std::string script = dir.write("make.py", R"(
import sys, numpy
d = sys.argv[1]
x = numpy.arange(24, dtype='f4').reshape(2, 3, 4)
numpy.savez(d + '/plain.npz', x=x, y=numpy.asfortranarray(x.astype('>i2')), s=numpy.float64(3))
numpy.savez_compressed(d + '/packed.npz', x=x, y=numpy.asfortranarray(x.astype('>i2')), s=numpy.float64(3))
)");
  ASSERT_EQ(std::system(("/usr/bin/python3 " + script + " " + dir.path()).c_str()), 0);
  for (const char* name : {"plain.npz", "packed.npz"}) {
    const auto arrays = read_npz(dir / name);
    ASSERT_EQ(arrays.size(), 3U) << name;
    for (const auto& [key, values] : arrays) {
      if (key == "s") {
        EXPECT_TRUE(bit_equal(values, Tensor::scalar(3.0)));
        continue;
      }
      EXPECT_EQ(values.type(), key == "x" ? DataType::kFloat32 : DataType::kInt16);
      const auto numbers = to_doubles(values);
      for (std::size_t i = 0; i < 24; ++i) EXPECT_EQ(numbers.at(i), static_cast<double>(i)) << name << key;
    }
  }
}

}  // namespace
}  // namespace nibble
