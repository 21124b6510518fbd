// Files are whole or not there; sizes do not wrap around.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <limits>

#include "base/aligned_buffer.h"
#include "base/atomic_file.h"
#include "base/checked.h"
#include "nibble/error.h"

namespace nibble {
namespace {

namespace fs = std::filesystem;

class Files : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("nibble_files_" + std::to_string(::getpid()) + testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::size_t count() const { return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator())); }
  fs::path folder_;
};

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(Files, WriteReadReplace) {
  write_file(path("a"), "one");
  EXPECT_EQ(read_file(path("a"), "the file"), "one");
  write_file(path("a"), std::string("two\0three", 9));
  EXPECT_EQ(read_file(path("a"), "the file"), std::string("two\0three", 9));
  EXPECT_EQ(count(), 1U) << "no temporary file is left";
}

TEST_F(Files, RefusesWhatIsNoRegularFile) {
  fs::create_directory(path("folder"));
  EXPECT_NE(error_of([&] { write_file(path("folder"), "x"); }).find("not a regular file"), std::string::npos);
  write_file(path("target"), "old");
  fs::create_symlink(path("target"), path("link"));
  EXPECT_NE(error_of([&] { write_file(path("link"), "x"); }).find("not a regular file"), std::string::npos);
  EXPECT_EQ(read_file(path("target"), "the file"), "old");
}

TEST_F(Files, MissingFolderAndFile) {
  EXPECT_NE(error_of([&] { write_file(path("no/where"), "x"); }).find("cannot be written"), std::string::npos);
  EXPECT_NE(error_of([&] { read_file(path("nothing"), "the model"); }).find("the model cannot be opened"), std::string::npos);
  EXPECT_NE(error_of([&] { read_file(folder_.string(), "the model"); }).find("is a folder"), std::string::npos);
}

TEST_F(Files, AFailureLeavesTheOldFile) {
  write_file(path("a"), "old");
  // No file may grow beyond 4 bytes: as on a full disk, the write fails.
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = old;
  small.rlim_cur = 4;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = error_of([&] { write_file(path("a"), std::string(100, 'x')); });
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find("nothing was changed"), std::string::npos) << message;
  EXPECT_EQ(read_file(path("a"), "the file"), "old");
  EXPECT_EQ(count(), 1U);
}

TEST(Checked, OverflowIsAnAnswer) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(checked_mul(3, 4), 12);
  EXPECT_EQ(checked_mul(kMax, 2), std::nullopt);
  EXPECT_EQ(checked_mul(std::numeric_limits<std::int64_t>::min(), -1), std::nullopt);
  EXPECT_EQ(checked_add(kMax, 1), std::nullopt);
  EXPECT_EQ(checked_add(kMax, -1), kMax - 1);
}

TEST(AlignedBuffer, AlignedAndNeverNull) {
  for (const std::int64_t size : {0, 1, 63, 64, 65, 4097}) {
    const auto buffer = allocate_aligned(size);
    ASSERT_NE(buffer, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.get()) % kBufferAlignment, 0U);
  }
  EXPECT_THROW(allocate_aligned(-1), Error);
  EXPECT_THROW(allocate_aligned(std::numeric_limits<std::int64_t>::max()), Error);
}

}  // namespace
}  // namespace nibble
