#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "model_builder.h"

namespace nibble {
namespace {

using test::add_initializer;
using test::add_output;
using test::empty_model;
using test::expect_error;
using test::TemporaryFolder;
using test::write_bytes;

using Entries = std::vector<std::pair<std::string, std::string>>;

void write_model(const std::string& path, const Entries& entries, int type = 1, const std::vector<std::int64_t>& dims = {3}) {
  auto model = empty_model(21, 10);
  auto& tensor = add_initializer(model, "w", type, dims);
  tensor.set_data_location(onnx::TensorProto::EXTERNAL);
  for (const auto& [key, value] : entries) {
    auto& entry = *tensor.add_external_data();
    entry.set_key(key);
    entry.set_value(value);
  }
  add_output(model, "w", dims, type);
  write_bytes(path, model.SerializeAsString());
}

const std::string kFloats = [] {
  const float values[] = {9.0F, 1.0F, 2.0F, 3.0F};
  return std::string(reinterpret_cast<const char*>(values), sizeof values);
}();

TEST(ExternalData, ReadsWithOffsetAndLengthFromASubfolder) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "sub");
  write_bytes(folder / "sub/w.bin", kFloats);
  for (const Entries& entries : {Entries{{"location", "sub/w.bin"}, {"offset", "4"}, {"length", "12"}},
                                 Entries{{"location", "./sub//w.bin"}, {"offset", "4"}, {"checksum", "ignored"}}}) {
    write_model(folder / "m.onnx", entries);
    const Graph graph = import_onnx(folder / "m.onnx");
    EXPECT_EQ(to_doubles(*graph.value(graph.outputs()[0]).constant), (std::vector<double>{1, 2, 3}));
  }
}

TEST(ExternalData, ReadsPackedFourBitElements) {
  const TemporaryFolder folder;
  write_bytes(folder / "w.bin", "\x78\x0F");
  write_model(folder / "m.onnx", {{"location", "w.bin"}}, 22);
  const Graph graph = import_onnx(folder / "m.onnx");
  EXPECT_EQ(to_doubles(*graph.value(graph.outputs()[0]).constant), (std::vector<double>{-8, 7, -1}));
}

TEST(ExternalData, RefusesEveryWayOutOfTheFolder) {
  const TemporaryFolder outer;
  std::filesystem::create_directories(outer / "model/sub");
  write_bytes(outer / "secret.bin", kFloats);
  write_bytes(outer / "model/w.bin", kFloats);
  std::filesystem::create_symlink("../secret.bin", outer / "model/link.bin");
  std::filesystem::create_symlink("w.bin", outer / "model/inner_link.bin");
  std::filesystem::create_symlink("..", outer / "model/up");
  ::mkfifo((outer / "model/pipe").c_str(), 0600);
  const std::string path = outer / "model/m.onnx";
  const std::string absolute = outer / "secret.bin";
  const auto refused = [&](const std::string& location, const char* why) {
    SCOPED_TRACE(location);
    write_model(path, {{"location", location}, {"offset", "4"}});
    expect_error(ErrorCode::kInvalidModel, {"m.onnx", "'w'", why}, [&] { import_onnx(path); });
  };
  refused(absolute, "absolute");
  refused("../secret.bin", "'..'");
  refused("sub/../../secret.bin", "'..'");
  refused("sub/../w.bin", "'..'");
  refused("link.bin", "symbolic link");
  refused("inner_link.bin", "symbolic link");
  refused("up/secret.bin", "symbolic link");
  refused("sub", "regular file");
  refused("pipe", "regular file");
  refused(".", "folder");
  refused("", "no name");
  refused(std::string("w.bin\0x", 7), "zero byte");
}

TEST(ExternalData, RefusesRangesOutsideOfTheFile) {
  const TemporaryFolder folder;
  write_bytes(folder / "w.bin", kFloats);
  const auto refused = [&](const Entries& extra, const char* why) {
    Entries entries{{"location", "w.bin"}};
    entries.insert(entries.end(), extra.begin(), extra.end());
    write_model(folder / "m.onnx", entries);
    expect_error(ErrorCode::kInvalidModel, {"m.onnx", "'w'", why}, [&] { import_onnx(folder / "m.onnx"); });
  };
  refused({{"offset", "8"}}, "outside of the file");
  refused({{"offset", "9223372036854775807"}}, "outside of the file");
  refused({{"offset", "99999999999999999999"}}, "no size");
  refused({{"offset", "-4"}}, "no size");
  refused({{"offset", "4x"}}, "no size");
  refused({{"length", "16"}}, "needs 12");
  write_model(folder / "m.onnx", {{"location", "w.bin"}}, 1, {1 << 30, 1 << 20});
  expect_error(ErrorCode::kInvalidModel, {"outside of the file"}, [&] { import_onnx(folder / "m.onnx"); });
}

TEST(ExternalData, NamesAMissingFile) {
  const TemporaryFolder folder;
  write_model(folder / "m.onnx", {{"location", "gone.bin"}});
  expect_error(ErrorCode::kNotFound, {"m.onnx", "'w'", "gone.bin"}, [&] { import_onnx(folder / "m.onnx"); });
}

}  // namespace
}  // namespace nibble
